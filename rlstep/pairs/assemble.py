"""What every pair builder shares: choosing among candidates and listing each sequence once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.sequences import shared_prefix
from rlstep.types import Pair, PairSamples, Sequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A pair before its sequences have positions."""

    chosen: Sequence
    rejected: Sequence
    chosen_score: float
    rejected_score: float


def spread(candidates: Seq[Candidate], most: int) -> list[Candidate]:
    """At most `most` candidates (0: all), each time the one whose sides were used least so far.

    Ties go to the earlier candidate, so the choice depends on nothing but the candidates.
    """
    if most == 0 or len(candidates) <= most:
        return list(candidates)
    used: Counter[str] = Counter()
    rest = list(candidates)
    taken: list[Candidate] = []
    while len(taken) < most:
        best = min(rest, key=lambda c: used[c.chosen.sequence_id] + used[c.rejected.sequence_id])
        rest.remove(best)
        taken.append(best)
        used.update((best.chosen.sequence_id, best.rejected.sequence_id))
    return taken


def assemble(candidates_per_group: Seq[Seq[Candidate]], provenance: str) -> PairSamples:
    """Pairs over sequences that are listed once, in the order of their first appearance."""
    sequences: dict[str, Sequence] = {}
    positions: dict[str, int] = {}
    pairs: list[Pair] = []

    def position(side: Sequence) -> int:
        sequences.setdefault(side.sequence_id, side)
        return positions.setdefault(side.sequence_id, len(positions))

    for candidates in candidates_per_group:
        for candidate in candidates:
            chosen, rejected = candidate.chosen, candidate.rejected
            pairs.append(
                Pair(
                    chosen=position(chosen),
                    rejected=position(rejected),
                    shared_prefix=shared_prefix(chosen.token_ids, rejected.token_ids),
                    chosen_score=candidate.chosen_score,
                    rejected_score=candidate.rejected_score,
                    provenance=provenance,
                )
            )
    with_signal = sum(1 for candidates in candidates_per_group if candidates)
    return PairSamples(
        sequences=tuple(sequences.values()),
        pairs=tuple(pairs),
        groups=with_signal,
        groups_without_signal=len(candidates_per_group) - with_signal,
    )
