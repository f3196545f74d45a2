"""A process reward model that sees its own resampling of the problems: a member of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from rlstep.scoring.step_models.prm import Prm
from rlstep.types import LabelSamples, Rollout


@dataclass(frozen=True, kw_only=True)
class BaggedPrm(Prm):
    """A PRM that counts each problem Poisson(1) times, by a draw fixed by its source's name.

    Bagging where data come in a stream (Oza and Russell 2001). Learners of one run that start from
    one folder, with heads of zeros and without dropout, train to the very same weights: an
    ensemble of them (see `Ensemble`) never disagrees. Members of this kind do, on what they have
    not seen alike. They still share their start, so they disagree too little; other folders, or
    other sizes, make better members.
    """

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        plain = super().samples(rollouts)
        kept = [
            (s, targets, times * weights)
            for s, targets, weights in zip(
                plain.sequences, plain.targets, plain.weights, strict=True
            )
            if (times := np.float32(_times(self.source, s.prompt_id)))
        ]
        return LabelSamples(
            sequences=tuple(s for s, _, _ in kept),
            targets=tuple(targets for _, targets, _ in kept),
            weights=tuple(weights for _, _, weights in kept),
        )


def _times(source: str, prompt_id: str) -> int:
    """How often this member counts the problem, the same in every iteration."""
    digest = sha256(f"{source}/{prompt_id}".encode()).digest()
    return int(np.random.default_rng(int.from_bytes(digest[:8], "big")).poisson(1.0))
