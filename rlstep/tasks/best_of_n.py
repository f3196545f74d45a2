"""The best of N samples of a policy, out of the file of rollouts that a run leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlstep.measuring.aggregate import Aggregate, best, chain_score
from rlstep.tasks.read_rows import read_jsonl


def best_of_n(file: str, score: str, aggregate: Aggregate) -> dict[str, str]:
    """By prompt_id the text of the best completion that the first policy sampled.

    Later policies' completions, and branches of others, do not count. Of equals it is the first.

    Args:
        file: a run's rollouts.jsonl.
        score: the name of a score of steps or of whole rollouts in it.
        aggregate: one number from a chain's step scores.

    Raises:
        ValueError: no such file, a broken line, or nothing in it has the score.
    """
    samples: dict[str, list[tuple[str, float]]] = {}
    names: set[str] = set()
    for row in _first(file):
        names |= row["scores"].keys() | {n for step in row["steps"] for n in step["scores"]}
        value = _value(row, score, aggregate)
        if value is not None:
            text = "".join(step["text"] for step in row["steps"])
            samples.setdefault(row["prompt_id"], []).append((text, value))
    if not samples:
        raise ValueError(
            f"task.references_by is {score!r}, which no completion of the first policy in {file}"
            f" has; they have {sorted(names)}"
        )
    return {
        prompt_id: scored[best([value for _, value in scored])][0]
        for prompt_id, scored in samples.items()
    }


def _first(file: str) -> Iterator[Mapping[str, Any]]:
    """Whole completions of the first policy."""
    for row in (line.values for line in read_jsonl(file)):
        whole = "rollout_id" in row and row["parent"] is None
        if whole and not any(version for version, _, _ in row["versions"]):
            yield row


def _value(row: Mapping[str, Any], score: str, aggregate: Aggregate) -> float | None:
    """None where the score failed, or a step has none."""
    if score in row["scores"]:
        return row["scores"][score]
    steps = [step["scores"].get(score) for step in row["steps"]]
    return chain_score(steps, aggregate) if steps and None not in steps else None
