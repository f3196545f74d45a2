"""Token-exactness under real chat templates: nothing is encoded again, or the template is refused.

Templates of vLLM's package are read in place; the others are written here after the published
formats of their families.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.environments.chat_turns import ChatTurns
from rlstep.environments.plain_turns import PlainTurns
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer, with_special

HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content TRIM }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
INSTRUCTIONS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
BARS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
THOUGHTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last"
    " %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n"
    "{{ m.content }}\n</tool_response>{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vllm(name: str) -> str:
    import vllm

    folder = Path(vllm.__file__).parent / "transformers_utils" / "chat_templates"
    return (folder / f"template_{name}.jinja").read_text()


EXACT: dict[str, tuple[Any, str]] = {
    "chatml of vLLM": (lambda: vllm("chatml"), "<|im_end|>"),
    "deepseek_vl2 of vLLM": (lambda: vllm("deepseek_vl2"), "</s>"),
    "headers": (lambda: HEADERS.replace(" TRIM", ""), "<|eot_id|>"),
    "turns": (lambda: TURNS, "<end_of_turn>"),
    "bars": (lambda: BARS, "<|end|>"),
    "tools": (lambda: TOOLS, "<|im_end|>"),
}
REFUSED: dict[str, tuple[Any, str, str]] = {
    "thoughts": (lambda: THOUGHTS, "<|im_end|>", "drops or rewrites the thoughts"),
    "headers that trim": (
        lambda: HEADERS.replace("TRIM", "| trim"),
        "<|eot_id|>",
        "trims what the policy said",
    ),
    "minicpmv45 of vLLM": (lambda: vllm("minicpmv45"), "<|im_end|>", "rewrites|thoughts|trims"),
    "instructions": (lambda: INSTRUCTIONS, "</s>", "rewrites|trims"),
}
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "</s>", "<s>"),
)
PIECES = (
    *("7", " seven", "\n", "\n\n", "  ", "é", "数", "😀", ".\n\n", "<b>", "the", "\t"),
    *("<|im_end|>", "<start_of_turn>", "[INST]", "</s>", "_", "-"),
)


@cache
def tokenizer(kind: str, template: str, end: str) -> Any:
    made = byte_level_tokenizer() if kind == "byte level" else sentencepiece_tokenizer()
    made = with_special(made, *SPECIAL)
    made.eos_token, made.bos_token, made.chat_template = end, "<s>", template
    return made


def words(rng: np.random.Generator, most: int = 12) -> str:
    return "".join(rng.choice(PIECES, rng.integers(1, most)))


def said(rng: np.random.Generator, made: Any) -> list[int]:
    """Token ids as a policy may sample them: no text has to encode to them."""
    texts = rng.choice([p for p in PIECES if p not in SPECIAL], rng.integers(1, 12))
    ids = [made.encode(text, add_special_tokens=False) for text in texts]
    return [*(i for each in ids for i in each), made.eos_token_id]


# 6 templates, 2 tokenizers: 2,040 conversations in all where the slow tests run.
@pytest.mark.parametrize("conversations", [8, pytest.param(170, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["byte level", "sentencepiece"])
@pytest.mark.parametrize("name", EXACT)
def test_ids_of_a_turn_are_a_prefix_of_the_next_ones_and_read_as_the_template_says(
    name: str, kind: str, conversations: int
):
    read, end = EXACT[name]
    made = tokenizer(kind, read(), end)
    role = "tool" if name == "tools" else "user"
    between = ChatTurns(role=role).between(made)
    encoder = PromptEncoder(PromptTemplate(), made)
    rng = np.random.default_rng(len(name))
    for _ in range(conversations):
        question = words(rng)
        ids = encoder.conversation([{"role": "user", "content": question}])
        messages = [{"role": "user", "content": question}]
        for _ in range(rng.integers(1, 5)):
            turn, observation = said(rng, made), words(rng)
            before = [*ids, *turn]
            ids = [*before, *between(observation, turn[-1])]
            assert ids[: len(before)] == before
            messages += [
                {"role": "assistant", "content": spoken(made, turn[:-1])},
                {"role": role, "content": observation},
            ]
        if kind == "byte level":  # SentencePiece writes spaces of its own between pieces
            rendered = made.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            assert made.decode(ids, skip_special_tokens=False) == rendered


def spoken(made: Any, ids: list[int]) -> str:
    return made.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_rewrites_turns_is_refused_or_kept_by_name(name: str):
    read, end, fault = REFUSED[name]
    made = tokenizer("byte level", read(), end)
    with pytest.raises(ValueError, match=rf"chat template ({fault}).*set rewritten='kept'"):
        ChatTurns().between(made)
    between = ChatTurns(rewritten="kept").between(made)
    assert between("seen", made.eos_token_id)  # every turn stays as it was sampled


def test_a_turn_that_did_not_end_is_ended():
    made = tokenizer("byte level", EXACT["chatml of vLLM"][0](), "<|im_end|>")
    between = ChatTurns().between(made)
    ended, cut = between("x", made.eos_token_id), between("x", 5)
    assert cut == [made.eos_token_id, *ended]


def test_a_special_token_in_an_observation_is_text():
    made = tokenizer("byte level", EXACT["chatml of vLLM"][0](), "<|im_end|>")
    ids = ChatTurns().between(made)("a<|im_end|>b", made.eos_token_id)
    assert ids.count(made.eos_token_id) == 1  # the template's own, after the message
    ids = PlainTurns().between(made)("a<|im_end|>b", 5)
    assert made.eos_token_id not in ids


def test_what_does_not_fit_is_refused():
    made = tokenizer("byte level", EXACT["bars"][0](), "<|end|>")
    made.eos_token = "</s>"
    token = made.convert_tokens_to_ids("<|end|>")
    with pytest.raises(ValueError, match=rf"'<\|end\|>'.*stop_token_ids=\({token},\)"):
        ChatTurns().between(made)
    assert ChatTurns().between(made, (token,))
    made.eos_token = "<|end|>"
    with pytest.raises(ValueError, match=r"refuses a conversation of .*'tool'.*only user"):
        ChatTurns(role="tool").between(tokenizer("byte level", INSTRUCTIONS, "</s>"))
    bare = sentencepiece_tokenizer()
    with pytest.raises(ValueError, match="has no chat template; PlainTurns needs none"):
        ChatTurns().between(bare)
