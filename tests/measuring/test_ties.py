"""Numbers that are equal but for rounding, in whatever unit."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.rloo import Rloo
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.metrics import rollout_metrics
from rlstep.measuring.ties import cleared, settled, tied, tolerance
from rlstep.pairs.outcome import OutcomePairs
from rlstep.scoring.rewards.weighted_sum import WeightedSum
from rlstep.types import Group, Rollout, RolloutScore
from tests.builders import make_group, make_outcome, make_rollout

UNITS = [1e-9, 1e-6, 1.0, 1e6, 1e12]
ROUNDED = [
    (0.1 + 0.2, 0.3),
    (0.7 + 0.1, 0.8),
    (0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1),
    (0.1 * 3, 0.3),
    (1.1 + 2.2, 3.3),
    (0.15 + 0.15 + 0.15, 0.45),
    (1 / 3 + 1 / 3 + 1 / 3, 1.0),
    (float(np.float32(0.1)), 0.1),
    (float(np.float32(1 / 3)), 1 / 3),
    (-0.1 - 0.2, -0.3),
    (1 - 0.9, 0.1),
    (0.1 + 0.2 - 0.3, 0.0),
]
DIFFERENT = [(0.3, 0.301), (1.0, 0.999), (0.0, 1e-4), (-0.1, 0.1), (1.0, 1.0 + 1e-5), (5.0, 5.01)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("pair", ROUNDED, ids=repr)
def test_rounding_is_a_tie_in_every_unit(pair: tuple[float, float], unit: float):
    if pair[1] == 0.0 and unit > 1.0:
        pytest.skip("what is left of parts that cancel is only known to whoever adds them")
    values = [unit * value for value in pair]
    assert tied(values) and len(set(settled(values))) == 1


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("pair", DIFFERENT, ids=repr)
def test_a_difference_is_none_in_no_unit(pair: tuple[float, float], unit: float):
    values = [unit * value for value in pair]
    assert not tied(values) and settled(values).tolist() == values


def test_settling_worked_by_hand():
    # The largest is 1, so the tolerance 1e-6: 0.3 and its neighbour are one, 0.31 and 1 their own.
    # Of two the lower is in the middle.
    found = settled([0.1 + 0.2, 1.0, 0.3, 0.31])
    assert found.tolist() == [0.3, 1.0, 0.3, 0.31]
    assert tolerance([0.5, -2.0]) == 2e-6 and tolerance([]) == 1e-15 == tolerance([0.0])
    assert settled([]).tolist() == [] and settled([0.7]).tolist() == [0.7]
    assert tied([]) and tied([0.3])
    assert cleared(np.array([1e-7, -0.5]), [1.0, 0.5]).tolist() == [0.0, -0.5]


@given(
    values=st.lists(st.integers(-50, 50).map(lambda n: n / 10), min_size=1, max_size=12),
    seed=st.integers(0, 999),
)
def test_settling_undoes_rounding_in_any_order(values: list[float], seed: int):
    random = np.random.default_rng(seed)
    shaken = np.array(values) * (1 + 1e-12 * random.uniform(-1, 1, len(values)))
    found = settled(shaken)
    np.testing.assert_allclose(found, values, rtol=1e-11)
    assert (found[:, None] == found).tolist() == (
        np.equal.outer(np.array(values), np.array(values)).tolist()
    )
    order = random.permutation(len(values))
    assert settled(shaken[order]).tolist() == found[order].tolist()


TENTHS = [n / 10 for n in range(1, 10)]


def weighted(parts: dict[str, float], name: str, weights: dict[str, float]) -> Rollout:
    scores = {source: RolloutScore(value=value) for source, value in parts.items()}
    rollout = make_rollout(name, [[11 + ord(name)]], scores=scores).with_scores(
        outcome=make_outcome(1.0)
    )
    return rollout.with_scores(reward=WeightedSum(weights=weights).score(rollout))


@cache
def ordinary() -> list[Group]:
    """Two rewards that are one number on paper: a + b + c against their sum, for 729 weightings of
    tenths; and a + b + c less their sum against nothing."""
    groups = []
    for a, b, c in product(TENTHS, TENTHS, TENTHS):
        weights = {"form": a, "length": b, "language": c, "test": round(a + b + c, 1)}
        parts = {"form": 1.0, "length": 1.0, "language": 1.0, "test": 0.0}
        opposite = {name: 1.0 - value for name, value in parts.items()}
        groups.append(pair(weights, parts, opposite))
        weights["test"] *= -1.0
        groups.append(pair(weights, dict.fromkeys(parts, 1.0), dict.fromkeys(parts, 0.0)))
    return groups


def pair(weights: dict[str, float], one: dict[str, float], other: dict[str, float]) -> Group:
    return make_group(weighted(one, "a", weights), weighted(other, "b", weights))


def test_ordinary_weightings_are_rounded_often():
    apart = [len({r.whole_score("reward") for r in g.rollouts}) > 1 for g in ordinary()]
    assert sum(apart) > 150  # or the next test shows nothing


@pytest.mark.parametrize(
    "builder",
    [
        *(GroupAdvantages(source="reward", std=s) for s in ("population", "sample", "none")),
        GroupAdvantages(source="reward", std="leave_one_out"),
        Rloo(source="reward"),
        OutcomePairs(source="reward"),
    ],
    ids=repr,
)
def test_no_ordinary_weighting_makes_signal_of_rounding(builder: SampleBuilder):
    for group in ordinary():
        samples = builder.samples([group])
        assert samples.sequences == ()


def test_two_rounded_others_have_no_scale_of_their_own():
    # 1 beside two 0.3: the others of the 1 have no std, so it is the group's, 0.329983; their mean
    # is 0.3: 0.7 / 0.329983 = 2.121320.
    parts = [{"form": 1.0}, {"form": 0.3}, {"form": 0.1 + 0.2}]
    group = make_group(
        *(weighted(p, name, {"form": 1.0}) for p, name in zip(parts, "abc", strict=True))
    )
    builder = GroupAdvantages(source="reward", std="leave_one_out")
    ((first, *_),) = builder.advantages([group])
    assert first[1].tolist() == pytest.approx([2.121320], abs=1e-6)


def test_a_margin_of_three_tenths_is_one():
    group = make_group(
        *(weighted({"form": v}, n, {"form": 1.0}) for v, n in ((0.7, "a"), (0.4, "b")))
    )
    assert 0.7 - 0.4 < 0.3
    assert len(OutcomePairs(source="reward", min_margin=0.3).samples([group]).pairs) == 1
    assert len(OutcomePairs(source="reward", min_margin=0.31).samples([group]).pairs) == 0


def test_the_metric_counts_the_groups_that_the_estimators_leave_out():
    outcomes = [(0.1 + 0.2, 0.3), (0.3, 0.3), (0.3, 0.4)]
    groups = [
        make_group(*(make_rollout(f"{i}", [[11]], outcome=v) for i, v in enumerate(values)))
        for values in outcomes
    ]
    assert rollout_metrics(groups)["rollout/without_signal"] == pytest.approx(2 / 3)
