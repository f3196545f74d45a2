"""Watching for reward hacking: figures of a batch of rollouts, and alarms where one is too high.

A policy that is trained against a score finds the score's weaknesses. It shows where the score and
the verifier part, where score goes with length, where steps are repeated, and where answers can no
longer be read. A learner that looks at itself by cadence has two figures more. An alarm is a
warning in the log and a metric; it never stops a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import between, named
from rlstep.measuring.aggregate import Aggregate, chain_score
from rlstep.measuring.metrics import roc_auc
from rlstep.measuring.ties import tied
from rlstep.tensors.sequences import is_correct, labelled_scores
from rlstep.thoughts import ThoughtTags
from rlstep.types import Group, Rollout, Verdict

logger = logging.getLogger(__name__)

POSITIONS = 16
"""Step positions that have a mean score of their own."""
FEWEST_CHAINS = 16
"""Of fewer chains length and score correlate by chance: 1/sqrt(16) is 0.25."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """An alarm is raised where the figure of the same name is above its threshold (strictly)."""

    false_good: float = 0.5
    """Share of chains that the scores call good and the verifier not correct."""
    false_bad: float = 0.5
    """Share of chains that the scores call bad and the verifier correct."""
    length_correlation: float = 0.7
    """Of a chain's score with its tokens (Pearson)."""
    repeated_steps: float = 0.2
    """Share of steps that read like an earlier step of the same completion."""
    unparsable: float = 0.5
    """Share of verdicts that found no answer."""
    drift: float = 0.5
    """Mean move of the PRM's scores on the frozen probe since it first told steps apart. A PRM that
    is still learning moves as well (by 0.24 in the main job)."""
    unmoved: float = 0.95
    """Share of the policy's weights that are exactly what they were when its learner last looked
    (`policy.statistics_every`): bfloat16 loses small updates. A single update of a healthy learner
    at 1e-6 moves a few hundredths of them, so a look should be over ten iterations or so."""
    chosen_fell: float = 0.9
    """Share of pairs whose chosen side is less likely after the iteration's updates than before."""

    def __post_init__(self) -> None:
        for field in fields(self):
            between(f"monitors.thresholds.{field.name}", getattr(self, field.name), 0.0, 1.0)


_ADVICE = {
    "unmoved": ": the learner is dead, its updates are lost in the numbers that its weights are"
    " held in; a larger policy.optimizer.learning_rate moves them, or policy.model.dtype 'float32'"
}
"""What an alarm's name and figure do not say for themselves."""


