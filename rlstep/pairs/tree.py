"""Pairs at every place where the rollouts of a prompt part, valued by what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Literal

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.ties import settled
from rlstep.pairs.assemble import Candidate, Which, assemble, from_divergence, in_order, ordered
from rlstep.pairs.divergence import Divergence, divergences
from rlstep.types import Group, PairSamples, Rollout


@dataclass(frozen=True, kw_only=True, eq=False)
class Sibling:
    """One of the different steps after a prefix, with everything that was sampled through it."""

    leaves: tuple[tuple[float, Rollout], ...]
    """(outcome, rollout) of those that have an outcome."""

    @property
    def score(self) -> float:
        """Mean outcome: the value Q of a tree search that backs up outcomes."""
        return sum(outcome for outcome, _ in self.leaves) / len(self.leaves)

    @property
    def best(self) -> Rollout:
        return max(self.leaves, key=lambda leaf: leaf[0])[1]

    @property
    def worst(self) -> Rollout:
        return min(self.leaves, key=lambda leaf: leaf[0])[1]


@dataclass(frozen=True, kw_only=True)
class TreePairs(SampleBuilder):
    """Siblings in the tree of a prompt's rollouts, ordered by the mean outcome below them.

    MCTS-DPO's pairs (Xie et al. 2024, arXiv:2405.00451) over rollouts that were sampled already:
    wherever step prefixes part, a sibling's value is the mean outcome of the rollouts through it
    (its visits), and of equal values the more visited is the better. Trained from the divergence
    on, the first differing token included; what both sides say before it is not.
    """

    makes: ClassVar[type] = PairSamples

    which: Which = "best_worst"
    """Of the siblings after one prefix: the best with the worst or, as the released code can, with
    the second best."""
    end: Literal["step", "completion"] = "step"
    """Train to the end of the differing step, or on to the end of one completion: the best below
    the chosen sibling, the worst below the rejected."""
    min_visits: int = 1
    """Siblings with fewer rollouts with an outcome stand aside."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the two values."""

    def __post_init__(self) -> None:
        at_least("pairs.min_visits", self.min_visits, 1)
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    def samples(self, groups: Seq[Group]) -> PairSamples:
        found = []
        for group in groups:
            outcomes = _outcomes(group)
            parted = divergences(in_order(group))
            found.append([c for at in parted for c in self._candidates(at, outcomes)])
        return assemble(found, "tree", self.max_pairs)

    def _candidates(self, at: Divergence, outcomes: Mapping[str, float]) -> list[Candidate]:
        siblings = [
            Sibling(
                leaves=tuple(
                    (outcomes[r.rollout_id], r) for r in rollouts if r.rollout_id in outcomes
                )
            )
            for rollouts in at.siblings
        ]
        visited = [s for s in siblings if len(s.leaves) >= self.min_visits]
        visited.sort(key=lambda sibling: len(sibling.leaves), reverse=True)
        found = []
        for better, worse in ordered(visited, self.which, self.min_margin):
            chosen, rejected = better.best, worse.worst
            ends = [
                r.steps[at.step].end if self.end == "step" else None for r in (chosen, rejected)
            ]
            if cut := from_divergence(chosen, rejected, *ends):
                found.append(
                    Candidate(
                        chosen=cut[0],
                        rejected=cut[1],
                        chosen_score=better.score,
                        rejected_score=worse.score,
                    )
                )
        return found


def _outcomes(group: Group) -> dict[str, float]:
    """By rollout, of those that have one; what is equal but for rounding is made equal."""
    known = {r.rollout_id: r.outcome.value for r in group.rollouts if r.outcome is not None}
    return dict(zip(known, settled(list(known.values())).tolist(), strict=True))
