"""Numbers to look at, from groups and scores.

A metric's name is '<room>/<what>': 'rollout/accuracy', 'eval/accuracy', 'train/loss', 'prm/auc',
'sync/parity_error', 'time/iteration'. Its x axis is 'iteration'. A metric that has nothing to
average is left out: there is no accuracy of no verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlstep.measuring.ties import tied
from rlstep.types import (
    Failure,
    Group,
    Rollout,
    RolloutScore,
    StepScores,
    TokenScores,
    Verdict,
)

Record = Mapping[str, float]
"""The metrics of one iteration by name, with the iteration itself under 'iteration'."""


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that a random positive scores above a random negative; a tie counts one half.

    From the rank sum of the positives, tied scores sharing their mean rank (Mann and Whitney 1947).

    Args:
        scores: float [N], finite.
        labels: bool [N], True for a positive.

    Raises:
        ValueError: a score is not finite, or one of the two classes is missing.
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    assert values.ndim == 1 and values.shape == positive.shape
    if not np.isfinite(values).all():
        raise ValueError("scores: not finite; an AUC needs finite scores")
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not (positives and negatives):
        raise ValueError(
            f"labels: {positives} positives, {negatives} negatives; an AUC needs at least 1 of each"
        )
    _, index, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2  # the mean 1-based rank of each distinct score
    rank_sum = ranks[index][positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """The items whose score lies in one part of [0, 1]."""

    low: float
    """Where the part begins; it ends where the next one does, the last at 1 inclusive."""
    score: float
    """Mean score."""
    share: float
    """Share of positives; equal to the score for a calibrated scorer."""
    number: int
    """Items, at least 1."""


def reliability_curve(
    scores: ArrayLike, labels: ArrayLike, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """How often a score of 0.7 is right: the non-empty ones of `bins` equal parts of [0, 1].

    Args:
        scores: float [N], probabilities.
        labels: bool [N], True for a positive.

    Raises:
        ValueError: a score is not in [0, 1].
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    assert values.ndim == 1 and values.shape == positive.shape
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("scores: not all in [0, 1]; calibration is about probabilities")
    inner = np.arange(1, bins) / bins
    part = np.searchsorted(inner, values, side="right")  # a score on an edge is in the upper part
    return tuple(
        ReliabilityBin(
            low=float(i / bins),
            score=float(values[part == i].mean()),
            share=float(positive[part == i].mean()),
            number=int((part == i).sum()),
        )
        for i in np.unique(part)
    )


def calibration_error(curve: Sequence[ReliabilityBin]) -> float:
    """ECE: mean over all items of their bin's |mean score - share of positives|, in [0, 1].

    Guo et al. 2017 (arXiv:1706.04599, eq. 3). Raises: ValueError: the curve is empty.
    """
    if not curve:
        raise ValueError("curve: no bin; a calibration error needs at least 1 item")
    items = sum(each.number for each in curve)
    return sum(each.number * abs(each.score - each.share) for each in curve) / items


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Share of correct answers, every problem weighing the same."""

    value: float
    """In [0, 1]."""
    standard_error: float | None
    """Of `value`, None for a single problem."""
    problems: int
    """Problems with at least one verdict."""


def accuracy(groups: Iterable[Group]) -> Accuracy | None:
    """Mean over problems of the share of correct rollouts, None without a single verdict.

    The answers to one problem are not independent, so the standard error is that of the problems'
    means. Branches are left out: they were drawn because of what their parents did. What failed to
    be verified is not counted, neither as correct nor as wrong.
    """
    outcomes = (_outcome_values(r for r in group.rollouts if r.parent is None) for group in groups)
    means = np.array([np.mean(values) for values in outcomes if values], dtype=np.float64)
    if not len(means):
        return None
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None
    return Accuracy(value=float(means.mean()), standard_error=error, problems=len(means))


def rollout_metrics(
    groups: Sequence[Group], version: int | None = None, prefix: str = "rollout"
) -> dict[str, float]:
    """What a batch of groups looks like.

    Args:
        groups: training groups, or those of an evaluation.
        version: the policy version now; with it the lag of each rollout's oldest token is given.
        prefix: the first half of every name, 'rollout' or 'eval'.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    metrics: dict[str, float] = {"groups": len(groups), "rollouts": len(rollouts)}
    if (measured := accuracy(groups)) is not None:
        metrics |= {"accuracy": measured.value, "problems": measured.problems}
        if measured.standard_error is not None:
            metrics["accuracy_standard_error"] = measured.standard_error
    if groups:
        metrics["without_signal"] = float(np.mean([not has_signal(group) for group in groups]))
    if shots := [int(group.prompt.meta.get("shots", 0)) for group in groups]:
        metrics |= {"shots": float(np.mean(shots))} if any(shots) else {}
    if rollouts:
        metrics |= _length_metrics(rollouts)
    lags = [version - r.oldest_version for r in rollouts if r.steps] if version is not None else []
    if lags:
        metrics |= {"policy_lag_mean": float(np.mean(lags)), "policy_lag_max": max(lags)}
    metrics |= _score_metrics(rollouts) | _step_score_metrics(rollouts)
    metrics |= _token_score_metrics(rollouts) | _vote_metrics(rollouts)
    metrics |= _failure_metrics(groups)
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def _outcome_values(rollouts: Iterable[Rollout]) -> list[float]:
    return [rollout.outcome.value for rollout in rollouts if rollout.outcome is not None]


