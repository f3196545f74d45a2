"""How far the PRM can be believed.

It is measured on a frozen probe: completions of held-out problems that are sampled once, at
the start of a run, and scored again at every evaluation. So its numbers change because it changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlstep.interfaces import StepOracle
from rlstep.measuring.aggregate import chain_score
from rlstep.measuring.metrics import calibration_error, reliability_curve, roc_auc
from rlstep.measuring.monitors import POSITIONS
from rlstep.tensors.sequences import is_correct
from rlstep.types import Rollout

FEWEST_STEPS = 10
"""Of either class; of 10 right and 10 wrong steps an AUC of 1/2 is measured within 0.13."""


def evaluate_prm(
    probe: Sequence[Rollout], now: Sequence[Rollout], oracle: StepOracle | None
) -> dict[str, float]:
    """The PRM by its scores of the probe now, and by how they moved: see the functions below.

    Args:
        probe: with the PRM's first scores.
        now: the same rollouts with its scores of today.
    """
    metrics = outcome_agreement(now) | score_drift(probe, now)
    return metrics if oracle is None else metrics | oracle_agreement(probe_steps(now, oracle))


def auc_by_position(
    positions: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> dict[int, float]:
    """ROC AUC among the steps at one position, for the first `POSITIONS` of them.

    In one number for all steps a scorer can hide that it only knows how late a step is. A position
    with fewer than `FEWEST_STEPS` of either class has none: it would be chance.

    Args:
        positions: int [N], index of each step in its rollout.
        scores: float [N].
        labels: bool [N], True for a right step.
    """
    found = {}
    for position in range(POSITIONS):
        here = positions == position
        right = int(labels[here].sum())
        if min(right, int(here.sum()) - right) >= FEWEST_STEPS:
            found[position] = roc_auc(scores[here], labels[here])
    return found


def tells_apart(rollouts: Sequence[Rollout]) -> bool:
    """Whether the PRM's scores differ at all: one that was never trained says 1/2 of everything."""
    scores = [s.values for r in rollouts if (s := r.step_scores("prm")) is not None]
    return len(np.unique(np.concatenate([*scores, np.zeros(0)]))) > 1


def outcome_agreement(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Chains against the verifier: is a chain of score 0.7 correct in 70 % of cases?

    'prm/outcome_auc', 'prm/outcome_ece' and 'prm/outcome_reliability/...' of the last step's score,
    which speaks of the whole chain; 'prm/outcome_auc_min' of the lowest step score;
    'prm/outcome_auc_at/<position>' of the score of the step there (see `auc_by_position`).
    """
    known = [
        (scores.values, is_correct(rollout))
        for rollout in rollouts
        if (scores := rollout.step_scores("prm")) is not None
        and len(scores.values)
        and rollout.outcome is not None
    ]
    right = np.array([correct for _, correct in known], dtype=bool)
    last = np.array([chain_score(values, "last") for values, _ in known])
    lowest = np.array([chain_score(values, "min") for values, _ in known])
    metrics = {"prm/probe_chains": float(len(known)), **_calibration("prm/outcome_", last, right)}
    if right.any() and not right.all():
        metrics["prm/outcome_auc"] = roc_auc(last, right)
        metrics["prm/outcome_auc_min"] = roc_auc(lowest, right)
    position = np.concatenate([np.arange(len(values)) for values, _ in known] or [np.zeros(0)])
    score = np.concatenate([values for values, _ in known] or [np.zeros(0)])
    ends_right = np.repeat(right, [len(values) for values, _ in known])
    by_position = auc_by_position(position, score, ends_right)
    return metrics | {f"prm/outcome_auc_at/{at}": auc for at, auc in by_position.items()}


@dataclass(frozen=True, kw_only=True)
class StepProbe:
    """Step scores beside what the oracle says, over many rollouts. Entries are steps."""

    right: np.ndarray
    """bool: the prefix through this step has no error."""
    score: np.ndarray
    """float: the PRM's."""
    position: np.ndarray
    """int: index of the step in its rollout."""


def probe_steps(rollouts: Sequence[Rollout], oracle: StepOracle) -> StepProbe:
    """Every step up to and including the first error of its rollout (after it nothing is right)."""
    right, score, position = [], [], []
    for rollout in rollouts:
        scores = rollout.step_scores("prm")
        if scores is None:
            continue
        texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
        error = oracle.first_error(rollout.prompt, texts)
        for i in range(len(texts) if error is None else error + 1):
            right.append(error is None or i < error)
            score.append(float(scores.values[i]))
            position.append(i)
    return StepProbe(right=np.array(right), score=np.array(score), position=np.array(position))


def oracle_agreement(probe: StepProbe) -> dict[str, float]:
    """Steps against the exact oracle: ROC AUC, and how often a step of score 0.7 is right.

    Beside the AUC that of the step's position alone (earlier is more often right): what a scorer
    that cannot read would reach; and 'prm/auc_at/<position>', the AUC among the steps there.
    """
    metrics = {"prm/probe_steps": float(len(probe.right))}
    metrics |= _calibration("prm/", probe.score, probe.right)
    if probe.right.all() or not probe.right.any():
        return metrics  # one class only: no AUC exists
    by_position = auc_by_position(probe.position, probe.score, probe.right)
    return {
        **metrics,
        **{f"prm/auc_at/{at}": auc for at, auc in by_position.items()},
        "prm/auc": roc_auc(probe.score, probe.right),
        "prm/auc_position": roc_auc(-probe.position, probe.right),
        "prm/probe_wrong_steps": float((~probe.right).sum()),
    }


def score_drift(first: Sequence[Rollout], now: Sequence[Rollout]) -> dict[str, float]:
    """How far the PRM's scores of the same steps have moved since they were first scored.

    'prm/drift' is the mean |score - first score|, 'prm/drift_mean' the shift of the mean: above 0
    the PRM has become more generous. Rollouts that either scoring failed on are left out.
    """
    moves = [
        new.values.astype(np.float64) - old.values
        for one, other in zip(first, now, strict=True)
        if (old := one.step_scores("prm")) is not None
        and (new := other.step_scores("prm")) is not None
    ]
    moved = np.concatenate([*moves, np.zeros(0)])
    if not len(moved):
        return {}
    return {
        "prm/drift": float(np.abs(moved).mean()),
        "prm/drift_mean": float(moved.mean()),
    }


def _calibration(prefix: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """'<prefix>ece', and score, share and number of each bin: '<prefix>reliability/0.7/share'."""
    if not len(scores):
        return {}
    curve = reliability_curve(scores, labels)
    metrics = {f"{prefix}ece": calibration_error(curve)}
    for each in curve:
        name = f"{prefix}reliability/{each.low:g}"
        metrics |= {f"{name}/score": each.score, f"{name}/share": each.share}
        metrics[f"{name}/number"] = float(each.number)
    return metrics