@dataclass(frozen=True, kw_only=True)
class Monitors:
    """What is watched in every iteration."""

    source: str = "prm"
    """Whose scores: those that the policy is trained against. A run that makes no 'prm' has the
    figures that need no scores."""
    aggregate: Aggregate = "min"
    """How a chain's score is made of step scores; a source may also score whole chains. Of scores
    of tokens there are no figures."""
    good: float = 0.5
    """A chain with a higher score is called good, with a lower one bad. Of one that is exactly
    here nothing is said: a PRM that was never trained says 1/2 of everything."""
    thresholds: Thresholds = Thresholds()
    """Above which figures an alarm is raised."""
    thoughts: ThoughtTags = ThoughtTags()
    """Of a thought's tags nothing is said: with them a repeated step reads as without. 'unfinished'
    is the share of completions whose thought never ended."""

    def __post_init__(self) -> None:
        named("monitors.source", self.source)
        between("monitors.good", self.good, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A figure beside its threshold."""

    name: str
    figure: float
    threshold: float

    @property
    def raised(self) -> bool:
        return self.figure > self.threshold


def figures(groups: Sequence[Group], monitors: Monitors) -> dict[str, float]:
    """What a batch looks like to someone who expects to be cheated. No figure of nothing.

    'false_good', 'false_bad', 'length_correlation', 'repeated_steps' and 'unparsable' as in
    `Thresholds`; 'unfinished', the share of thoughts that never ended, where there is one;
    'outcome_auc', how well chain scores order correct above other chains; and
    'step_score/<position>', the mean score of the steps at one position. Branches are left out:
    they were drawn because of what their parents did.
    """
    rollouts = [r for group in groups for r in group.rollouts if r.parent is None]
    scored = [(r, c) for r in rollouts if (c := _chain_score(r, monitors)) is not None]
    chains = np.array([chain for _, chain in scored])
    lengths = np.array([r.completion.length for r, _ in scored], dtype=np.float64)
    found = _disagreement([rollout for rollout, _ in scored], chains, monitors.good)
    if len(chains) >= FEWEST_CHAINS:
        found["length_correlation"] = _correlation(chains, lengths)
    steps = [_step_scores(rollout, monitors.source) for rollout in rollouts]
    return (
        found
        | _texts(rollouts, monitors.thoughts)
        | _by_position([each for each in steps if each is not None])
    )


def alarms(found: Mapping[str, float], thresholds: Thresholds) -> list[Alarm]:
    """One alarm, raised or not, for every figure that has a threshold."""
    return [
        Alarm(name=f.name, figure=found[f.name], threshold=getattr(thresholds, f.name))
        for f in fields(thresholds)
        if f.name in found
    ]


def tell(checked: Sequence[Alarm]) -> dict[str, float]:
    """Warn of every raised alarm; 'alarm/<name>' is 1 where it is raised, else 0."""
    for alarm in checked:
        if alarm.raised:
            logger.warning(
                "alarm: %s is %.3f, above its threshold %.3g (monitors.thresholds.%s)%s",
                *(alarm.name, alarm.figure, alarm.threshold, alarm.name),
                _ADVICE.get(alarm.name, ""),
            )
    return {f"alarm/{alarm.name}": float(alarm.raised) for alarm in checked}


LEARNT = {"unmoved": "weights/unmoved", "chosen_fell": "displacement/chosen_fell"}
"""Figures that the policy's learner makes, by the names of their thresholds."""


def watch_learner(metrics: Mapping[str, float], thresholds: Thresholds) -> dict[str, float]:
    """The alarms of what a learner says of itself, in the iterations in which it does."""
    found = {name: metrics[metric] for name, metric in LEARNT.items() if metric in metrics}
    return tell(alarms(found, thresholds))


def watch(groups: Sequence[Group], monitors: Monitors) -> dict[str, float]:
    """The figures of an iteration as 'monitor/<name>', and its alarms; warns of the raised ones."""
    found = figures(groups, monitors)
    told = tell(alarms(found, monitors.thresholds))
    return {f"monitor/{name}": figure for name, figure in found.items()} | told


def _step_scores(rollout: Rollout, source: str) -> NDArray[np.float64] | None:
    """[K], K >= 1; None where the source failed, has not run or left a step without a number."""
    values = labelled_scores(rollout, source)
    if values is None or not len(values) or not np.isfinite(values).all():
        return None
    return values.astype(np.float64)


def _chain_score(rollout: Rollout, monitors: Monitors) -> float | None:
    whole = rollout.whole_score(monitors.source)
    if whole is not None:
        return whole if np.isfinite(whole) else None
    values = _step_scores(rollout, monitors.source)
    return None if values is None else chain_score(values, monitors.aggregate)


def _disagreement(
    rollouts: Sequence[Rollout], scores: NDArray[np.float64], good: float
) -> dict[str, float]:
    known = np.array([rollout.outcome is not None for rollout in rollouts], dtype=bool)
    if not known.any():
        return {}
    right = np.array([is_correct(rollout) for rollout in rollouts])[known]
    scores = scores[known]
    found = {
        "false_good": float(((scores > good) & ~right).mean()),
        "false_bad": float(((scores < good) & right).mean()),
    }
    if right.any() and not right.all():
        found["outcome_auc"] = roc_auc(scores, right)
    return found


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's, 0 where one of the two does not vary."""
    if tied(a) or tied(b):
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _texts(rollouts: Sequence[Rollout], thoughts: ThoughtTags) -> dict[str, float]:
    found = {}
    texts = [
        [_plain(thoughts.blanked(r.step_text(i))) for i in range(len(r.steps))] for r in rollouts
    ]
    if steps := sum(map(len, texts)):
        found["repeated_steps"] = sum(len(each) - len(set(each)) for each in texts) / steps
    said = [thoughts.after(rollout.completion.text) for rollout in rollouts]
    if None in said:
        found["unfinished"] = float(np.mean([text is None for text in said]))
    verdicts = [rollout.outcome.verdict for rollout in rollouts if rollout.outcome is not None]
    if verdicts:
        found["unparsable"] = float(np.mean([v is Verdict.UNPARSABLE for v in verdicts]))
    return found


def _plain(text: str) -> str:
    """Without what white space can hide."""
    return " ".join(text.split())


def _by_position(scores: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Over the rollouts that have a step there."""
    means = {}
    for position in range(POSITIONS):
        at = [values[position] for values in scores if len(values) > position]
        if at:
            means[f"step_score/{position}"] = float(np.mean(at))
    return means
