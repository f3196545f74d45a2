"""Offline step pairs in the columns of Math-Step-DPO-10K (Lai et al. 2024, arXiv:2406.18629).

    dataset, prompt, initial_reason_steps, chosen, rejected, full_chosen, full_rejected, answer

`prompt` is the bare problem, `initial_reason_steps` the right beginning that both sides share
(empty, or from the words that the completion was made to begin with), `chosen` and `rejected` the
next step, and the full ones that step and all that came after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from hashlib import blake2b
from typing import Any

import numpy as np

from rlstep.interfaces import Tokenizer
from rlstep.pairs.assemble import Candidate, assemble
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row
from rlstep.tensors.templates import PromptEncoder, PromptTemplate, continuation_ids
from rlstep.types import Group, PairSamples, Rollout, Sequence

_CUT = re.compile(r"\[\d+:\d+\]$")
"""Ends the sequence_id where only a part of a rollout is trained (see sequences.py)."""


def read_step_pairs(
    path: str, tokenizer: Tokenizer, template: PromptTemplate | None = None
) -> PairSamples:
    """Pairs to train on: prompt, shared steps, and the one step that differs.

    Only that step is in the loss mask, and no end-of-sequence token follows it: a step is not the
    end. The shared part and the step are encoded each by itself, so both sides have the same ids up
    to the step. A row whose two steps are the same tells nothing and is left out; a prompt of
    which no row is left counts as a group without signal. Rollout logprobs and versions are 0 and
    their scores are 1 and 0, since nobody sampled or scored these here.

    Args:
        path: a file or dataset (see `read_rows`).
        tokenizer: a fast Hugging Face tokenizer.
        template: what stands around a prompt; its suffix must be empty, since the words that a
            completion is made to begin with are part of `initial_reason_steps`.

    Raises:
        ValueError: a row is broken; the message names file, line and field.
    """
    template = template or PromptTemplate()
    if template.suffix:
        raise ValueError(
            f"template.suffix is {template.suffix!r}; initial_reason_steps holds those words, so "
            "the nearest valid value is ''"
        )
    encoder = PromptEncoder(template, tokenizer)
    groups: dict[str, list[Candidate]] = {}
    for row in read_rows(path):
        candidates = groups.setdefault(row.text("prompt"), [])
        candidate = _candidate(row, encoder, tokenizer)
        if not np.array_equal(candidate.chosen.token_ids, candidate.rejected.token_ids):
            candidates.append(candidate)
    return assemble(list(groups.values()), "offline")


def write_step_pairs(path: str, samples: PairSamples, groups: Seq[Group]) -> None:
    """Write mined pairs, one row each, with the pair's provenance as `dataset`.

    Texts are slices of the rollouts' own texts; nothing is decoded. `prompt` is the bare problem
    and `initial_reason_steps` begins with the template's suffix, both as the task left them in the
    prompt's meta; without those, they are the prompt's text and nothing.

    Args:
        path: written anew.
        samples: pairs whose two sides are trained from the same place on.
        groups: those that the samples were built from.

    Raises:
        ValueError: a pair's sequence stems from no rollout of the groups.
    """
    rollouts = {r.rollout_id: r for group in groups for r in group.rollouts}
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in _rows(samples, rollouts):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _candidate(row: Row, encoder: PromptEncoder, tokenizer: Tokenizer) -> Candidate:
    problem = row.text("prompt")
    prefix = encoder.problem(problem)
    shared = row.text("initial_reason_steps", may_be_empty=True)
    if shared:
        prefix += continuation_ids(tokenizer, shared)

    prompt_id = _digest(problem.encode())

    def side(column: str) -> Sequence:
        return offline_sequence(prompt_id, prefix, continuation_ids(tokenizer, row.text(column)))

    return Candidate(
        chosen=side("chosen"), rejected=side("rejected"), chosen_score=1.0, rejected_score=0.0
    )


def offline_sequence(prompt_id: str, prefix: Seq[int], trained: Seq[int]) -> Sequence:
    """One step that nobody here sampled: `prefix` is read, the tokens behind it are trained."""
    ids = np.array([*prefix, *trained], np.int32)
    in_step = np.arange(len(ids)) >= len(prefix)
    return Sequence(
        # The same tokens trained from the same place on are the same sequence in every pair.
        sequence_id=f"offline/{_digest(ids.tobytes())}[{len(prefix)}:{len(ids)}]",
        prompt_id=prompt_id,
        token_ids=ids,
        loss_mask=in_step,
        step_index=np.where(in_step, 0, -1).astype(np.int32),
        rollout_logprobs=np.zeros(len(ids), np.float32),
        step_scores=np.zeros(1, np.float32),
        oldest_version=0,
    )


def _rows(samples: PairSamples, rollouts: dict[str, Rollout]) -> Iterator[dict[str, Any]]:
    for pair in samples.pairs:
        chosen, rejected = samples.sequences[pair.chosen], samples.sequences[pair.rejected]
        prompt = _rollout(chosen, rollouts).prompt
        shared, chosen_step, chosen_rest = _texts(chosen, rollouts)
        _, rejected_step, rejected_rest = _texts(rejected, rollouts)
        yield {
            "dataset": pair.provenance,
            "prompt": prompt.meta.get("problem", prompt.text),
            "initial_reason_steps": prompt.meta.get("suffix", "") + shared,
            "chosen": chosen_step,
            "rejected": rejected_step,
            "full_chosen": chosen_step + chosen_rest,
            "full_rejected": rejected_step + rejected_rest,
            "answer": prompt.answer,
        }


def _texts(sequence: Sequence, rollouts: dict[str, Rollout]) -> tuple[str, str, str]:
    """What the completion reads before, in, and after the trained tokens."""
    rollout = _rollout(sequence, rollouts)
    trained = np.flatnonzero(sequence.loss_mask) - len(rollout.prompt.token_ids)
    text, starts = rollout.completion.text, [0, *rollout.completion.ends]
    start, end = starts[trained[0]], starts[trained[-1] + 1]
    return text[:start], text[start:end], text[end:]


def _rollout(sequence: Sequence, rollouts: dict[str, Rollout]) -> Rollout:
    rollout_id = _CUT.sub("", sequence.sequence_id)
    if rollout_id not in rollouts:
        raise ValueError(f"sequence {sequence.sequence_id!r} stems from no rollout of the groups")
    return rollouts[rollout_id]


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
