"""The forms of step rewards: sum, min (PURE), Clip and Delta, and what repeating a step pays."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.advantages.arithmetic import suffix_sums
from rlstep.advantages.clip_delta import Clip, Delta
from rlstep.advantages.pure import Pure
from rlstep.advantages.step_returns import StepReturns
from rlstep.advantages.step_sum import StepSum
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_group, make_rollout

probabilities = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)


def scored(name: str, scores: Seq[float], outcome: float = 0.0, steps: Any = None, **fields: Any):
    """One-token steps where no others are given."""
    steps = steps or [[11]] * len(scores)
    return make_rollout(name, steps, outcome=outcome, scores={"prm": scores}, **fields)


def returns(form: StepReturns, scores: Seq[float]) -> np.ndarray:
    return suffix_sums(form.step_rewards(np.array(scores, dtype=np.float64)))


# --- step rewards and their returns --------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.1, 0.3, 0.5, 0.7])
def test_a_score_of_eta_costs_nothing_however_it_was_rounded(eta: float):
    lower = np.nextafter(np.float32(eta), np.float32(0))
    assert Clip(eta=eta).step_rewards(np.array([lower, eta], np.float64)).tolist() == [0.0, 0.0]


def test_clip():
    form = Clip(eta=0.5)
    assert form.step_rewards(np.array([0.25, 0.5, 1.0])).tolist() == [-0.25, 0.0, 0.0]
    assert returns(form, [0.25, 0.0, 0.5]).tolist() == [-0.75, -0.5, 0.0]


def test_delta():
    # 0.5 - 0.75, 0.75, and nothing for the last: the return of a step is its score.
    form = Delta()
    assert form.step_rewards(np.array([0.5, 0.75, 0.9])).tolist() == [-0.25, 0.75, 0.0]
    assert returns(form, [0.5, 0.75, 0.9]).tolist() == [0.5, 0.75, 0.0]
    assert form.step_rewards(np.array([0.9])).tolist() == [0.0]


def test_pure():
    # r = (0.1, 0.1 + 0.1 ln 3) at T 0.1: w = (3/4, 1/4), rewards (0.075, 0.052465), together
    # 0.127465. The scores are p = (1 + r) / 2.
    r = np.array([0.1, 0.1 + 0.1 * math.log(3)])
    rewards = Pure().step_rewards((1 + r) / 2)
    assert rewards == pytest.approx([0.075, 0.25 * r[1]])
    assert suffix_sums(rewards)[0] == pytest.approx(0.127465, abs=1e-6)
    assert Pure().step_rewards(np.array([0.2])) == pytest.approx([-0.6])  # one step is unchanged


def test_pure_at_a_low_temperature_is_the_minimum():
    # p = (0.9, 0.2, 0.6): r = (0.8, -0.6, 0.2); -0.6 up to the worst step, 0 after it.
    assert returns(Pure(temperature=1e-3), [0.9, 0.2, 0.6]) == pytest.approx([-0.6, -0.6, 0.0])


@given(scores=probabilities, temperature=st.floats(0.01, 10.0))
def test_pures_return_lies_between_minimum_and_mean(scores: list[float], temperature: float):
    signed = 2 * np.array(scores) - 1
    value = returns(Pure(temperature=temperature), scores)[0]
    assert signed.min() - 1e-9 <= value <= signed.mean() + 1e-9


@given(scores=probabilities, eta=st.floats(0.0, 1.0))
def test_clip_and_delta_are_bounded(scores: list[float], eta: float):
    assert (returns(Clip(eta=eta), scores) <= 0.0).all()
    expected = [*scores[:-1], 0.0]
    assert returns(Delta(), scores) == pytest.approx(expected, abs=1e-9)


# --- the repeat-step exploit ---------------------------------------------------------------------


def test_appending_good_steps_to_a_mediocre_one():
    """r = 0.5, then n steps of 0.99; PURE's scores are in [-1, 1], so p = (1 + r) / 2 there."""
    numbers = [0, 1, 3, 20]
    chains = [[0.5, *[0.99] * n] for n in numbers]
    paid = [returns(StepSum(), chain)[0] for chain in chains]
    assert paid == pytest.approx([0.5 + 0.99 * n for n in numbers])
    assert [returns(Clip(eta=0.99), chain)[0] for chain in chains] == pytest.approx([-0.49] * 4)
    assert [returns(Clip(), chain)[0] for chain in chains] == [0.0] * 4
    # Delta pays nothing for the only step, its score for one that is not the last, and no more.
    assert [returns(Delta(), chain)[0] for chain in chains] == pytest.approx([0.0, 0.5, 0.5, 0.5])
    soft = [returns(Pure(), [(1 + r) / 2 for r in chain])[0] for chain in chains]
    assert soft == pytest.approx([0.5, 0.5036, 0.5107, 0.5635], abs=5e-5)
    means = [np.mean(chain) for chain in chains]
    assert all(value <= mean for value, mean in zip(soft, means, strict=True))


