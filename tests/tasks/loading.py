"""Loads a file of problems with small defaults."""

from rlstep.tasks.jsonl import Jsonl
from rlstep.tensors.templates import PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer

PLAIN = PromptTemplate(chat=False)


def load(path, make=byte_level_tokenizer, longest=64, **fields):
    return Jsonl(path=path, **fields).load(make(), longest)
