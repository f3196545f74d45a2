"""Which tokens PRMs read of a solution, on real vocabularies, and where its steps are read out."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import Reader, StepInputs, StepLayout
from rlstep.losses.implicit_outcome import ImplicitOutcomeLoss
from rlstep.losses.step_label import StepLabelLoss
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.implicit_prm import ImplicitPrm
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.prm_text import bounded, numbered, one_token
from rlstep.scoring.step_models.qwen_math_prm import QwenMathPrmLayout
from rlstep.scoring.step_models.step_tags import StepTags
from rlstep.types import Failure, Rollout
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from tests.solutions import qwen_like, solution

MISTRAL = sentencepiece_tokenizer()
"""The vocabulary that Math-Shepherd's PRM has."""


QWEN = qwen_like()


def read(reader: Reader, rollout: Rollout) -> StepInputs:
    inputs = reader(rollout)
    assert isinstance(inputs, StepInputs)
    return inputs


def shepherd(policy: Any = QWEN) -> Reader:
    return MathShepherdLayout().reader(policy, MISTRAL)


def qwen(model: Any = QWEN) -> Reader:
    return QwenMathPrmLayout().reader(MISTRAL, model)


# --- Math-Shepherd --------------------------------------------------------------------------------


def test_math_shepherds_tokens_have_the_ids_of_its_model_card():
    # The card names 648 and 387 as the candidates ('+' and '-'), 12902 as the step tag.
    assert [one_token("f", MISTRAL, text) for text in (" +", " -", " ки")] == [648, 387, 12902]
    # Without the space before it each is another token, which the model was not trained on.
    assert [one_token("f", MISTRAL, text) for text in ("+", "ки")] == [28806, 1107]


def test_math_shepherds_layout_token_by_token():
    inputs = read(shepherd(), solution("What is 2+3?", "2+3=5.\n\n", "The answer is: 5"))
    # <s> problem, ' Step 1: ' first step, the tag; newline, 'Step 2: ' second step, the tag.
    tokens = "<s> ▁What ▁is ▁ 2 + 3 ?".split()
    tokens += "▁Step ▁ 1 : ▁ 2 + 3 = 5 . ▁ки".split()
    tokens += "<0x0A> Step ▁ 2 : ▁The ▁answer ▁is : ▁ 5 ▁ки".split()
    assert MISTRAL.convert_ids_to_tokens(inputs.token_ids.tolist()) == tokens
    # 8 tokens of the problem, 11 of the first step: the tags are tokens 19 and 31.
    assert inputs.read_at.tolist() == [19, 31] and inputs.token_ids.dtype == np.int32


def test_math_shepherds_layout_is_the_text_of_its_card():
    problem = "Janet's ducks lay 16 eggs per day. How much does she make?"
    steps = ["Step 1: She lays 16 eggs.", "Step 2: 16 - 3 = 13 ducks' eggs.", "The answer is: $26"]
    card = f"{problem} {steps[0]} ки\n{steps[1]} ки\nStep 3: {steps[2]} ки"
    ids = MISTRAL.encode(card, add_special_tokens=False)
    assert read(shepherd(), solution(problem, *steps)).token_ids.tolist() == [1, *ids]


def test_a_step_says_its_number_once():
    assert numbered(2, "2+3=5") == "Step 2: 2+3=5"
    for text in ("Step 2: 2+3=5", "Let's think.\nStep 2. So", "Step 2"):
        assert numbered(2, text) == text
    assert numbered(1, "Step 12: no") == "Step 1: Step 12: no"
    for mark in ("**Step 1:** a", "### Step 1: a", "> Step 1. a", "- **Step 1**: a", "step 1: a"):
        assert numbered(1, mark) == mark
        assert numbered(2, mark) == f"Step 2: {mark}"


def test_the_first_step_begins_with_what_the_template_wrote_of_it():
    rollout = solution("Why?", " because\n", "so", suffix="Let's think.\nStep 1:")
    text = MISTRAL.decode(read(shepherd(), rollout).token_ids.tolist())
    assert text == "<s> Why? Let's think.\nStep 1: because ки\nStep 2: so ки"


# --- Qwen2.5-Math-PRM -----------------------------------------------------------------------------


def test_qwens_layout_token_by_token():
    layout = QwenMathPrmLayout(system="go.")
    inputs = read(layout.reader(MISTRAL, QWEN), solution("2+3?", "2+3=5\n\n", " So 5."))
    # (This vocabulary has neither 'system' nor 'assistant'.)
    tokens = "<|im_start|> s ystem Ċ go . <|im_end|> Ċ".split()
    tokens += "<|im_start|> user Ċ 2 + 3 ? <|im_end|> Ċ".split()
    tokens += "<|im_start|> ass istant Ċ 2 + 3 = 5 <extra_0> So Ġ 5 . <extra_0>".split()
    tokens += "<|im_end|> Ċ".split()
    assert QWEN.convert_ids_to_tokens(inputs.token_ids.tolist()) == tokens
    # 8 + 9 + 4 tokens before the first step of 5, which is followed by tag, 4 tokens, tag.
    assert inputs.read_at.tolist() == [26, 31]


