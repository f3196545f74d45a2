"""Rollouts as the traces of verifiers (0.4), with the credit of every sampled token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlstep.interfaces import RunStart, SampleBuilder, Sink
from rlstep.measuring.metrics import Record
from rlstep.types import AdvantageSamples, Failure, Floats, Group, Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class VerifiersTraces(Sink):
    """Every iteration's rollouts in <run>/traces/<iteration>/traces.jsonl, which is where and how
    verifiers keeps episodes (its `utils.trace_store.read_episodes`); of any run, not only of one
    whose episodes its server plays.

    An episode has one trace. Its nodes are the prompt, what was sampled in one go, and what was
    observed after it; their tokens one after the other are the prompt's and the completion's.
    `logprobs` and `advantages` are of the sampled tokens, the latter as `samples` gives them: the
    slot that verifiers leaves to who trains. Both are in full, where its own writer keeps four
    decimals. Advantages are None where the builder made nothing of a rollout (a group without
    signal that is left out, say), which to verifiers is not a credit of 0. Inherited tokens are
    sampled ones whose credit is 0. The outcome is the one reward; other scores of a whole rollout
    are metrics. Messages that were observed are the user's: which other role wrote them is not
    known.

    An iteration that a resumed run does again is written again.
    """

    samples: SampleBuilder
    """What the run is trained on, or another builder of advantages, to look at its credit."""

    def __post_init__(self) -> None:
        if self.samples.makes is not AdvantageSamples:
            raise ValueError(
                f"verifiers_traces.samples is {type(self.samples).__name__}, which makes"
                f" {self.samples.makes.__name__}; a token's credit is an advantage:"
                " GroupAdvantages(), Vine(), ..."
            )

    def open(self, start: RunStart) -> _OpenTraces:
        return _OpenTraces(start.folder / "traces", start.name, self.samples)


@dataclass
class _OpenTraces:
    folder: Path
    run: str
    samples: SampleBuilder

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        if not groups:
            return
        made = self.samples.samples(groups)
        assert isinstance(made, AdvantageSamples)
        credit = {
            sequence.sequence_id: advantages
            for sequence, advantages in zip(made.sequences, made.advantages, strict=True)
        }
        folder = self.folder / f"{int(record['iteration']):06d}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "traces.jsonl").open("w") as file:
            for group in groups:
                for rollout in group.rollouts:
                    episode = _episode(self.run, rollout, credit.get(rollout.rollout_id))
                    file.write(json.dumps(episode) + "\n")

    def close(self, summary: Mapping[str, Any]) -> None:
        """Nothing is open between two iterations."""


def _episode(run: str, rollout: Rollout, advantages: Floats | None) -> dict[str, Any]:
    """Args: advantages: [L], of the prompt's tokens and the completion's."""
    outcome, prompt = rollout.outcome, rollout.prompt
    task = {
        "type": "WireTaskData",
        "data": {"prompt": prompt.text, **prompt.meta.get("task_data", {}), "id": prompt.prompt_id},
    }
    trace = {
        "id": rollout.rollout_id,
        "task": task,
        "agent": {"config": {"model": run}},
        "nodes": list(_nodes(rollout, advantages)),
        "rewards": {} if outcome is None else {"outcome": {"score": outcome.value}},
        "metrics": {
            name: score.value
            for name, score in rollout.scores.items()
            if isinstance(score, RolloutScore)
        },
        "errors": [
            {"type": score.reason, "message": f"{name}: {score.detail}"}
            for name, score in rollout.scores.items()
            if isinstance(score, Failure)
        ],
        "is_completed": True,
        "ok": outcome is not None,
        "stop_condition": rollout.completion.finish_reason,
    }
    return {
        "id": rollout.rollout_id,
        "env": {"id": "rlstep"},
        "task": task,
        "group": {"id": f"{rollout.iteration}/{prompt.prompt_id}"},
        "ok": True,
        "traces": [trace],
    }


def _nodes(rollout: Rollout, advantages: Floats | None) -> Iterator[dict[str, Any]]:
    prompt, completion = rollout.prompt, rollout.completion
    yield _node(None, "user", prompt.text, prompt.token_ids.tolist())
    sampled = completion.sampled
    cuts = [i for i in range(1, len(sampled)) if sampled[i] != sampled[i - 1]]
    spans = zip([0, *cuts], [*cuts, len(sampled)], strict=True) if len(sampled) else ()
    for parent, (start, end) in enumerate(spans):
        ids, text = completion.token_ids[start:end].tolist(), rollout.text_of(start, end)
        if not sampled[start]:
            yield _node(parent, "user", text, ids)
            continue
        credit = None
        if advantages is not None:
            first = len(prompt.token_ids)
            credit = advantages[first + start : first + end].tolist()
        yield _node(parent, "assistant", text, ids) | {
            "sampled": True,
            "mask": [True] * len(ids),
            "logprobs": completion.logprobs[start:end].tolist(),
            "advantages": credit,
        }


def _node(parent: int | None, role: str, text: str, ids: list[int]) -> dict[str, Any]:
    return {
        "parent": parent,
        "message": {"role": role, "content": text},
        "token_ids": ids,
        "mask": [False] * len(ids),
    }
