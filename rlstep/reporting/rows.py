"""Rollouts as rows: one line each for people, one row a step for a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rlstep.interfaces import StepOracle
from rlstep.reporting.redact import redact
from rlstep.types import Failure, Group, Rollout, RolloutScore, StepScores

STEP_COLUMNS = (
    "iteration",
    "prompt_id",
    "rollout_id",
    "step",
    "text",
    "observed",
    "scores",
    "outcome",
    "version",
)


def rollout_rows(
    iteration: int, groups: Sequence[Group], oracle: StepOracle | None = None
) -> Iterator[dict[str, Any]]:
    """One row a rollout, and one for every failure that left none.

    Args:
        oracle: a task that knows which steps are right. With it a row has 'first_error': the index
            of the first wrong step, None where every step is right.
    """
    for group in groups:
        for rollout in group.rollouts:
            row = _rollout_row(iteration, rollout)
            if oracle is not None:
                texts = [step["text"] for step in row["steps"]]
                row["first_error"] = oracle.first_error(rollout.prompt, texts)
            yield row
        for failure in group.failures:
            yield {
                "iteration": iteration,
                "prompt_id": group.prompt.prompt_id,
                "failure": failure_text(failure),
            }


def _rollout_row(iteration: int, rollout: Rollout) -> dict[str, Any]:
    outcome, sources = rollout.outcome, rollout.scores.items()
    failures = {name: failure_text(s) for name, s in sources if isinstance(s, Failure)}
    whole = {name: round(s.value, 4) for name, s in sources if isinstance(s, RolloutScore)}
    forced = {"observed": seen} if (seen := rollout.observation_text(-1)) else {}
    return {
        "iteration": iteration,
        "rollout_id": rollout.rollout_id,
        "parent": rollout.parent,
        "prompt_id": rollout.prompt.prompt_id,
        "prompt": rollout.prompt.text,
        **forced,
        "steps": [_step(rollout, index) for index in range(len(rollout.steps))],
        "answer": outcome.extracted if outcome else None,
        "reference": rollout.prompt.answer,
        "verdict": outcome.verdict.value if outcome else None,
        "scores": whole,
        "failures": failures,
        "finish_reason": rollout.completion.finish_reason,
        "versions": [[s.version, s.start, s.end] for s in rollout.completion.versions],
    }


def step_rows(iteration: int, groups: Sequence[Group]) -> Iterator[tuple[Any, ...]]:
    """One row a step, in the order of STEP_COLUMNS."""
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        outcome = rollout.outcome.verdict.value if rollout.outcome else "failed"
        for index in range(len(rollout.steps)):
            step = _step(rollout, index)
            yield (
                iteration,
                rollout.prompt.prompt_id,
                rollout.rollout_id,
                index,
                step["text"],
                step.get("observed", ""),
                ", ".join(f"{name} {value:.3f}" for name, value in step["scores"].items()),
                outcome,
                _version(rollout, index),
            )


def _version(rollout: Rollout, index: int) -> int:
    """The lowest policy version among the tokens of a step."""
    step = rollout.steps[index]
    spans = rollout.completion.versions
    return min(s.version for s in spans if s.start < step.end and step.start < s.end)


def _step(rollout: Rollout, index: int) -> dict[str, Any]:
    """Text, what was observed after it, and scores by source; a step that a source did not label
    has no score of it."""
    scores = {
        name: round(float(score.values[index]), 4)
        for name, score in sorted(rollout.scores.items())
        if isinstance(score, StepScores) and (score.n is None or score.n[index] > 0)
    }
    observed = {"observed": seen} if (seen := rollout.observation_text(index)) else {}
    return {"text": rollout.step_text(index), **observed, "scores": scores}


def failure_text(failure: Failure) -> str:
    """A failure in words. An error's own may quote a URL with a password in it."""
    return redact(f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason)