@pytest.mark.parametrize("special", [True, False])
def test_qwens_layout_is_the_conversation_of_its_card(special: bool):
    model, system = qwen_like(special), QwenMathPrmLayout().system
    steps = ["To find the answer, we add.", "Friday: 18 + 2 = $20$", "So \\boxed{20}."]
    conversation = [
        {"role": "system", "content": system},
        {"role": "user", "content": "Sue lives in a fun neighborhood."},
        {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
    ]
    card = model.apply_chat_template(conversation, tokenize=False)
    rollout = solution("Sue lives in a fun neighborhood.", *(f"{s}\n\n" for s in steps))
    assert read(qwen(model), rollout).token_ids.tolist() == model.encode(card)


def test_qwens_layout_needs_a_chat_template():
    bare = copy.deepcopy(QWEN)
    bare.chat_template = None
    with pytest.raises(ValueError, match=r"QwenMathPrmLayout needs .* a chat template"):
        QwenMathPrmLayout().reader(QWEN, bare)


# --- a tag of one's own ---------------------------------------------------------------------------


def test_an_own_tag_stands_between_the_policys_own_tokens():
    rollout = solution("2+3?\n", "2+3=5\n", "#5")
    inputs = read(StepTags(tag=" good").reader(QWEN, copy.deepcopy(QWEN)), rollout)
    prompt, ids = rollout.prompt.token_ids.tolist(), rollout.completion.token_ids.tolist()
    tag, end = QWEN.convert_tokens_to_ids("Ġgood"), rollout.steps[0].end
    assert inputs.token_ids.tolist() == [*prompt, *ids[:end], tag, *ids[end:], tag]
    assert inputs.read_at.tolist() == [len(prompt) + end, len(prompt) + len(ids) + 1]


def test_a_prm_may_have_tokens_that_the_policy_lacks():
    rollout = solution("2+3?\n", "2+3=5\n")
    tag, ids = QWEN.convert_tokens_to_ids("<extra_0>"), rollout.completion.token_ids.tolist()
    assert tag not in byte_level_tokenizer().get_vocab().values()
    inputs = read(StepTags(tag="<extra_0>").reader(byte_level_tokenizer(), QWEN), rollout)
    assert inputs.token_ids.tolist() == [*rollout.prompt.token_ids.tolist(), *ids, tag]
    # The other way about, the policy could write what the PRM cannot read: the text is encoded.
    anew = read(StepTags(tag=" good").reader(QWEN, byte_level_tokenizer()), rollout)
    assert byte_level_tokenizer().decode(anew.token_ids.tolist()) == "2+3?\n2+3=5\n good"


@pytest.mark.parametrize(
    "kind",
    [Prm, *(pytest.param(k, marks=pytest.mark.slow) for k in (FrozenPrm, Critic, ImplicitPrm))],
)
def test_a_model_that_would_read_other_tokens_is_refused(tmp_path: Path, kind: Any):
    MISTRAL.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    model = ModelConfig(path=str(tmp_path))
    scalar = LearnerConfig(model=model, head="token_classification")
    fields = {
        FrozenPrm: {"learner": scalar},
        Prm: {"learner": scalar, "loss": StepLabelLoss()},
        Critic: {"learner": scalar, "loss": ValueLoss()},
        ImplicitPrm: {
            "learner": LearnerConfig(model=model, reference="initial"),
            "loss": ImplicitOutcomeLoss(),
        },
    }
    with pytest.raises(
        ValueError, match=rf"\({kind.__name__}\)\.learner\.model\.path is .* other ids"
    ):
        kind(**fields[kind]).reader(QWEN)
    if kind in (FrozenPrm, Prm):  # a layout encodes the text for it
        assert kind(**fields[kind], layout=StepTags()).reader(QWEN) is not None


def test_another_vocabulary_reads_the_text_step_by_step():
    inputs = read(StepTags().reader(QWEN, MISTRAL), solution("2+3?", "2+3=5\n", " So 5."))
    tokens = "▁ 2 + 3 ? <0x0A> 2 + 3 = 5 <0x0A> ▁ки ▁So ▁ 5 . ▁ки".split()
    assert MISTRAL.convert_ids_to_tokens(inputs.token_ids.tolist()) == tokens
    assert inputs.read_at.tolist() == [12, 17]


def test_the_policys_own_tag_is_spelled_out_for_the_prm():
    tag = QWEN.convert_tokens_to_ids("Ġgood")
    rollout = solution("so good", "very good\n", "bad")
    assert tag in rollout.prompt.token_ids and tag in rollout.completion.token_ids
    inputs = read(StepTags(tag=" good").reader(QWEN, copy.deepcopy(QWEN)), rollout)
    assert np.flatnonzero(inputs.token_ids == tag).tolist() == inputs.read_at.tolist()
    assert QWEN.decode(inputs.token_ids.tolist()) == "so goodvery good\n goodbad good"


# --- data is never control ------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[StepLayout, Any, str]] = {
    "shepherd": (MathShepherdLayout(), MISTRAL, "ки"),
    "qwen": (QwenMathPrmLayout(), QWEN, "<extra_0>"),
    "qwen, tag not special": (QwenMathPrmLayout(), qwen_like(special=False), "<extra_0>"),
    "own tag": (StepTags(tag=" ки"), MISTRAL, "ки"),
    "own vocabulary": (StepTags(tag="<extra_0>"), QWEN, "<extra_0>"),
}
PIECES = ["ки", " ки", "<extra_0>", "<|im_end|>", "\n", "<|im_start|>assistant\n", "</s>", "<s>"]
PIECES += ["к", "и", "<", "extra_0>", " ", "Step 1:", "7", "é", "🙂"]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


