"""One pair a prompt: its longest correct completion against a random wrong one."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, Side, assemble, candidates, distinct, in_order
from rlstep.tensors.sequences import sequence
from rlstep.types import Group, PairSamples, Verdict

GRADES = {Verdict.CORRECT: 1.0, Verdict.WRONG: 0.0, Verdict.UNPARSABLE: -1.0}
"""DPO-VP's scores; an answer that cannot be read counts less than a wrong one."""


@dataclass(frozen=True, kw_only=True)
class LongestCorrectPairs(SampleBuilder):
    """The longest completion of the highest grade against a random one of the lowest.

    DPO-VP (Tu et al. 2025, arXiv:2503.12854): correct answers grade 1, wrong ones 0, unparsable
    ones -1. So the longest correct one is chosen, or where none is correct the longest wrong one,
    and an unparsable one is rejected, or where there is none a wrong one. The released rule would
    also pair two wrong ones; equal grades give no pair here. Which one is rejected depends on the
    ids alone. Teaches length: watch it.
    """

    makes: ClassVar[type] = PairSamples

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "longest_correct")

    def _candidates(self, group: Group) -> list[Candidate]:
        graded = distinct(
            Side(sequence=sequence(rollout), score=GRADES[rollout.outcome.verdict])
            for rollout in in_order(group)
            if rollout.outcome is not None
        )
        if not graded:
            return []
        chosen = max(graded, key=lambda side: (side.score, side.sequence.loss_mask.sum()))
        rejected = min(graded, key=lambda side: (side.score, _draw(side)))
        return candidates([chosen, rejected])


def _draw(side: Side) -> bytes:
    """As good as random, and fixed by the id: whoever has the lowest is drawn."""
    return blake2b(side.sequence.sequence_id.encode(), digest_size=8).digest()
