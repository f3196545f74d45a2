"""The frozen probe of a run as a file: rollouts out, the same rollouts back in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.reporting.files import JsonLines
from rlstep.types import (
    Completion,
    Failure,
    Observed,
    OutcomeScore,
    Prompt,
    Rollout,
    Sampling,
    Score,
    Step,
    StepScores,
    Verdict,
    VersionSpan,
)

_KEPT = ("outcome", "prm")
"""The scores that a probe carries."""


def write_probe(path: Path, rollouts: Sequence[Rollout]) -> None:
    """One line a rollout; the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_bytes(b"")
    JsonLines(temporary).append(*map(_row, rollouts))
    os.replace(temporary, path)


def read_probe(path: Path, prompts: Sequence[Prompt]) -> list[Rollout]:
    """The rollouts that were written, bit by bit.

    Args:
        prompts: the held-out problems of the run.

    Raises:
        ValueError: a line is not JSON, or its problem is not among the prompts.
    """
    known = {prompt.prompt_id: prompt for prompt in prompts}
    rows = list(JsonLines(path))
    if unknown := sorted({row["prompt_id"] for row in rows} - known.keys()):
        raise ValueError(
            f"{path} holds {len(unknown)} problems that this run does not hold out, such as"
            f" {unknown[0]!r}; resume with the run's own task, or start a new run"
        )
    return [_rollout(row, known[row["prompt_id"]]) for row in rows]


def _row(rollout: Rollout) -> dict[str, Any]:
    completion = rollout.completion
    return {
        "iteration": rollout.iteration,
        "rollout_id": rollout.rollout_id,
        "prompt_id": rollout.prompt.prompt_id,
        "sample_index": rollout.sample_index,
        "seed": rollout.seed,
        "sampling": asdict(rollout.sampling),
        "text": completion.text,
        "token_ids": completion.token_ids,
        "logprobs": completion.logprobs,
        "ends": completion.ends,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "versions": [[v.version, v.start, v.end] for v in completion.versions],
        "observed": [[span.start, span.end] for span in completion.observed],
        "steps": [[step.start, step.end] for step in rollout.steps],
        "scores": {n: _score_row(rollout.scores[n]) for n in _KEPT if n in rollout.scores},
    }


def _score_row(score: Score) -> dict[str, Any]:
    return {"kind": type(score).__name__, **asdict(score)}


def _rollout(row: dict[str, Any], prompt: Prompt) -> Rollout:
    sampling: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row["sampling"].items()
    }
    completion = Completion(
        token_ids=np.array(row["token_ids"], dtype=np.int32),
        logprobs=np.array([float(x) for x in row["logprobs"]], dtype=np.float32),
        text=row["text"],
        ends=np.array(row["ends"], dtype=np.int32),
        finish_reason=row["finish_reason"],
        stop_reason=row["stop_reason"],
        versions=tuple(VersionSpan(version=v, start=a, end=b) for v, a, b in row["versions"]),
        observed=tuple(Observed(start=a, end=b) for a, b in row.get("observed", ())),
    )
    return Rollout(
        rollout_id=row["rollout_id"],
        prompt=prompt,
        completion=completion,
        steps=tuple(Step(start=start, end=end) for start, end in row["steps"]),
        sample_index=row["sample_index"],
        iteration=row["iteration"],
        seed=row["seed"],
        sampling=Sampling(**sampling),
        scores={name: _score(dict(score)) for name, score in row["scores"].items()},
    )


def _score(row: dict[str, Any]) -> Score:
    kind = row.pop("kind")
    if kind == "Failure":
        return Failure(**row)
    if kind == "OutcomeScore":
        return OutcomeScore(**{**row, "verdict": Verdict(row["verdict"])})
    return StepScores(values=np.array(row["values"], dtype=np.float32), version=row["version"])