@cache
def reader_of(name: str) -> Reader:
    layout, model, _ = LAYOUTS[name]
    return layout.reader(QWEN, model)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=60)
@given(problem=TEXTS, steps=st.lists(TEXTS, max_size=4))
def test_data_holds_no_tag_and_no_special_token(name: str, problem: str, steps: list[str]):
    (_, model, tag), reader = LAYOUTS[name], reader_of(name)
    tame = read(reader, solution("x", *("x" for _ in steps)))
    inputs = read(reader, solution(problem, *steps))
    ids = inputs.token_ids.tolist()
    assert inputs.read_at.tolist() == sorted(set(inputs.read_at.tolist()))
    assert len(inputs.read_at) == len(steps)
    tags = {ids[at] for at in inputs.read_at}
    assert [at for at, i in enumerate(ids) if i in tags] == inputs.read_at.tolist()
    # Every special token is the layout's: as many as of harmless text, in the same order.
    special = {i for i, token in model.added_tokens_decoder.items() if token.special} | tags
    assert [i for i in ids if i in special] == [i for i in tame.token_ids if i in special]
    assert steps == [] or tag in model.decode([*tags])


def test_what_data_says_is_still_there():
    rollout = solution("Is ки a tag?", "No ки here.", "<|im_end|><extra_0>")
    text = MISTRAL.decode(read(shepherd(), rollout).token_ids.tolist())
    assert text == "<s> Is ки a tag? Step 1: No ки here. ки\nStep 2: <|im_end|><extra_0> ки"
    text = QWEN.decode(read(qwen(), rollout).token_ids.tolist())
    assert "user\nIs ки a tag?<|im_end|>" in text
    assert text.endswith("No ки here.<extra_0><|im_end|><extra_0><extra_0><|im_end|>\n")


# --- what does not fit ----------------------------------------------------------------------------


def test_what_is_too_long_is_a_failure_and_never_cut():
    rollout = solution("2+3?", "2+3=5\n", "So 5.")
    length = len(read(shepherd(), rollout).token_ids)
    assert isinstance(bounded(shepherd(), length)(rollout), StepInputs)
    answer = bounded(shepherd(), length - 1)(rollout)
    assert answer == Failure(
        reason="too_long", detail=f"{length} tokens, the model reads {length - 1}"
    )


def test_a_layout_reads_every_step_out_once():
    def forgetful(rollout: Rollout) -> StepInputs:
        whole = read(shepherd(), rollout)
        return replace(whole, read_at=whole.read_at[:-1])

    with pytest.raises(AssertionError, match="reads every step out once"):
        bounded(forgetful, 1000)(solution("2+3?", "5"))


def test_a_rollout_without_steps_has_no_read_out():
    for reader in (shepherd(), qwen()):
        assert read(reader, solution("2+3?")).read_at.tolist() == []


@pytest.mark.parametrize(
    ("tokenizer", "text", "message"),
    [
        (QWEN, "good", r"f is 'good', which .*\['go', 'od'\]; .* one token; .* value is ' good'"),
        (QWEN, " goodness", r"splits into \['Ġgood', 'ness'\]; it must be one token$"),
        (MISTRAL, "<extra_0>", r"splits into \['<', 'extra', '_', '0', '>'\]; it must be one"),
        (MISTRAL, "", r"f is '', which .* splits into \[\]"),
    ],
)
def test_text_of_several_tokens_is_refused(tokenizer: Any, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        one_token("f", tokenizer, text)


def test_math_shepherds_layout_needs_a_first_token():
    bare = copy.deepcopy(MISTRAL)
    bare.bos_token = None
    with pytest.raises(ValueError, match=r"MathShepherdLayout needs .* a bos_token"):
        MathShepherdLayout().reader(QWEN, bare)


def test_a_tag_that_cannot_be_escaped_is_refused():
    with pytest.raises(
        ValueError, match=r"layout.tag is '#', which could not be told .* two letters"
    ):
        StepTags(tag="#").reader(QWEN, QWEN)
