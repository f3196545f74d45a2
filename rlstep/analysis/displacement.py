"""Likelihood displacement: where the two sides of preference pairs went."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstep.types import Floats, PairSamples, Sequence


def trained_logprobs(sequences: Seq[Sequence], rows: Seq[Floats]) -> NDArray[np.float64]:
    """float64 [N]: the logprob of each sequence's trained tokens, a sum, in nats.

    Args:
        rows: float32 [L] each, a logprob a token; what stands outside the mask means nothing.
    """
    return np.array(
        [
            row[each.loss_mask].sum(dtype=np.float64)
            for each, row in zip(sequences, rows, strict=True)
        ]
    )


def displacement(samples: PairSamples, before: ArrayLike, after: ArrayLike) -> dict[str, float]:
    """What some updates did to the pairs that they were made on.

    A preference loss sees the difference of the two sides only, so that both may become less likely
    (Razin et al. 2024, arXiv:2410.08847). Without a pair there is no figure.

    Args:
        before: [N], the logprob of each sequence's trained tokens before the first update.
        after: [N], after the last one.

    Returns:
        'displacement/chosen_fell', the share of pairs whose chosen side became less likely, and
        'displacement/chosen_change' and 'displacement/rejected_change', means in nats.
    """
    if not samples.pairs:
        return {}
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    chosen = change[[pair.chosen for pair in samples.pairs]]
    rejected = change[[pair.rejected for pair in samples.pairs]]
    return {
        "displacement/chosen_fell": float(np.mean(chosen < 0)),
        "displacement/chosen_change": float(chosen.mean()),
        "displacement/rejected_change": float(rejected.mean()),
    }
