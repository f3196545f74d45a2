"""What every pair builder shares: scoring and ordering sides, choosing among candidates, listing
each sequence once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol, TypeAlias, TypeVar

from rlstep.measuring.aggregate import Aggregate, chain_score
from rlstep.measuring.ties import settled, tolerance
from rlstep.tensors.sequences import labelled_scores, sequence, shared_prefix
from rlstep.types import Group, Pair, PairSamples, Rollout, Sequence

Which: TypeAlias = Literal["all", "best_worst", "best_second"]
"""All pairs, the best against the worst, or the best against the best of those that score lower."""


class Scored(Protocol):
    """Anything with a score to order it by."""

    @property
    def score(self) -> float: ...


ScoredT = TypeVar("ScoredT", bound=Scored)


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """A sequence that may become chosen or rejected."""

    sequence: Sequence
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A pair before its sequences have positions."""

    chosen: Sequence
    rejected: Sequence
    chosen_score: float
    rejected_score: float


def in_order(group: Group) -> list[Rollout]:
    """Sorted by sample: the pairs depend on nothing that finished first."""
    return sorted(group.rollouts, key=lambda r: (r.sample_index, r.rollout_id))


def score_of(rollout: Rollout, source: str, aggregate: Aggregate) -> float | None:
    """The aggregated step scores of a source, or the outcome's value where the source is ''.

    None where the score failed, has not run or leaves a step without a label.
    """
    if not source:
        return None if rollout.outcome is None else rollout.outcome.value
    scores = labelled_scores(rollout, source)
    if scores is None or not len(scores):
        return None
    return chain_score(scores, aggregate)


def whole(rollout: Rollout, source: str) -> Sequence | None:
    """The whole rollout with a source's step scores ('': none), None where they are missing."""
    if not source:
        return sequence(rollout)
    scores = labelled_scores(rollout, source)
    return None if scores is None else sequence(rollout, step_scores=scores)


def distinct(sides: Iterable[Side]) -> list[Side]:
    """The first of all sides that train the same tokens; those that train none are left out."""
    found: dict[tuple[str, bytes, bytes], Side] = {}
    for side in sides:
        if side.sequence.loss_mask.any():
            found.setdefault(content(side.sequence), side)
    return list(found.values())


def content(s: Sequence) -> tuple[str, bytes, bytes]:
    """What makes two sequences the same one: prompt, tokens, and which of them are trained."""
    return s.prompt_id, s.token_ids.tobytes(), s.loss_mask.tobytes()


def ordered(
    items: Seq[ScoredT], which: Which = "all", min_margin: float = 0.0
) -> list[tuple[ScoredT, ScoredT]]:
    """(better, worse) by score; scores that are equal but for rounding order nothing.

    Args:
        items: where scores are equal, the earlier counts as the better one.
        min_margin: least difference of the two scores.
    """
    scores = settled([item.score for item in items])
    least = min_margin - tolerance(scores)  # 0.7 - 0.4 is a margin of 0.3
    ranked = sorted(range(len(items)), key=lambda i: -scores[i])
    pairs: Iterable[tuple[int, int]]
    if which == "all":
        pairs = combinations(ranked, 2)
    else:
        lower = [i for i in ranked[1:] if scores[i] < scores[ranked[0]]]
        pairs = [(ranked[0], lower[0 if which == "best_second" else -1])] if lower else []
    return [
        (items[i], items[j])
        for i, j in pairs
        if scores[i] > scores[j] and scores[i] - scores[j] >= least
    ]


def candidates(
    sides: Iterable[Side], which: Which = "all", min_margin: float = 0.0
) -> list[Candidate]:
    """Pairs among the distinct ones of some sides; see `ordered`."""
    return [
        Candidate(
            chosen=better.sequence,
            rejected=worse.sequence,
            chosen_score=better.score,
            rejected_score=worse.score,
        )
        for better, worse in ordered(distinct(sides), which, min_margin)
    ]


def from_divergence(
    a: Rollout, b: Rollout, a_end: int | None = None, b_end: int | None = None
) -> tuple[Sequence, Sequence] | None:
    """Two rollouts of one prompt, each trained from its first token that differs from the other's.

    Args:
        a_end: where a's completion is cut, a step's end; None keeps all of it.
        b_end: the same for b.

    Returns:
        None where one is the beginning of the other, or has sampled no token behind it.
    """
    a_ids, b_ids = a.completion.token_ids[:a_end], b.completion.token_ids[:b_end]
    start = shared_prefix(a_ids, b_ids)
    if start == min(len(a_ids), len(b_ids)):
        return None
    cut = sequence(a, start=start, end=a_end), sequence(b, start=start, end=b_end)
    return cut if all(side.loss_mask.any() for side in cut) else None


def spread(found: Seq[Candidate], most: int) -> list[Candidate]:
    """At most `most` candidates (0: all), each time the one whose sides were used least so far.

    Ties go to the earlier candidate, so the choice depends on nothing but the candidates.
    """
    if most == 0 or len(found) <= most:
        return list(found)
    used: Counter[str] = Counter()
    rest = list(found)
    taken: list[Candidate] = []
    while len(taken) < most:
        best = min(rest, key=lambda c: used[c.chosen.sequence_id] + used[c.rejected.sequence_id])
        rest.remove(best)
        taken.append(best)
        used.update((best.chosen.sequence_id, best.rejected.sequence_id))
    return taken


def assemble(
    candidates_per_group: Seq[Seq[Candidate]], provenance: str, max_pairs: int = 0
) -> PairSamples:
    """Pairs over sequences that are listed once, in the order of their first appearance.

    Two candidates that train the same tokens against the same tokens are one.

    Args:
        max_pairs: per group, see `spread`; 0 keeps all.
    """
    sequences: list[Sequence] = []
    positions: dict[tuple[str, bytes, bytes], int] = {}
    pairs: list[Pair] = []

    def position(side: Sequence) -> int:
        key = content(side)
        if key not in positions:
            positions[key] = len(sequences)
            sequences.append(side)
        return positions[key]

    for group in candidates_per_group:
        unlike: dict[tuple, Candidate] = {}
        for candidate in group:
            unlike.setdefault((content(candidate.chosen), content(candidate.rejected)), candidate)
        for candidate in spread(list(unlike.values()), max_pairs):
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
    with_signal = sum(1 for group in candidates_per_group if group)
    return PairSamples(
        sequences=tuple(sequences),
        pairs=tuple(pairs),
        groups=with_signal,
        groups_without_signal=len(candidates_per_group) - with_signal,
    )
