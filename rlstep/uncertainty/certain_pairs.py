"""Pairs whose order is surer than chance."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Group, Pair, PairSamples, Sequence
from rlstep.uncertainty.sigma import step_sigma
from rlstep.uncertainty.wrapper import Wrapper, only, rollout_of


@dataclass(frozen=True, kw_only=True)
class CertainPairs(Wrapper):
    """Another builder's pairs whose margin is more than k times the uncertainty of their sides.

    URME's filter (Lou et al. 2024, arXiv:2410.00847) for pairs of steps or completions: a side is
    as uncertain as the least sure of its trained steps, a pair as two independent sides,
    sqrt(sigma_chosen^2 + sigma_rejected^2). Meant for pairs that are ordered by the same source;
    where outcomes order them, the margin is 1.
    """

    of: SampleBuilder = OutcomePairs()
    k: float = 1.0
    """0 keeps every pair."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("samples.k", self.k, 0.0)
        if self.of.makes is not PairSamples:
            raise ValueError(
                f"samples.of {type(self.of).__name__} makes {self.of.makes.__name__}; CertainPairs"
                " is for a builder of PairSamples"
            )

    def samples(self, groups: Seq[Group]) -> PairSamples:
        sure = only(groups, lambda rollout: step_sigma(rollout, self.source) is not None)
        made = self.of.samples(sure)
        assert isinstance(made, PairSamples)
        by_id = {r.rollout_id: r for group in sure for r in group.rollouts}

        def sigma(side: Sequence) -> float:
            each = step_sigma(rollout_of(side, by_id), self.source)
            assert each is not None, f"{side.sequence_id}: no uncertainty"
            return float(each[side.step_index[side.loss_mask]].max())

        sigmas = [sigma(side) for side in made.sequences]
        limits = [self.k * np.hypot(sigmas[p.chosen], sigmas[p.rejected]) for p in made.pairs]
        kept = [p for p, limit in zip(made.pairs, limits, strict=True) if p.margin > limit]
        return _with_pairs(made, kept)


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
