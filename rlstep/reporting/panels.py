"""The curves that say how a run goes, in sections: one list for the page and for wandb's view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ALARMS = {
    "false_good": "chains that the scores call good and the verifier not correct",
    "false_bad": "chains that the scores call bad and the verifier correct",
    "length_correlation": "correlation of a chain's score with its length",
    "repeated_steps": "steps that read like an earlier step of the same completion",
    "unparsable": "answers that could not be read",
    "drift": "mean move of the PRM's scores on the frozen probe",
    "unmoved": "weights of the policy that are exactly what they were at the last look",
    "chosen_fell": "pairs whose chosen side became less likely",
}
"""What each figure of `monitors.thresholds` is the share, or size, of."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A few metrics in one picture."""

    title: str
    lines: Mapping[str, str]
    """What each metric is, by its name, in a few words."""
    unit: Literal["", "%", "s"] = ""
    """'%' of a share in [0, 1], 's' of seconds."""
    stacked: bool = False
    """Parts of one whole."""
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """Panels about one thing."""

    name: str
    panels: tuple[Panel, ...]


def sections(step_models: Sequence[str]) -> tuple[Section, ...]:
    """Everything to look at, the most important first.

    Args:
        step_models: sources of the run's step models: 'prm', 'critic', ...
    """
    return (
        Section(name="Accuracy", panels=_accuracy(step_models)),
        Section(name="PRM quality", panels=_prm()),
        Section(name="Failures and signal", panels=_signal()),
        Section(name="Time by role", panels=_time(step_models)),
        Section(name="Monitors", panels=_monitors()),
        Section(name="Learner, by cadence", panels=_learner()),
    )


def _accuracy(step_models: Sequence[str]) -> tuple[Panel, ...]:
    losses = {f"{source}/loss": source for source in step_models}
    return (
        Panel(
            title="Accuracy",
            lines={
                "eval/accuracy": "held out, greedy",
                "eval/sampled/accuracy": "held out, sampled",
                "rollout/accuracy": "training rollouts",
            },
            unit="%",
        ),
        Panel(title="Loss of the policy", lines={"train/loss": "policy"}),
        Panel(title="Loss of the step models", lines=losses),
        Panel(title="Norm of the policy's gradient", lines={"train/grad_norm": "before clipping"}),
        Panel(
            title="Tokens of a completion",
            lines={"rollout/tokens_mean": "training rollouts", "eval/tokens_mean": "held out"},
        ),
    )


def _prm() -> tuple[Panel, ...]:
    return (
        Panel(
            title="ROC AUC on the frozen probe",
            lines={
                "prm/auc": "steps, by the task's oracle",
                "prm/auc_position": "the step's position alone",
                "prm/outcome_auc": "last step, by the verifier",
            },
        ),
        Panel(
            title="Calibration error",
            lines={
                "prm/ece": "steps, by the task's oracle",
                "prm/outcome_ece": "last step, by the verifier",
            },
        ),
        Panel(
            title="Drift on the frozen probe",
            lines={"prm/drift": "mean move", "prm/drift_mean": "move of the mean"},
        ),
    )


def _signal() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Shares of groups and rollouts",
            lines={
                "rollout/without_signal": "groups without signal",
                "rollout/truncated": "rollouts cut off",
                "rollout/unparsable": "answers not read",
            },
            unit="%",
        ),
        Panel(
            title="Failures",
            lines={"rollout/failures": "training rollouts", "eval/failures": "held out"},
        ),
        Panel(
            title="Updates of the policy",
            lines={"train/updates": "made", "train/skipped_updates": "skipped"},
        ),
        Panel(
            title="Generator against learner after a sync",
            lines={"sync/parity_error": "largest difference, nats"},
            log=True,
        ),
    )


def _time(step_models: Sequence[str]) -> tuple[Panel, ...]:
    learners = {f"{source}/seconds": f"{source} learner" for source in step_models}
    return (
        Panel(
            title="Where an iteration's time goes",
            lines={
                "time/collect": "sampling and verifying",
                "time/score": "scoring and labelling",
                "time/train": "training and weight sync",
            },
            unit="s",
            stacked=True,
        ),
        Panel(
            title="Learners, at the same time",
            lines={"train/seconds": "policy learner", **learners, "sync/seconds": "weight sync"},
            unit="s",
        ),
        Panel(
            title="Who has something to do",
            lines={
                "busy/generator": "generators",
                "busy/scorer": "scorers",
                **{f"busy/{source}": source for source in step_models},
                "busy/policy": "policy learner",
                "busy/sync": "weight sync",
            },
        ),
        Panel(title="An evaluation", lines={"time/evaluation": "seconds"}, unit="s"),
    )


def _monitors() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Scores against the verifier",
            lines={
                "monitor/false_good": "called good, not correct",
                "monitor/false_bad": "called bad, correct",
            },
            unit="%",
        ),
        Panel(
            title="Order of chains by score",
            lines={"monitor/outcome_auc": "ROC AUC against the verifier"},
        ),
        Panel(title="Score and length", lines={"monitor/length_correlation": "correlation"}),
        Panel(
            title="Texts",
            lines={
                "monitor/repeated_steps": "repeated steps",
                "monitor/unparsable": "answers not read",
            },
            unit="%",
        ),
    )


def _learner() -> tuple[Panel, ...]:
    """What `policy.statistics_every` asks for."""
    return (
        Panel(
            title="Pairs whose chosen side became less likely",
            lines={"displacement/chosen_fell": "over the iteration's updates"},
            unit="%",
        ),
        Panel(
            title="Change of a side's logprob",
            lines={
                "displacement/chosen_change": "chosen, nats",
                "displacement/rejected_change": "rejected, nats",
            },
        ),
        Panel(
            title="Entropy of the differential information",
            lines={"information/entropy_share": "of log n"},
            unit="%",
        ),
        Panel(
            title="Weights exactly as at the last look",
            lines={"weights/unmoved": "matrices of the layers"},
            unit="%",
        ),
        Panel(
            title="Standard deviations of the layers",
            lines={"weights/std": "weights", "weights/change_std": "change since the last look"},
            log=True,
        ),
        Panel(
            title="Excess kurtosis of the layers",
            lines={
                "weights/kurtosis": "weights",
                "weights/change_kurtosis": "change since the last look",
            },
        ),
        Panel(
            title="Entries beyond three standard deviations",
            lines={
                "weights/outliers": "weights",
                "weights/change_outliers": "change since the last look",
            },
            unit="%",
        ),
    )
