"""The samples of an evaluation as rows, and what is measured of them read back from rows.

    {"iteration": 0, "prompt_id": "5+5*2", "rollout_id": "eval-samples0/5+5*2/3", "text": ...,
     "tokens": 31, "finish_reason": "stop", "answer": "20", "verdict": "correct", "value": 1.0,
     "scores": {"prm": [0.98, 0.75]}, "failures": {}}

What was not generated is a row with 'failure' in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rlstep.measuring.sampled import Sample, SampledProblem
from rlstep.reporting.rows import failure_text
from rlstep.types import Failure, Group, Rollout, RolloutScore, StepScores, Verdict


def sample_rows(
    iteration: int, groups: Sequence[Group], sources: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One row a sample, and one for every failure that left none.

    Args:
        sources: of the scores that are kept, beside the outcome; unrounded, since they order.
    """
    for group in groups:
        named = {"iteration": iteration, "prompt_id": group.prompt.prompt_id}
        yield from (named | _row(rollout, sources) for rollout in group.rollouts)
        yield from (named | {"failure": failure_text(failure)} for failure in group.failures)


def _row(rollout: Rollout, sources: Sequence[str]) -> dict[str, Any]:
    outcome, scores = rollout.outcome, {}
    for source in sources:
        score = rollout.scores.get(source)
        if isinstance(score, StepScores):
            scores[source] = score.values.tolist()
        elif isinstance(score, RolloutScore):
            scores[source] = score.value
    failures = {n: failure_text(s) for n, s in rollout.scores.items() if isinstance(s, Failure)}
    return {
        "rollout_id": rollout.rollout_id,
        "text": rollout.completion.text,
        "tokens": int(rollout.own.sum()),
        "finish_reason": rollout.completion.finish_reason,
        "answer": outcome.extracted if outcome else None,
        "verdict": outcome.verdict.value if outcome else None,
        "value": outcome.value if outcome else None,
        "scores": scores,
        "failures": failures,
    }


def problems_of(rows: Iterable[Mapping[str, Any]]) -> list[SampledProblem]:
    """The problems of rows, in order of their ids, each with its samples in theirs."""
    found: dict[str, list[Sample]] = {}
    for row in rows:
        samples = found.setdefault(row["prompt_id"], [])
        if "failure" not in row:
            unread = row["verdict"] == Verdict.UNPARSABLE
            scores = {
                source: [float(x) for x in score] if isinstance(score, list) else float(score)
                for source, score in row["scores"].items()
            }
            answer = "" if unread else row["answer"] or ""
            samples.append(Sample(value=row["value"], answer=answer, scores=scores))
    return [SampledProblem(prompt_id=name, samples=found[name]) for name in sorted(found)]
