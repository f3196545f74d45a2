"""System prompts that a chat template does not show."""

import json
from copy import deepcopy

import pytest

from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.tools.calculator import Calculator
from rlstep.tools.python import Python
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


TOLD = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


def test_a_chat_template_tells_of_tools():
    told = encoder(TOLD, tools=(Calculator(), Python()))
    text = told.decode(told.problem("1+1"))
    *tools, problem = text.split("\n")
    assert problem == "1+1" and [json.loads(tool) for tool in tools] == [
        Calculator().schema(),
        Python().schema(),
    ]
    assert encoder(TOLD).decode(encoder(TOLD).problem("1+1")) == "1+1"


def test_tools_that_nobody_is_told_of_are_refused():
    for template in (STRIPS, None):
        with pytest.raises(ValueError, match=r"template\.tools is \['calculator'\].*system"):
            encoder(template, tools=(Calculator(),))
    with pytest.raises(ValueError, match=r"arguments has 'tools', which is not free"):
        PromptTemplate(arguments={"tools": "x"})