def has_signal(group: Group) -> bool:
    """Whether its rollouts differ in outcome, by more than rounding."""
    return not tied(_outcome_values(group.rollouts))


def _length_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    verdicts = [rollout.outcome.verdict for rollout in rollouts if rollout.outcome is not None]
    metrics = {
        "tokens": sum(int(r.own.sum()) for r in rollouts),
        "tokens_mean": float(np.mean([r.completion.length for r in rollouts])),
        "steps_mean": float(np.mean([len(r.steps) for r in rollouts])),
        "truncated": float(np.mean([r.completion.truncated for r in rollouts])),
    }
    if verdicts:
        metrics["unparsable"] = float(np.mean([v is Verdict.UNPARSABLE for v in verdicts]))
    return metrics


def _score_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean by source of the scores of whole rollouts; the outcomes' is the accuracy."""
    values: dict[str, list[float]] = {}
    for rollout in rollouts:
        for source, score in rollout.scores.items():
            if isinstance(score, RolloutScore):
                values.setdefault(source, []).append(score.value)
    return {f"score/{source}": float(np.mean(found)) for source, found in sorted(values.items())}


def _step_score_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean step score by source, over the steps that were labelled; of counted ones also how many
    steps that were, and how many continuations."""
    values: dict[str, list[np.ndarray]] = {}
    for rollout in rollouts:
        for source, score in rollout.scores.items():
            if isinstance(score, StepScores):
                labelled = score.values if score.n is None else score.values[score.n > 0]
                values.setdefault(source, []).append(labelled)
    counted: Counter[str] = Counter()
    for rollout in rollouts:
        for source, score in rollout.scores.items():
            if isinstance(score, StepScores) and score.n is not None:
                counted[f"labelled_steps/{source}"] += int((score.n > 0).sum())
                counted[f"continuations/{source}"] += int(score.n.sum())
    joined = {source: np.concatenate(parts) for source, parts in values.items()}
    means = {f"step_score/{name}": float(v.mean()) for name, v in sorted(joined.items()) if len(v)}
    return means | {name: float(number) for name, number in sorted(counted.items())}


def _token_score_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean token score by source, over the sampled tokens: of a teacher minus the reverse KL."""
    values: dict[str, list[np.ndarray]] = {}
    for rollout in rollouts:
        for source, score in rollout.scores.items():
            if isinstance(score, TokenScores):
                values.setdefault(source, []).append(score.values[rollout.completion.sampled])
    joined = {source: np.concatenate(parts) for source, parts in values.items()}
    return {f"token_score/{name}": float(v.mean()) for name, v in sorted(joined.items()) if len(v)}


def _vote_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """How many votes judges' outcomes stand on, and the shares of those that say nothing."""
    votes = [r.outcome.votes for r in rollouts if r.outcome is not None and r.outcome.votes]
    if not votes:
        return {}
    totals = {
        name: sum(getattr(vote, name) for vote in votes)
        for name in ("correct", "wrong", "tied", "unparsable", "failed")
    }
    number = sum(totals.values())
    shares = {f"votes_{n}": totals[n] / number for n in ("tied", "unparsable", "failed")}
    return {"votes": number, **shares}


def _failure_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """How many generations and scorings failed, in all and by reason."""
    reasons = Counter(failure.reason for group in groups for failure in group.failures)
    scores = (s for group in groups for r in group.rollouts for s in r.scores.values())
    reasons += Counter(score.reason for score in scores if isinstance(score, Failure))
    by_reason = {f"failures/{reason}": n for reason, n in sorted(reasons.items())}
    return {"failures": sum(reasons.values()), **by_reason}
