"""Flag and Krum: numbers by hand, laws over drawn gradients, what a faulty rank does to a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlstep.aggregation.aggregator import Aggregator, Weighted
from rlstep.aggregation.flag import Flag
from rlstep.aggregation.krum import Krum
from rlstep.aggregation.mean import Mean
from rlstep.config import LearnerConfig, ModelConfig

Matrix = NDArray[np.float64]
seeds = st.integers(0, 10_000)


@dataclass
class Rows:
    """Rank `rank` of the rows [p, d], as a learner hands them over."""

    rows: Matrix
    rank: int

    @property
    def ranks(self) -> int:
        return len(self.rows)

    @property
    def own(self) -> Sequence[Any]:
        return [self.rows[self.rank]]

    def gram(self) -> Matrix:
        return self.rows @ self.rows.T

    def scale(self, factor: float) -> None:
        self.rows[self.rank] *= factor


def aggregate(aggregator: Aggregator, rows: Matrix) -> Matrix:
    """[p, d] -> [d]: every rank aggregates, then the mean is taken."""
    done = np.empty_like(rows)
    for rank in range(len(rows)):
        mine = Rows(rows.copy(), rank)
        aggregator.aggregate(mine)
        done[rank] = mine.rows[rank]
    return done.mean(0)


def drawn(seed: int, ranks: int, noise: float, numbers: int = 50) -> Matrix:
    """A common direction, and noise of each rank's own."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(numbers) + noise * rng.standard_normal((ranks, numbers))
    return rows


def cosine(a: Matrix, b: Matrix) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# --- by hand --------------------------------------------------------------------------------------


def test_flag_by_hand():
    # x = e1, e1, e2 and lengths 2, 2, 6. The first Y is e1: v = 1, 1, 0 and w = 1e-7^(-1/4) twice,
    # about 1 (1 + 1e-7). So Y is e1 again. mean(x) = [2/3, 1/3], inside of Y [2/3, 0], and the
    # median length is 2: [4/3, 0].
    rows = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 6.0]])
    assert aggregate(Flag(), rows) == pytest.approx([4 / 3, 0.0])
    assert aggregate(Mean(), rows) == pytest.approx([4 / 3, 2.0])