@given(
    scores=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8),
    n=st.integers(1, 30),
    filler=st.floats(0.5, 1.0),
)
def test_filler_before_the_answer(scores: list[float], n: int, filler: float):
    padded = [*scores[:-1], *[filler] * n, scores[-1]]
    assert returns(StepSum(), padded)[0] >= returns(StepSum(), scores)[0] + 0.5 * n - 1e-9
    for form in (Clip(), Delta()):
        assert returns(form, padded)[0] == pytest.approx(returns(form, scores)[0], abs=1e-9)
    # PURE's return is a mean in which n such steps weigh at most n, and the others at least 1.
    before = returns(Pure(), scores)[0]
    slack = max(0.0, 2 * filler - 1 - before) * n / (n + 1)
    assert returns(Pure(), padded)[0] <= before + slack + 1e-9


@pytest.mark.parametrize(
    ("form", "pays"),
    [(StepSum(), True), (Clip(), False), (Delta(), False), (Pure(baseline="return"), False)],
)
def test_filler_in_the_advantages_of_a_group(form: StepReturns, pays: bool):
    """The first token's advantage of a rollout with a bad step, filler added after that step."""
    first = []
    for n in (0, 20):
        chain = [0.25, *[0.99] * n, 0.9]
        group = make_group(scored("a", chain), scored("b", [0.75, 0.3], 1.0), scored("c", [0.6]))
        first.append(columns(form.samples([group]))[0][2])
    assert first[1] - first[0] == pytest.approx(0.99 * 20 if pays else 0.0, abs=1e-3)


@pytest.mark.parametrize("baseline", ["step", "token"])
def test_the_released_baselines_pay_for_steps_where_the_others_do_badly(baseline):
    """They subtract the others' mean, negative here, once a step; 'return' does not."""
    gains = {}
    for form in (Pure(baseline=baseline), Pure(baseline="return")):
        first = []
        for n in (0, 20):
            chain = [0.25, *[0.99] * n, 0.9]
            group = make_group(scored("a", chain), scored("b", [0.1, 0.1]), scored("c", [0.2]))
            first.append(columns(form.samples([group]))[0][2])
        gains[form.baseline] = first[1] - first[0]
    assert gains["return"] == pytest.approx(0.0, abs=1e-3)
    assert gains[baseline] > 5.0


# --- advantages ----------------------------------------------------------------------------------


def test_a_ragged_group_of_sums_worked_by_hand():
    # Returns (1.25, 0.75) and (0.5), so at step 0 the others' are 0.5 and 1.25, at step 1 the
    # other has ended: process (0.75, 0.75) and (-0.75). Outcomes 0 and 1: -1 and 1. With 2 and 3:
    # 1.5 - 3 and -1.5 + 3. The rollout without scores is in no baseline.
    group = make_group(
        scored("a", [0.5, 0.75], 0.0, steps=[[11, 12], [13]], parent="c", inherited=1),
        scored("x", [1.0], 1.0).with_scores(prm=Failure(reason="timeout")),
        scored("b", [0.5], 1.0),
    )
    form = StepSum(process_coefficient=2.0, outcome_coefficient=3.0)
    assert columns(form.samples([group])) == [[0, 0, 0, -1.5, -1.5], [0, 0, 1.5]]
    assert form.sources == {"outcome", "prm"}


