from __future__ import annotations

import pytest

from rlstep.losses.score_offset_dpo import ScoreOffsetDpo
from rlstep.pairs.ranked import RankedPairs
from rlstep.types import Failure, PairSamples, Rollout, RolloutScore
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def rollout(name: str, token: int, score: float | None, outcome: float = 0.0) -> Rollout:
    made = make_rollout(name, [[token], [99]], outcome=outcome)
    lost = Failure(reason="part_failed")
    return made.with_scores(reward=lost if score is None else RolloutScore(value=score))


GROUP = [
    rollout("a", 11, 0.25),
    rollout("b", 12, 1.5, 1.0),
    rollout("c", 13, 0.0),
    rollout("failed", 14, None, 1.0),
    rollout("d", 12, 1.5, 1.0),  # says what b says
    rollout("e", 15, 2.0, 1.0),
    rollout("f", 16, 0.0),
]


def made(*rollouts: Rollout, **fields: object) -> PairSamples:
    return RankedPairs(**fields).samples([make_group(*rollouts)])  # type: ignore[arg-type]


def test_the_best_region_against_the_worst_by_hand():
    # Ranked: e 2.0, b 1.5, a 0.25, then c and f at 0.0, of which the later is the worst.
    samples = made(*GROUP)
    assert names(samples) == [("e", "f")]
    (pair,) = samples.pairs
    assert (pair.chosen_score, pair.rejected_score, pair.margin) == (2.0, 0.0, 2.0)
    assert pair.provenance == "ranked" and samples.groups == 1
    assert samples.sequences[0].loss_mask.tolist() == [False, False, True, True]


def test_all_of_them_and_those_far_enough_apart():
    # Five different candidates have 5 * 4 / 2 pairs; c and f are equal: 9 of 10.
    everyone = made(*GROUP, which="all")
    assert len(everyone.pairs) == 9 and all(pair.margin > 0.0 for pair in everyone.pairs)
    assert names(made(*GROUP, which="best_second")) == [("e", "b")]
    # At least 1.5 apart: e-a 1.75, e-c 2, e-f 2, b-c 1.5, b-f 1.5.
    wide = made(*GROUP, which="all", min_margin=1.5)
    assert names(wide) == [("e", "a"), ("e", "c"), ("e", "f"), ("b", "c"), ("b", "f")]
    assert len(made(*GROUP, which="all", max_pairs=2).pairs) == 2


def test_the_score_decides_and_not_the_outcome():
    # A right answer from the wrong region (0 + 1) against a wrong one from the right (1.25).
    lucky, honest = rollout("lucky", 11, 1.0, outcome=1.0), rollout("honest", 12, 1.25)
    assert names(made(lucky, honest)) == [("honest", "lucky")]
    assert names(made(lucky, honest, source="outcome")) == [("lucky", "honest")]
    assert RankedPairs().sources == {"reward"} and RankedPairs.makes is ScoreOffsetDpo.takes


def test_no_signal_is_counted():
    same = [rollout("a", 11, 0.5), rollout("b", 12, 0.5), rollout("c", 13, None)]
    samples = made(*same)
    assert not samples.pairs and (samples.groups, samples.groups_without_signal) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": ""}, "pairs.source"),
        ({"min_margin": -0.5}, "pairs.min_margin is -0.5; the smallest valid value is 0.0"),
        ({"max_pairs": -1}, "pairs.max_pairs is -1; the smallest valid value is 0"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        RankedPairs(**fields)  # type: ignore[arg-type]
