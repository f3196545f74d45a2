"""Pairs whose order is surer than chance."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.ties import tolerance
from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Group, Pair, PairSamples, Rollout, Sequence
from rlstep.uncertainty.sigma import known_sigma
from rlstep.uncertainty.wrapper import Wrapper, rollout_of


@dataclass(frozen=True, kw_only=True)
class CertainPairs(Wrapper):
    """Another builder's pairs whose margin is more than k times the uncertainty of their sides.

    URME's filter (Lou et al. 2024, arXiv:2410.00847) for pairs of steps or completions: a side is
    as uncertain as the least sure of its trained steps, a pair as two independent sides,
    sqrt(sigma_chosen^2 + sigma_rejected^2). A side that the source never looked at (a rectification
    of which only the outcome counts) adds nothing; one with a trained step that it missed, or that
    it failed on, is dropped with its pair. Meant for pairs that are ordered by the same source;
    where outcomes order them, the margin is 1.
    """

    of: SampleBuilder = OutcomePairs()
    k: float = 1.0
    """0 keeps every pair whose trained steps have scores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("samples.k", self.k, 0.0)
        if self.of.makes is not PairSamples:
            raise ValueError(
                f"samples.of {type(self.of).__name__} makes {self.of.makes.__name__}; CertainPairs"
                " is for a builder of PairSamples"
            )

    def samples(self, groups: Seq[Group]) -> PairSamples:
        made = self.of.samples(groups)
        assert isinstance(made, PairSamples)
        by_id = {r.rollout_id: r for group in groups for r in group.rollouts}
        sigmas = [self._sigma(side, rollout_of(side, by_id)) for side in made.sequences]
        limits = [self.k * np.hypot(sigmas[p.chosen], sigmas[p.rejected]) for p in made.pairs]
        # Where a sigma is NaN the margin is above nothing; a margin of k sigmas is not above k.
        kept = [
            p
            for p, limit in zip(made.pairs, limits, strict=True)
            if p.margin > limit + tolerance([p.chosen_score, p.rejected_score, limit])
        ]
        return _with_pairs(made, kept)

    def _sigma(self, side: Sequence, rollout: Rollout) -> float:
        """Of the side's least sure trained step; NaN where the source has none for one of them."""
        if self.source not in rollout.scores:
            return 0.0
        each = known_sigma(rollout, self.source)
        return np.nan if each is None else float(each[side.step_index[side.loss_mask]].max())


def _with_pairs(made: PairSamples, kept: Seq[Pair]) -> PairSamples:
    """Only these pairs, and the sequences that stand in them."""
    used = sorted({side for pair in kept for side in (pair.chosen, pair.rejected)})
    place = {old: new for new, old in enumerate(used)}
    groups = len({made.sequences[pair.chosen].prompt_id for pair in kept})
    return PairSamples(
        sequences=tuple(made.sequences[i] for i in used),
        pairs=tuple(replace(p, chosen=place[p.chosen], rejected=place[p.rejected]) for p in kept),
        groups=groups,
        groups_without_signal=made.groups + made.groups_without_signal - groups,
    )
