"""Real tokenizers without a network, from the vocabularies inside the mistral_common package."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from rlstep.tensors.tokenizers import reading_tags

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _data(name: str) -> Path:
    import mistral_common

    return Path(mistral_common.__file__).parent / "data" / name


@cache
def byte_level_tokenizer() -> Any:
    """Byte-level BPE with 20,000 real tokens ('.\\n\\n' is one), ChatML tokens and a template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    data = json.loads(_data("tekken_240718.json").read_text())
    ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in data["vocab"][:20_000]}
    spell = _byte_spelling()
    vocabulary = {"".join(spell[b] for b in token): rank for token, rank in ranks.items()}
    merges = [
        (left, right)
        for token in vocabulary
        for i in range(1, len(token))
        if (left := token[:i]) in vocabulary and (right := token[i:]) in vocabulary
    ]
    bpe = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(data["config"]["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@cache
def sentencepiece_tokenizer() -> Any:
    """SentencePiece with byte fallback, 32,000 tokens, no chat template."""
    from transformers import LlamaTokenizer

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(_data("tokenizer.model.v1"), Path(folder) / "tokenizer.model")
        return LlamaTokenizer.from_pretrained(folder)


def with_special(tokenizer: Any, *texts: str) -> Any:
    """A tokenizer with more special tokens."""
    tokenizer = copy.deepcopy(tokenizer)  # which is one for all tests
    tokenizer.add_special_tokens({"additional_special_tokens": list(texts)})
    return tokenizer


TAGS = ("<think>", "[/THINK]<|final|>")
SPECIAL = ("<think>", "[/THINK]", "<|final|>", "<|other|>")
"""Special tokens, of which all but the last are of the tags."""


@cache
def byte_level_with_tags() -> Any:
    """Reads completions whose thoughts stand in TAGS."""
    return reading_tags(with_special(byte_level_tokenizer(), *SPECIAL), TAGS)


@cache
def sentencepiece_with_tags() -> Any:
    """Reads completions whose thoughts stand in TAGS."""
    return reading_tags(with_special(sentencepiece_tokenizer(), *SPECIAL), TAGS)


def _byte_spelling() -> dict[int, str]:
    """How byte-level BPE spells bytes: printable ones as themselves, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
