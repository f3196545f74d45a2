"""What a chat template is called with beside the messages."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from tests.real_tokenizers import CHAT_TEMPLATE, byte_level_tokenizer, sentencepiece_tokenizer

THINKING = (
    CHAT_TEMPLATE.replace("{% endif %}", "")
    + "{% if enable_thinking is defined and not enable_thinking %}no thoughts\n{% endif %}"
    "{% if effort %}[{{ effort }}]{% endif %}{# commented #}{{ 'quoted' and '' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = copy.deepcopy(byte_level_tokenizer())
    made.chat_template = THINKING
    return made


def prompt(tokenizer: Any, **arguments: Any) -> str:
    encoder = PromptEncoder(PromptTemplate(arguments=arguments), tokenizer)
    return encoder.decode(encoder.problem("2+3?")).partition("assistant\n")[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, ""),
        ({"enable_thinking": True}, ""),
        ({"enable_thinking": False}, "no thoughts\n"),
        ({"effort": "low"}, "[low]"),
        ({"effort": 3}, "[3]"),
        ({"effort": 0.5}, "[0.5]"),
        ({"effort": "low", "enable_thinking": False}, "no thoughts\n[low]"),
    ],
)
def test_arguments_reach_the_template(tokenizer: Any, arguments: Any, text: str) -> None:
    assert prompt(tokenizer, **arguments) == text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("enable_thinkin", r"; did you mean 'enable_thinking'\?"),
        ("thinking", ""),
        ("commented", ""),
        ("quoted", ""),
        ("thoughts", ""),
        ("xyz", ""),
    ],
)
def test_what_the_template_does_not_read_is_refused(tokenizer: Any, name: str, hint: str) -> None:
    message = rf"template\.arguments has {name!r}, which the chat template does not read{hint}"
    with pytest.raises(ValueError, match=message):
        prompt(tokenizer, **{name: False})


def test_without_a_chat_template_there_is_nothing_to_call(tokenizer: Any) -> None:
    wanted = PromptTemplate(arguments={"enable_thinking": False})
    with pytest.raises(ValueError, match="for a chat template, and the tokenizer has none"):
        PromptEncoder(wanted, sentencepiece_tokenizer())
    with pytest.raises(ValueError, match=r"for a chat template, and template\.chat is False"):
        PromptEncoder(PromptTemplate(chat=False, arguments={"effort": 1}), tokenizer)


@pytest.mark.parametrize("name", ["messages", "tokenize", "add_generation_prompt", "conversation"])
def test_what_is_not_free_to_choose(name: str) -> None:
    with pytest.raises(ValueError, match=rf"arguments has '{name}', which is not free to choose"):
        PromptTemplate(arguments={name: True})
