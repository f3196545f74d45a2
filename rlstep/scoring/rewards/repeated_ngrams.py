"""A penalty for saying the same few words again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlstep.checks import at_least, named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.types import Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class RepeatedNgrams(EachRollout):
    """Minus the share of a completion's n-grams of tokens that it has said before.

    With G n-grams of which D are distinct: -(1 - D / G), in [-1, 0]; 0 for a completion of fewer
    than n tokens. One number a completion out of the n-gram penalty that Yeo et al. 2025
    (arXiv:2502.03373) give token by token against padded chains of thought.
    """

    n: int = 8
    """Tokens of an n-gram. Short ones repeat in sound solutions as well."""
    source: str = "repetition"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        at_least("repeated_ngrams.n", self.n, 1)
        named("repeated_ngrams.source", self.source)

    def score(self, rollout: Rollout) -> RolloutScore:
        completion = rollout.completion
        if len(completion.token_ids) < self.n:
            return RolloutScore(value=0.0)
        windows = np.lib.stride_tricks.sliding_window_view
        said = windows(completion.sampled, self.n).all(axis=1)  # an environment may repeat itself
        ngrams = windows(completion.token_ids, self.n)[said]
        if not len(ngrams):
            return RolloutScore(value=0.0)
        total, distinct = len(ngrams), len({ngram.tobytes() for ngram in ngrams})
        return RolloutScore(
            value=distinct / total - 1.0, detail=f"{distinct} of {total} {self.n}-grams distinct"
        )