def test_reweighing_brings_the_subspace_nearer_to_those_in_it():
    # Unit vectors at 0, 0 and 30 degrees. Plain: Y = the first left singular vector of X, at t with
    # tan 2t = sin 60 / (2 + cos 60) = 0.34641, t = 9.5532 degrees.
    angles = np.radians([0.0, 0.0, 30.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)

    def degrees(flag: Flag) -> float:
        x, y = aggregate(flag, rows)
        return float(np.degrees(np.arctan2(y, x)))

    assert degrees(Flag(iterations=0)) == pytest.approx(9.5532, abs=1e-3)
    # v = cos^2 9.5532 = 0.97246 twice, cos^2 20.4468 = 0.87796; w^2 = (1 - v)^(-1/2) = 6.0255,
    # 6.0255, 2.8625: tan 2t = 2.8625 sin 60 / (12.051 + 2.8625 cos 60) = 0.18387, t = 5.2094.
    assert degrees(Flag()) == pytest.approx(5.2094, abs=2e-3)


def test_krum_by_hand():
    # On a line: 0, 1, 2, 4, 100. Each has 5 - 1 - 2 = 2 neighbours: 0: 1 + 4, 1: 1 + 1, 2: 1 + 4,
    # 4: 4 + 9, 100: 96^2 + 98^2. It takes 1.
    rows = np.array([[0.0], [1.0], [2.0], [4.0], [100.0]])
    assert aggregate(Krum(), rows) == pytest.approx([1.0])


# --- laws -----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds, st.integers(3, 7))
def test_with_every_direction_flag_is_the_mean_of_the_normalised(seed: int, ranks: int):
    rows = drawn(seed, ranks, 2.0)
    lengths = np.linalg.norm(rows, axis=1)
    wanted = np.median(lengths) * (rows / lengths[:, None]).mean(0)
    assert aggregate(Flag(directions=ranks), rows) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("aggregator", [Mean(), Flag(), Flag(directions=3), Krum()])
@settings(max_examples=20)
@given(seed=seeds)
def test_of_identical_gradients_it_is_that_gradient(aggregator: Aggregator, seed: int):
    rows = np.repeat(drawn(seed, 1, 1.0), 5, 0)
    assert aggregate(aggregator, rows) == pytest.approx(rows[0], rel=1e-6)


@pytest.mark.parametrize("aggregator", [Flag(), Flag(directions=2), Krum()])
@settings(max_examples=20)
@given(seed=seeds)
def test_ranks_have_no_order_and_gradients_no_axes(aggregator: Weighted, seed: int):
    rows = drawn(seed, 6, 1.5)
    wanted = aggregate(aggregator, rows)
    rng = np.random.default_rng(seed)
    assert aggregate(aggregator, rng.permutation(rows)) == pytest.approx(wanted, abs=1e-8)
    turned = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    assert aggregate(aggregator, rows @ turned) == pytest.approx(wanted @ turned, abs=1e-8)
    assert aggregate(aggregator, 1e-6 * rows) == pytest.approx(1e-6 * wanted, abs=1e-14)


@pytest.mark.parametrize("scale", [-1.0, -20.0, 20.0])
@settings(max_examples=20)
@given(seed=seeds)
def test_one_of_eleven_does_not_turn_flag(scale: float, seed: int):
    rows = drawn(seed, 11, 0.5)
    honest = rows[1:].mean(0)
    rows[0] = scale * (
        rows[0] if scale < 0 else np.random.default_rng(seed + 1).standard_normal(50)
    )
    held, mean = (cosine(aggregate(a, rows), honest) for a in (Flag(), Mean()))
    assert held > 0.95 and held > mean - 0.01
    if abs(scale) > 1:
        assert held > mean + 0.05


@settings(max_examples=20)
@given(seeds)
def test_a_rank_without_a_micro_batch_takes_no_part(seed: int):
    rows = drawn(seed, 4, 0.5)
    rows[0] = 0.0
    # It counts in the mean alone: 3 of 4 parts of what the three others give.
    assert aggregate(Flag(), rows) == pytest.approx(0.75 * aggregate(Flag(), rows[1:]), abs=1e-9)


def test_nothing_and_what_is_not_finite_are_left_as_they_are():
    for rows in (np.zeros((4, 3)), np.full((4, 3), np.nan)):
        mine = Rows(rows.copy(), 0)
        assert Flag().aggregate(mine) == {} and np.array_equal(mine.rows, rows, equal_nan=True)


def test_the_shares_are_told():
    rows = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 6.0]])
    told = Flag().aggregate(Rows(rows, 0))
    # 4/3 of the first two alone: 2/3 of each, and that is 2 of the mean's 1/3.
    assert told == pytest.approx({"rank_0_share": 1.0, "rank_1_share": 1.0, "rank_2_share": 0.0})


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aggregation": Flag()}, "learner.world_size (with aggregation Flag) is 1; the smallest"),
        ({"aggregation": Flag(), "world_size": 2}, "the smallest valid value is 3"),
        ({"aggregation": Flag(directions=4), "world_size": 3}, "the smallest valid value is 4"),
        (
            {"aggregation": Krum(), "world_size": 4},
            "learner.world_size (with aggregation Krum) is 4; the smallest valid value is 5",
        ),
        ({"aggregation": Krum(faulty=2), "world_size": 6}, "the smallest valid value is 7"),
        (
            {"aggregation": Flag(), "world_size": 4, "zero_stage": 1},
            "learner.zero_stage is 1, and aggregation Flag needs the whole gradient of every rank;"
            " the only valid value is 0",
        ),
        (
            {
                "aggregation": Flag(),
                "world_size": 4,
                "model": ModelConfig(path="m", dtype="bfloat16"),
            },
            "learner.model.dtype is 'bfloat16', which is trained with ZeRO",
        ),
    ],
)
def test_what_cannot_be_aggregated_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        replace(LearnerConfig(model=ModelConfig(path="m")), **fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flag(directions=0), "flag.directions is 0; the smallest valid value is 1"),
        (lambda: Flag(iterations=-1), "flag.iterations is -1; the smallest valid value is 0"),
        (lambda: Krum(faulty=0), "krum.faulty is 0; the smallest valid value is 1"),
    ],
)
def test_wrong_numbers_are_refused(build: Any, message: str):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value)


def test_the_mean_stands_anywhere():
    for stage in (0, 1, 2, 3):
        LearnerConfig(model=ModelConfig(path="m"), zero_stage=stage, aggregation=Mean())
