"""The differential information of a policy over its reference, and its entropy.

Won et al. 2025, arXiv:2505.23761: q(y) = pi(y) / pi_ref(y) / Z is the distribution whose
preferences DPO's log-ratio fits. Where its entropy is low, training moves the policy towards few
answers; where it is high, it smooths the policy, and the chosen answers become less likely as well.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstep.types import Sequence


def differential_information(log_ratios: ArrayLike) -> NDArray[np.float64]:
    """q of some answers to one context, among these: float64 [n], of sum 1.

    Args:
        log_ratios: [n], n >= 1: log pi(y) - log pi_ref(y) of each, finite, in nats.
    """
    ratios = np.asarray(log_ratios, dtype=np.float64)
    weights = np.exp(ratios - ratios.max())
    return weights / weights.sum()


def entropy(shares: ArrayLike) -> float:
    """-sum q log q in nats, from 0 (all on one) to log n (all alike).

    Args:
        shares: [n], >= 0, of sum 1.
    """
    q = np.asarray(shares, dtype=np.float64)
    return float(-np.sum(q * np.log(np.where(q > 0, q, 1.0))))


def information_figures(sequences: Seq[Sequence], log_ratios: ArrayLike) -> dict[str, float]:
    """The entropy of q over the sampled answers, a mean over contexts.

    A context is what stands before the first trained token, an answer what follows it up to the
    last one. Equal answers are one; contexts with fewer than two are left out, and without any
    other there is no figure. It is of the answers that were handed to the learner: where pairs
    were chosen among a group's rollouts, of those that are in a pair.

    Args:
        sequences: N of them.
        log_ratios: [N], over the trained tokens.

    Returns:
        'information/entropy' in nats, and 'information/entropy_share' of its largest value, log n.
    """
    contexts: dict[bytes, dict[bytes, float]] = {}
    for each, ratio in zip(sequences, np.asarray(log_ratios, dtype=np.float64), strict=True):
        trained = np.flatnonzero(each.loss_mask)
        if len(trained):
            context, answer = np.split(each.token_ids[: trained[-1] + 1], [trained[0]])
            contexts.setdefault(context.tobytes(), {})[answer.tobytes()] = float(ratio)
    several = [list(answers.values()) for answers in contexts.values() if len(answers) > 1]
    if not several:
        return {}
    found = [entropy(differential_information(ratios)) for ratios in several]
    shares = [value / np.log(len(ratios)) for value, ratios in zip(found, several, strict=True)]
    return {
        "information/entropy": float(np.mean(found)),
        "information/entropy_share": float(np.mean(shares)),
    }
