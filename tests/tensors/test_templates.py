"""System prompts that a chat template does not show."""

from copy import deepcopy

import pytest

from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer

DROPS = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}hi"
STRIPS = "{% for m in messages %}{{ m.content | trim }}{% endfor %}"


def encoder(chat_template, **fields):
    tokenizer = deepcopy(byte_level_tokenizer())  # which others share
    tokenizer.chat_template = chat_template
    return PromptEncoder(PromptTemplate(**fields), tokenizer)


def test_a_system_prompt_that_the_template_drops_is_refused():
    with pytest.raises(ValueError, match=r"template.system .* is 'Be brief.', which the tokenizer"):
        encoder(DROPS, system="Be brief.").problem("1+1")
    conversation = [{"role": "system", "content": "Be"}, {"role": "user", "content": "1"}]
    with pytest.raises(ValueError, match=r"put it into template.text"):
        encoder(DROPS).conversation(conversation)
    assert encoder(DROPS).problem("1+1")


def test_a_template_that_refuses_system_prompts_is_named():
    with pytest.raises(ValueError, match=r"refuses a conversation of \['system', 'user'\]: no sys"):
        encoder(REFUSES, system="Be brief.").problem("1+1")


def test_white_space_that_a_template_strips_is_no_loss():
    assert encoder(STRIPS, system=" Be brief.\n").problem("1+1")
