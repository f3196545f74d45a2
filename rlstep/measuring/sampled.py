"""What several samples of a problem show: avg@k, pass@k, majority, best-of-k, weighted votes.

Everything is an expectation over which k of a problem's N samples are looked at, and then a mean
over problems: pass@k and best-of-k exactly (see `aggregate.best_of_n`), votes over many orders of
the samples. N samples, K steps of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from rlstep.measuring.aggregate import Aggregate, best_of_n, chain_score

ORDERS = 128
"""Least number of orders that a vote is averaged over."""
_TIED = 1e-9
"""Sums of weights that differ by less, of the largest, are equal: adding has an order."""

ACCURACY, PASS, MAJORITY = "accuracy", "pass", "majority"
"""'accuracy' is avg@N."""
AGGREGATES: tuple[str, ...] = (*get_args(Aggregate), "whole")
"""Of step scores; 'whole' is a score of the whole completion as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What is known of one completion of a problem."""

    value: float | None
    """Its outcome, in [0, 1]; None where it could not be verified."""
    answer: str
    """As it was read; '' where there was none."""
    scores: Mapping[str, Sequence[float] | float]
    """By source: of each step, or one of the whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledProblem:
    """The samples of one problem, those that were not generated left out."""

    prompt_id: str
    samples: Sequence[Sample]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measure at one k: a mean over problems."""

    k: int
    value: float
    standard_error: float | None
    """From the spread of the problems; None for a single one."""
    problems: int
    """Those with at least k samples to look at; others count neither as right nor as wrong."""


Curves = Mapping[str, Sequence[Point]]
"""By measure, of each k for which there is a problem."""
Rates = Mapping[str, NDArray[np.float64]]
"""By measure float64 [k's]: the expectations for one problem, NaN where it has too few samples."""


def best_of(source: str, aggregate: str) -> str:
    """The name of best-of-k by a source's scores."""
    return f"{source}/best/{aggregate}"


def vote_by(source: str, aggregate: str) -> str:
    """The name of the vote that is weighted by a source's scores."""
    return f"{source}/vote/{aggregate}"


def problem_rates(problem: SampledProblem, ks: Sequence[int]) -> Rates:
    """Every measure of one problem.

    'accuracy' is avg@N, at any k the same expectation. Samples without an outcome are left out, and
    of a source's measures those that it did not score as well. What has no answer casts no vote; no
    votes at all are wrong.
    """
    known = [s for s in problem.samples if s.value is not None]
    values = np.array([s.value for s in known], dtype=np.float64)
    average = values.mean() if len(values) else math.nan
    rates = {
        ACCURACY: np.full(len(ks), average),
        PASS: _best(values, values, ks),
        MAJORITY: _votes(known, np.ones((1, len(known))), ks)[0],
    }
    for source in sorted({source for s in problem.samples for source in s.scores}):
        rates |= _rates_by(source, [s for s in known if _has(s, source)], ks)
    return rates


def _rates_by(source: str, samples: Sequence[Sample], ks: Sequence[int]) -> Rates:
    given = [s.scores[source] for s in samples]
    values = np.array([s.value for s in samples], dtype=np.float64)
    if any(not isinstance(score, Sequence) for score in given):
        chains = {"whole": np.array(given, dtype=np.float64)}
    else:
        chains = {a: np.array([chain_score(s, a) for s in given]) for a in get_args(Aggregate)}
    votes = _votes(samples, np.array(list(chains.values())), ks)
    return {
        **{best_of(source, name): _best(chains[name], values, ks) for name in chains},
        **{vote_by(source, name): row for name, row in zip(chains, votes, strict=True)},
    }


def _has(sample: Sample, source: str) -> bool:
    """Whether it can be compared by a source: one without a step has no score."""
    score = sample.scores.get(source)
    return score is not None and bool(np.size(score)) and bool(np.isfinite(score).all())


def _best(
    scores: NDArray[np.float64], outcomes: NDArray[np.float64], ks: Sequence[int]
) -> NDArray[np.float64]:
    return np.array([best_of_n(scores, outcomes, k) if k <= len(scores) else math.nan for k in ks])


# --- votes ---------------------------------------------------------------------------------------


def _votes(
    samples: Sequence[Sample], weights: NDArray[np.float64], ks: Sequence[int]
) -> NDArray[np.float64]:
    answers = [s.answer for s in samples]
    values = np.array([s.value for s in samples], dtype=np.float64)
    return vote_rates(answers, weights, values, ks)


def vote_rates(
    answers: Sequence[str],
    weights: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    ks: Sequence[int],
) -> NDArray[np.float64]:
    """Expected outcome of the answer that k of N chains vote for, by their weights.

    As `aggregate.weighted_vote` on the first k of an order, averaged over orders: all of them for
    few chains, else rotations of random ones, so that every chain is looked at equally often. An
    answer's outcome is the mean of its chains'.

    Args:
        answers: [N], '' for none.
        weights: float64 [W, N], finite: W ways of weighing.
        outcomes: float64 [N].
        ks: NaN stands for those above N.

    Returns:
        float64 [W, k's].
    """
    names, rates = sorted(set(answers) - {""}), np.full((len(weights), len(ks)), math.nan)
    column = {name: i for i, name in enumerate(names)}
    said = np.array([column.get(answer, -1) for answer in answers])
    cast = (said[:, None] == np.arange(len(names))).astype(np.float64)  # [N, answers]
    worth = (cast.T @ outcomes) / cast.sum(0)
    place = _places(len(answers))
    # The first place of every answer in each order, [orders, answers].
    first = np.stack([place[:, said == i].min(1) for i in range(len(names))], 1) if names else None
    for at, k in enumerate(ks):
        if k <= len(answers):
            seen = (place < k).astype(np.float64)
            sums = [] if first is None else [seen @ (cast * row[:, None]) for row in weights]
            rates[:, at] = [_voted(total, first, k, worth) for total in sums] or 0.0
    return rates


def _voted(totals: NDArray[np.float64], first: Any, k: int, worth: NDArray[np.float64]) -> float:
    """Mean worth of the winners over all orders; the first of equals wins, nobody where none votes.

    Args:
        totals: float64 [orders, answers]: the sums of the first k weights.
        first: int64 [orders, answers].
        worth: float64 [answers].
    """
    totals = np.where(first < k, totals, -np.inf)
    highest = totals.max(1, keepdims=True)
    voted = np.isfinite(highest)
    margin = _TIED * np.abs(np.where(voted, highest, 0.0))
    winner = np.where(totals >= highest - margin, first, np.iinfo(np.int64).max).argmin(1)
    return float(np.where(voted[:, 0], worth[winner], 0.0).mean())


@lru_cache(maxsize=64)
def _places(samples: int) -> NDArray[np.int64]:
    """int64 [orders, N]: where each chain stands in each order."""
    if math.factorial(min(samples, 10)) <= ORDERS:
        orders = np.array(list(permutations(range(samples))), dtype=np.int64)
    else:
        random, rounds = np.random.default_rng(samples), math.ceil(ORDERS / samples)
        bases = [random.permutation(samples) for _ in range(rounds)]
        orders = np.array([np.roll(base, turn) for base in bases for turn in range(samples)])
    return np.argsort(orders, axis=1)


# --- over problems -------------------------------------------------------------------------------


def curves(problems: Iterable[SampledProblem], ks: Sequence[int]) -> Curves:
    """Every measure over all problems."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for problem in problems:
        for name, rates in problem_rates(problem, ks).items():
            found.setdefault(name, []).append(rates)
    return {name: tuple(_points(np.array(rows), ks)) for name, rows in found.items()}


def _points(rates: NDArray[np.float64], ks: Sequence[int]) -> Iterable[Point]:
    """Args: rates: float64 [problems, k's]."""
    for at, k in enumerate(ks):
        there = rates[~np.isnan(rates[:, at]), at]
        if not len(there):
            continue
        error = float(there.std(ddof=1) / np.sqrt(len(there))) if len(there) > 1 else None
        yield Point(k=k, value=float(there.mean()), standard_error=error, problems=len(there))