def test_clip_and_delta_in_a_group():
    # Clip: returns (-0.25, 0) and (-0.5): (0.25, 0) and (-0.25). Delta: (0.25, 0) and (0): 0.25, 0
    # and -0.25. Outcomes 1 and 0 add 1 and -1.
    group = make_group(scored("a", [0.25, 0.75], 1.0), scored("b", [0.0], 0.0))
    assert columns(Clip().samples([group])) == [[0, 0, 1.25, 1.0], [0, 0, -1.25]]
    assert columns(Delta().samples([group])) == [[0, 0, 1.25, 1.0], [0, 0, -1.25]]


def test_pures_baselines_worked_by_hand():
    # Equal scores: p = (0.75, 0.75) gives r* = (0.25, 0.25), p = 0 gives -1; steps of 1 and 3
    # tokens, and of 2. Per step: others' means -1 and 0.25: (1.25, 1.25) -> (2.5, 1.25); -1.25.
    # Per token: others' -1/2 and 0.5/4 a token: (0.25 + 0.5, 0.25 + 1.5) -> (2.5, 1.75);
    # -1 - 0.25. As returns: (0.5, 0.25) and (-1): (1.5, 0.25) and -1.5. Equal outcomes add nothing.
    group = make_group(
        scored("a", [0.75, 0.75], 1.0, steps=[[11], [12, 13, 14]]),
        scored("b", [0.0], 1.0, steps=[[15, 16]]),
    )
    expected = {
        "step": [[0, 0, 2.5, 1.25, 1.25, 1.25], [0, 0, -1.25, -1.25]],
        "token": [[0, 0, 2.5, 1.75, 1.75, 1.75], [0, 0, -1.25, -1.25]],
        "return": [[0, 0, 1.5, 0.25, 0.25, 0.25], [0, 0, -1.5, -1.5]],
    }
    for baseline, rows in expected.items():
        out = columns(Pure(baseline=baseline).samples([group]))  # type: ignore[arg-type]
        assert out[0] == pytest.approx(rows[0], abs=1e-6)
        assert out[1] == pytest.approx(rows[1], abs=1e-6)


@pytest.mark.parametrize("form", [StepSum(), Clip(), Delta(), Pure(), Pure(baseline="return")])
def test_scores_of_exactly_zero_count(form: StepReturns):
    group = make_group(scored("a", [0.0, 0.5, 0.0], 1.0), scored("b", [0.5, 0.0, 0.0], 1.0))
    samples = form.samples([group])
    assert samples.groups == 1 and all(np.isfinite(c).all() for c in samples.advantages)


def test_a_low_temperature_does_not_overflow():
    group = make_group(scored("a", [0.0, 1.0], 1.0), scored("b", [0.5], 0.0))
    samples = Pure(temperature=1e-4).samples([group])
    assert all(np.isfinite(column).all() for column in samples.advantages)


@settings(max_examples=25)
@given(scores=probabilities, n=st.integers(2, 4))
def test_copies_of_one_rollout_give_no_signal(scores: list[float], n: int):
    group = make_group(*(scored(f"{i}", scores, 1.0) for i in range(n)))
    for form in (StepSum(), Clip(), Delta(), Pure(baseline="return")):
        assert form.samples([group]).groups_without_signal == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StepSum(source=""), "advantages.source is ''"),
        (lambda: StepSum(process_coefficient=-1.0), "advantages.process_coefficient is -1.0"),
        (lambda: Delta(outcome_coefficient=-1.0), "advantages.outcome_coefficient is -1.0"),
        (lambda: Clip(eta=1.5), "advantages.eta is 1.5; the largest valid value is 1.0"),
        (lambda: Clip(source=""), "advantages.source is ''"),
        (lambda: Pure(temperature=0.0), "advantages.temperature is 0.0; it must be positive"),
        (lambda: Pure(temperature=math.nan), "advantages.temperature is nan"),
    ],
)
def test_bad_fields(build, message: str):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value)
