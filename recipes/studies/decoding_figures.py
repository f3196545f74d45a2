"""The figures of answers to the same problems over several seeds, of arms and of best-of-N."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlstep.measuring.aggregate import best_of_n
from rlstep.measuring.metrics import roc_auc

DRAWS = 4000
"""Of the bootstrap."""


def best_of(done: dict[str, Any], kind: str, n: float) -> np.ndarray:
    """float [problems]: expected outcome of the best of n samples by a PRM; between two whole
    numbers some problems have one sample more than the others."""

    def expected(row: Sequence[float | None], scores: Sequence[float | None], n: int) -> float:
        known = known_pairs(scores, row)
        if len(known) < n:
            return math.nan
        return best_of_n([s for s, _ in known], [r for _, r in known], n)

    whole = [(int(n), 1 - n % 1)] + [(int(n) + 1, n % 1)] * (n % 1 > 0)
    rows = zip(done["right"], done[kind], strict=True)
    return np.array([sum(w * expected(*row, k) for k, w in whole) for row in rows])


def known_pairs(
    scores: Sequence[float | None], right: Sequence[float | None]
) -> list[tuple[float, float]]:
    """Of the samples of which neither failed."""
    both = zip(scores, right, strict=True)
    return [(s, r) for s, r in both if s is not None and r is not None]


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the mean of [seeds, problems], both drawn again with replacement; nan is left out."""
    rng = np.random.default_rng(0)
    of_seeds, of_problems = (rng.multinomial(n, np.full(n, 1 / n), DRAWS) for n in values.shape)
    known = ~np.isnan(values)
    totals = (of_seeds @ np.where(known, values, 0.0) * of_problems).sum(1)
    numbers = (of_seeds @ known * of_problems).sum(1)
    low, high = np.percentile(totals[numbers > 0] / numbers[numbers > 0], [2.5, 97.5])
    return float(low), float(high)


def row_of(values: np.ndarray, tokens: float, against: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"accuracy": float(np.nanmean(values)), "tokens": tokens}
    row["interval"] = interval(values)
    for name, others in against.items():
        row[f"over_{name}"] = float(np.nanmean(values - others))
        row[f"over_{name}_interval"] = interval(values - others)
    return row


def matrix(done: Sequence[dict[str, Any]]) -> np.ndarray:
    """float [seeds, problems]; nan where an answer failed."""
    return np.array([one["right"] for one in done], dtype=np.float64)


def auc(done: dict[str, Any], kind: str) -> float:
    """Of the least step score for right against wrong samples."""
    rows = zip(done[kind], done["right"], strict=True)
    known = [pair for scores, right in rows for pair in known_pairs(scores, right)]
    return roc_auc([s for s, _ in known], [bool(r) for _, r in known])
