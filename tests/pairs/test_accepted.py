from __future__ import annotations

import pytest

from rlstep.pairs.accepted import AcceptedPairs
from rlstep.types import Failure, Rollout, RolloutScore
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def judged(name: str, tokens: list[int], share: float | None, of: str | None = None) -> Rollout:
    score = Failure(reason="tie") if share is None else RolloutScore(value=share)
    return make_rollout(name, [tokens], outcome=0.0, scores={"judge": score}, parent=of)


def found(*rollouts: Rollout, **fields) -> list[tuple[str, str]]:
    return names(AcceptedPairs(**fields).samples([make_group(*rollouts)]))


ROOT = judged("a", [11, 12, 13], 0.2)
ON_THE_WAY = judged("b", [11, 22, 13], 0.4, of="a")
GOOD = judged("c", [11, 22, 33], 0.8, of="b")


def test_the_accepted_one_against_the_answer_before_the_first_refinement() -> None:
    samples = AcceptedPairs().samples([make_group(ROOT, ON_THE_WAY, GOOD)])
    assert names(samples) == [("c[1:3]", "a[1:3]")]
    [pair] = samples.pairs
    assert (pair.chosen_score, pair.rejected_score, pair.provenance) == (0.8, 0.2, "accepted")
    assert pair.shared_prefix == 3  # the prompt's two tokens and 11


def test_the_best_of_each_original_and_of_equals_the_first() -> None:
    other, better = judged("d", [11, 44], 0.8, of="b"), judged("e", [11, 55], 1.0, of="a")
    assert found(ROOT, ON_THE_WAY, GOOD, other) == [("c[1:3]", "a[1:3]")]
    assert found(ROOT, ON_THE_WAY, GOOD, better) == [("e[1:2]", "a[1:3]")]
    second = judged("f", [15], 0.0)
    third = judged("g", [16], 0.6, of="f")
    assert found(ROOT, ON_THE_WAY, GOOD, second, third) == [("c[1:3]", "a[1:3]"), ("g", "f")]
    assert len(found(ROOT, ON_THE_WAY, GOOD, second, third, max_pairs=1)) == 1


@pytest.mark.parametrize(
    "rollouts",
    [
        (ROOT, judged("no more than half", [21], 0.5, of="a")),
        (judged("a", [11], 0.9), judged("no better", [21], 0.9, of="a")),
        (ROOT, judged("a tie", [21], None, of="a")),
        (judged("a", [11], None), judged("of a tie", [21], 1.0, of="a")),
        (ROOT, judged("the same", [11, 12, 13], 1.0, of="a")),
        (ROOT, judged("of none that is here", [21], 1.0, of="z")),
        (ROOT, judged("no refinement", [21], 1.0)),
    ],
    ids=lambda rollouts: rollouts[-1].rollout_id,
)
def test_what_is_no_pair(rollouts: tuple[Rollout, ...]) -> None:
    samples = AcceptedPairs().samples([make_group(*rollouts)])
    assert (samples.pairs, samples.groups_without_signal) == ((), 1)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs\.source is ''"):
        AcceptedPairs(source="")
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1"):
        AcceptedPairs(max_pairs=-1)
