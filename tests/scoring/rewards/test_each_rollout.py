"""What holds for every labeller that looks at one rollout at a time."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.commands.catalog import plugins
from rlstep.interfaces import Labeller
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.scoring.rewards.format import Format
from rlstep.scoring.rewards.grades import Grades
from rlstep.scoring.rewards.language import Language
from rlstep.scoring.rewards.repeated_ngrams import RepeatedNgrams
from rlstep.scoring.rewards.repeated_steps import RepeatedSteps
from rlstep.scoring.rewards.soft_overlong import SoftOverlong
from rlstep.scoring.rewards.weighted_sum import WeightedSum
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.thoughts import ThoughtTags
from rlstep.types import Failure, Rollout, RolloutScore
from tests.builders import make_rollout

MEMBERS: list[tuple[EachRollout, float, float]] = [
    (Format(), 0.0, 1.0),
    (Grades(), 0.0, 1.0),
    (Language(scripts=("LATIN", "GREEK")), 0.0, 1.0),
    (RepeatedNgrams(n=2), -1.0, 0.0),
    (RepeatedSteps(), -1.0, 0.0),
    (SoftOverlong(longest=8, buffer=4), -1.0, 0.0),
    (WeightedSum(weights={"outcome": 2.0, "given": -1.0}), -1.0, 2.0),
]
"""Each with its documented range; 'given' is in [0, 1]."""
every = pytest.mark.parametrize(("labeller", "low", "high"), MEMBERS, ids=lambda x: repr(x))


def context() -> Any:
    return fake_context(FakeGenerator(lambda *_: ""), FakeScorer())


def with_text(text: str, **fields: Any) -> Rollout:
    """A rollout of one token that reads as this text."""
    rollout = make_rollout("r", [[7]], outcome=1.0, **fields)
    return replace(rollout, completion=replace(rollout.completion, text=text))


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    steps = draw(st.lists(st.lists(st.integers(10, 12), min_size=1, max_size=3), max_size=5))
    made = make_rollout(
        draw(st.uuids(version=4)).hex,
        steps,
        outcome=draw(st.sampled_from([0.0, 1.0])),
        scores={"given": RolloutScore(value=draw(st.floats(0, 1)))},
    )
    assert made.outcome is not None
    made = made.with_scores(outcome=replace(made.outcome, grade=draw(st.floats(0, 1))))
    if draw(st.booleans()):
        return made
    return replace(made, completion=replace(made.completion, text=draw(st.text(max_size=40))))


@every
@settings(max_examples=40)
@given(batch=st.lists(rollouts(), max_size=4), data=st.data())
async def test_scores_lie_in_the_range_and_depend_on_nothing_else(
    labeller: EachRollout, low: float, high: float, batch: list[Rollout], data: st.DataObject
):
    # `ends` need not fit a text of its own: steps are then read from where they happen to lie
    scored = await labeller.label(batch, context())
    assert [r.rollout_id for r in scored] == [r.rollout_id for r in batch]
    for before, after in zip(batch, scored, strict=True):
        score = after.scores[labeller.source]
        assert isinstance(score, RolloutScore) and low <= score.value <= high
        assert {**after.scores, labeller.source: None} == {**before.scores, labeller.source: None}
    shuffled = data.draw(st.permutations(scored))
    again = await labeller.label(shuffled, context())
    assert [r.scores[labeller.source] for r in again] == [
        r.scores[labeller.source] for r in shuffled
    ]


@every
def test_it_can_be_copied_and_printed(labeller: EachRollout, low: float, high: float):
    assert pickle.loads(pickle.dumps(labeller)) == labeller
    assert labeller.source in repr(labeller)


@every
def test_an_empty_name_is_refused(labeller: Any, low: float, high: float):
    with pytest.raises(ValueError, match=r"\.source is ''"):
        replace(labeller, source="")


def test_every_such_labeller_is_here():
    found = {c for c in plugins("scoring") if issubclass(c, EachRollout)}
    assert found == {type(labeller) for labeller, _, _ in MEMBERS}
    assert all(issubclass(c, Labeller) for c in found)


# --- worked by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        # longest 10, buffer 4: free up to 6, then (6 - T) / 4
        (0, 0.0),
        (6, 0.0),
        (7, -0.25),
        (9, -0.75),
        (10, -1.0),
        (11, -1.0),
    ],
)
def test_soft_overlong(tokens: int, value: float):
    rollout = make_rollout("r", [[11]] * tokens, outcome=1.0)
    score = SoftOverlong(longest=10, buffer=4).score(rollout)
    assert (score.value, score.detail) == (value, f"{tokens} tokens")


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        ([], 0.0),
        ([11], 0.0),
        ([11, 12, 13, 14], 0.0),  # 3 bigrams, all distinct
        ([11, 12, 11, 12, 11], -0.5),  # 11 12, 12 11, 11 12, 12 11: 2 of 4 distinct
        ([11, 11, 11, 11, 11], -0.75),  # 1 of 4
    ],
)
def test_repeated_ngrams(tokens: list[int], value: float):
    rollout = make_rollout("r", [[token] for token in tokens], outcome=1.0)
    assert RepeatedNgrams(n=2).score(rollout).value == value


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([], 0.0),
        ([[11], [12]], 0.0),
        ([[11, 12], [13], [11, 12], [11, 12]], -0.5),  # 2 of 4 say what the first said
        ([[11, 12], [12, 11]], 0.0),
    ],
)
def test_repeated_steps(steps: list[list[int]], value: float):
    assert RepeatedSteps().score(make_rollout("r", steps, outcome=1.0)).value == value


def test_white_space_tells_no_steps_apart():
    rollout = make_rollout("r", [[1], [2], [3], [4]], outcome=1.0)
    # '1 ', '2 ', '3 ', '4 ' with the characters of other steps in their places
    text = "a \na \n "
    ends = rollout.completion.ends.copy()
    ends[:] = [2, 4, 6, 7]  # 'a ', '\na', ' \n', ' '
    spaced = replace(rollout, completion=replace(rollout.completion, text=text, ends=ends))
    # two steps of white space are not counted; of the other two the second repeats the first
    assert RepeatedSteps().score(spaced) == RolloutScore(value=-0.5, detail="1 of 2 steps")


@pytest.mark.parametrize(
    ("text", "scripts", "value"),
    [
        ("so it is", ("LATIN",), 1.0),
        ("also 是 so", ("LATIN",), 6 / 7),  # 4 + 2 of 7 letters
        ("das größte", ("LATIN",), 1.0),
        ("это five", ("CYRILLIC",), 3 / 7),
        ("答えは五です", ("CJK", "HIRAGANA", "KATAKANA"), 1.0),
        ("答えは五です", ("CJK",), 2 / 6),
        (r"是 \frac{1}{2} \times 3", ("CJK",), 1.0),  # commands are no letters
        (r"是 \frac{x}{2}", ("CJK",), 0.5),  # x is
        ("\N{FULLWIDTH LATIN SMALL LETTER A}", ("LATIN",), 1.0),
        ("\N{MATHEMATICAL BOLD SMALL A}", ("LATIN",), 1.0),
        ("1 + 1 = 2", ("CJK",), 1.0),
        # marks that letters of several scripts share are of none
        ("コーヒー", ("CJK", "HIRAGANA", "KATAKANA"), 1.0),
        ("らーめん", ("HIRAGANA",), 1.0),
        ("人々は〆切", ("CJK", "HIRAGANA"), 1.0),
        ("\N{VERTICAL KANA REPEAT MARK}か", ("HIRAGANA",), 1.0),
        ("Hawai\N{MODIFIER LETTER TURNED COMMA}i", ("LATIN",), 1.0),
        ("ー", ("LATIN",), 1.0),  # so there is no letter
        # signs of units, which NFKC would make Greek letters
        ("5 \N{MICRO SIGN}m", ("LATIN",), 1.0),
        ("5 k\N{OHM SIGN}", ("LATIN",), 1.0),
        ("5 \N{GREEK SMALL LETTER MU}m", ("LATIN",), 0.5),
        ("", ("LATIN",), 1.0),
        ("\ud800\x00\N{RIGHT-TO-LEFT OVERRIDE}", ("LATIN",), 1.0),
    ],
)
def test_language(text: str, scripts: tuple[str, ...], value: float):
    assert Language(scripts=scripts).score(with_text(text)).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a\nb</think>\n<answer>5</answer>", 1.0),
        (" <think></think><answer></answer>\n", 1.0),
        ("<think>a</think><answer>5</answer> and more", 0.0),
        ("<think>a<think>b</think></think><answer>5</answer>", 0.0),
        ("<answer>5</answer><think>a</think>", 0.0),
        ("5", 0.0),
        ("", 0.0),
    ],
)
def test_format(text: str, value: float):
    assert Format().score(with_text(text)) == RolloutScore(value=value)


@pytest.mark.parametrize(
    ("thoughts", "text", "value"),
    [
        (ThoughtTags(opened=True), "a</think><answer>5</answer>", 1.0),
        (ThoughtTags(opened=True), "<think>a</think><answer>5</answer>", 1.0),
        (ThoughtTags(opened=True), "a<answer>5</answer>", 0.0),
        (ThoughtTags(opened=True), "a<think>b</think><answer>5</answer>", 0.0),
        (ThoughtTags(), "a</think><answer>5</answer>", 0.0),
        (ThoughtTags(start="[T]", end="[/T]"), "[T]a[/T]<answer>5</answer>", 1.0),
        (ThoughtTags(start="[T]", end="[/T]"), "<think>a</think><answer>5</answer>", 0.0),
        (ThoughtTags(start="(", end=")"), "(a)<answer>5</answer>", 1.0),
    ],
)
def test_the_form_of_thoughts_is_a_setting(thoughts: ThoughtTags, text: str, value: float):
    assert Format(thoughts=thoughts).score(with_text(text)) == RolloutScore(value=value)


def test_tags_are_of_no_language():
    chinese = Language(scripts=("CJK",))
    assert chinese.score(with_text("<think>\u6211</think>\u6211")).value == 1.0
    assert chinese.score(with_text("<thunk>\u6211")).value == 1 / 6
    other = Language(scripts=("CJK",), thoughts=ThoughtTags(start="<thunk>", end="</thunk>"))
    assert other.score(with_text("<thunk>\u6211")).value == 1.0


def test_a_form_that_takes_forever_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    def late(*_: object, timeout: float) -> None:
        assert timeout == 0.05
        raise TimeoutError

    monkeypatch.setattr(regex, "fullmatch", late)
    score = Format(deadline_s=0.05).score(with_text("a"))
    assert score == Failure(reason="timeout", detail="format: no match within 0.05 s")


# --- weighted sums -------------------------------------------------------------------------------

SUM = WeightedSum(weights={"outcome": 1.0, "length": 0.5, "format": 0.25})


def parts(length: Any = -0.5, form: Any = 1.0) -> dict[str, Any]:
    wrapped = {"length": length, "format": form}
    return {
        name: RolloutScore(value=value) if isinstance(value, float) else value
        for name, value in wrapped.items()
    }


def test_a_sum_worked_by_hand():
    score = SUM.score(make_rollout("r", [[7]], outcome=1.0, scores=parts()))
    # 1 * 1 + 0.5 * -0.5 + 0.25 * 1
    assert score == RolloutScore(value=1.0, detail="1 * 1 + 0.5 * -0.5 + 0.25 * 1")


@pytest.mark.parametrize("part", ["outcome", "length", "format"])
def test_a_failed_part_is_a_failed_sum(part: str):
    rollout = make_rollout("r", [[7]], outcome=1.0, scores=parts())
    failed = rollout.with_scores(**{part: Failure(reason="timeout", detail="5 s")})
    assert SUM.score(failed) == Failure(reason="part_failed", detail=f"{part}: timeout")


def test_a_sum_that_overflows_is_a_failure():
    huge = make_rollout("r", [[7]], outcome=1.0, scores=parts(length=1e308, form=1e308))
    score = WeightedSum(weights={"length": 10.0, "format": 1.0}).score(huge)
    assert isinstance(score, Failure) and score.reason == "not_finite"


def test_step_scores_are_no_part():
    rollout = make_rollout("r", [[7]], outcome=1.0, scores={"length": [0.5], "format": [0.5]})
    with pytest.raises(TypeError, match="'length' are StepScores; WeightedSum adds"):
        SUM.score(rollout)


def test_sums_of_sums():
    inner = WeightedSum(weights={"length": 2.0}, source="inner")
    rollout = make_rollout("r", [[7]], outcome=1.0, scores=parts())
    scored = rollout.with_scores(inner=inner.score(rollout))
    outer = WeightedSum(weights={"outcome": 1.0, "inner": 1.0}, source="outer").score(scored)
    assert isinstance(outer, RolloutScore) and outer.value == 0.0  # 1 + 2 * -0.5


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SoftOverlong(longest=0, buffer=1), "soft_overlong.longest is 0"),
        (lambda: SoftOverlong(longest=4, buffer=5), "buffer is 5; the largest valid value is 4"),
        (lambda: SoftOverlong(longest=4, buffer=0), "buffer is 0; the smallest valid value is 1"),
        (lambda: RepeatedNgrams(n=0), "repeated_ngrams.n is 0; the smallest valid value is 1"),
        (lambda: Language(scripts=()), "language.scripts is empty"),
        (lambda: Language(scripts=("Latn",)), "has 'Latn', the nearest is 'LATIN'"),
        (lambda: Format(pattern="("), r"format.pattern is '\(', no regular expression"),
        (lambda: Format(deadline_s=0.0), "format.deadline_s is 0.0"),
        (lambda: WeightedSum(weights={}), "weighted_sum.weights is empty"),
        (
            lambda: WeightedSum(weights={"outcome": float("nan")}),
            r"weights\['outcome'\] is nan; it must be finite",
        ),
    ],
)
def test_refused(build: Any, message: str):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("weight", [True, "1", None])
def test_a_weight_is_a_number(weight: Any):
    with pytest.raises(TypeError, match=r"weights\['outcome'\] is .*; it must be a number"):
        WeightedSum(weights={"outcome": weight})
