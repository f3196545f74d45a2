from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.advantages.process import ProcessAdvantages
from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Failure, PairSamples, StepScores
from rlstep.uncertainty.dropped import Dropped
from rlstep.uncertainty.ensemble import Ensemble, combined
from tests.builders import make_counts, make_group, make_rollout, make_step_scores

INNER = OutcomePairs(step_source="ensemble")


def scores(*rows: list[float]) -> list[StepScores]:
    return [make_step_scores(row) for row in rows]


def sigma(score: StepScores) -> list[float]:
    assert score.log_sigma is not None
    return np.exp(score.log_sigma.astype(np.float64)).tolist()


def test_mean_and_disagreement_worked_by_hand():
    # 0, 0.3, 0.9: mean 0.4, gap 0.9, variance (0.16 + 0.01 + 0.25) / 3 = 0.14.
    members = scores([0.0, 0.5], [0.3, 0.5], [0.9, 0.5])
    gap, std = combined(members, "gap"), combined(members, "std")
    assert gap.values.tolist() == std.values.tolist() == pytest.approx([0.4, 0.5])
    assert sigma(gap) == pytest.approx([0.9, 0.0])
    assert sigma(std) == pytest.approx([0.14**0.5, 0.0])


@pytest.mark.parametrize("disagreement", ["gap", "std"])
def test_members_that_differ_by_rounding_agree(disagreement):
    rounded = [float(np.nextafter(np.float32(value), np.float32(2))) for value in (0.3, 0.9)]
    assert sigma(combined(scores([0.3, 0.9], rounded), disagreement)) == [0.0, 0.0]


@given(
    values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6),
    number=st.integers(2, 7),
    disagreement=st.sampled_from(["gap", "std"]),
)
def test_identical_members_never_disagree(values, number, disagreement):
    made = combined(scores(*[values] * number), disagreement)
    assert sigma(made) == [0.0] * len(values)
    np.testing.assert_array_equal(made.values, np.array(values, dtype=np.float32))


@given(
    rows=st.lists(
        st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=5
    ),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_members_does_not_matter_and_the_gap_bounds_the_std(rows, order):
    shuffled = order.sample(rows, len(rows))
    one, other = combined(scores(*rows), "gap"), combined(scores(*shuffled), "gap")
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    np.testing.assert_array_equal(one.log_sigma, other.log_sigma)
    std = sigma(combined(scores(*rows), "std"))
    assert all(s <= g / 2 + 1e-6 for s, g in zip(std, sigma(one), strict=True))


def test_what_is_inside_reads_the_ensemble():
    def rollout(name: str, token: int, outcome: float, a: float, b: float):
        both = {"a": make_step_scores([a]), "b": make_step_scores([b])}
        return make_rollout(name, [[token]], outcome=outcome, scores=both)

    group = make_group(rollout("r", 11, 1.0, 0.5, 0.75), rollout("w", 12, 0.0, 0.25, 0.75))
    samples = Ensemble(of=INNER, members=("a", "b")).samples([group])
    assert [s.step_scores.tolist() for s in samples.sequences] == [[0.625], [0.5]]
    # They disagree by 0.25 about r and by 0.5 about w.
    dropped = Dropped(of=INNER, source="ensemble", most=0.3)
    samples = Ensemble(of=dropped, members=("a", "b")).samples([group])
    assert isinstance(samples, PairSamples) and samples.groups_without_signal == 1


@pytest.mark.parametrize("missing", [Failure(reason="timeout"), make_counts([0], [0]), None])
def test_a_member_that_is_missing_fails_the_rollout(missing):
    good = {"a": make_step_scores([0.5])}
    both = good if missing is None else good | {"b": missing}
    group = make_group(make_rollout("r", [[11]], outcome=1.0, scores=both))
    made = Ensemble(of=INNER, members=("a", "b"))._with_ensemble(group.rollouts[0])
    assert made.scores["ensemble"] == Failure(reason="ensemble_member", detail="b")


def test_it_asks_for_its_members_and_not_for_itself():
    builder = Ensemble(of=INNER, members=("a", "b"))
    assert builder.sources == {"outcome", "a", "b"} and builder.makes is PairSamples


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ("a",)}, r"samples\.members is \('a',\); name at least 2 sources, each once"),
        ({"members": ("a", "a")}, r"name at least 2 sources, each once"),
        ({"members": ("a", "ensemble")}, r"samples\.source is 'ensemble'; it must be no member"),
        ({"of": ProcessAdvantages()}, r"ProcessAdvantages inside reads \['prm'\]"),
        ({"source": ""}, r"samples\.source is ''"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**fields)
