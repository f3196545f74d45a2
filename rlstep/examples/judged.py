"""Solutions whose steps were judged, as labels for a model that scores steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from rlstep.examples.from_rows import FromRows, LeftOut
from rlstep.examples.prompts import problem_prompt
from rlstep.interfaces import Reader, StepLayout
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row
from rlstep.tensors.inputs import to_model
from rlstep.tensors.labels import labelled_steps
from rlstep.tensors.templates import PromptEncoder, PromptTemplate, continuation_ids
from rlstep.types import (
    Completion,
    LabelSamples,
    Prompt,
    Rollout,
    Sampling,
    Step,
    VersionSpan,
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The steps of a solution and what was said of each of the K."""

    steps: tuple[str, ...]
    """Their texts, each with what ends it."""
    targets: tuple[float, ...]
    """In [0, 1]."""
    weights: tuple[float, ...]
    """0 where nothing was said."""
    whole: bool = True
    """Whether the solution ends there: its last step then holds the end-of-sequence token."""


@dataclass(frozen=True, kw_only=True)
class JudgedRows(FromRows[tuple[Prompt, Judged], LabelSamples]):
    """Labels stand where a PRM is read: at the steps' last tokens, or at the tags of its layout."""

    makes: ClassVar[type] = LabelSamples

    template: PromptTemplate = PromptTemplate()
    """What stands around a problem: the policy's, so that a PRM reads what it is to read of it."""
    layout: StepLayout | None = None
    """The PRM's; None: it reads the policy's own tokens, each step at its last one. The policy is
    taken to have the PRM's vocabulary. (`StepTags` reads the text of one that has another: so does
    a template without chat that ends with a newline, with `whole` False, where there is no end.)"""
    end: str = "\n"
    """What the policy ends a step with, as the run's splitter cuts it; the last one of a solution
    ends with the end-of-sequence token alone."""

    @property
    @abstractmethod
    def column(self) -> str:
        """Where the steps stand."""

    @abstractmethod
    def judged(self, row: Row) -> tuple[str, list[Judged]]:
        """A row's problem, and its solutions.

        Raises:
            ValueError: names the file, its line and the field.
        """

    def why_not(self, row: Row) -> str:
        """Why a row is left out, '' where it is not."""
        return ""

    def items(self, path: str, tokenizer: Any, left_out: LeftOut) -> list[tuple[Prompt, Judged]]:
        encoder, read = PromptEncoder(self.template, tokenizer), self._reader(tokenizer)
        found: list[tuple[Prompt, Judged]] = []
        for row in read_rows(path):
            if why := self.why_not(row):
                left_out.add(row, why)
                continue
            problem, judged = self.judged(row)
            prompt = problem_prompt(encoder, self.template, problem)
            labelled = [(prompt, each) for each in judged if any(each.weights)]
            if not labelled:
                left_out.add(row, "no step has a label")
            for sequence in judged_samples(labelled, tokenizer, read).sequences:
                self.check_length(row, self.column, len(sequence.token_ids))
            found += labelled
        return found

    def samples(self, items: Seq[tuple[Prompt, Judged]], tokenizer: Any) -> LabelSamples:
        return judged_samples(items, tokenizer, self._reader(tokenizer))

    def ended(self, steps: Seq[str], whole: bool) -> tuple[str, ...]:
        """Texts of steps with what ends them."""
        last = len(steps) - 1
        return tuple(s if whole and k == last else s + self.end for k, s in enumerate(steps))

    def _reader(self, tokenizer: Any) -> Reader | None:
        return self.layout.reader(tokenizer, tokenizer) if self.layout else None


def judged_samples(
    solutions: Seq[tuple[Prompt, Judged]], tokenizer: Any, read: Reader | None = None
) -> LabelSamples:
    """Each step's target and weight at its last token; what has no weight is read and not trained.

    Each step is encoded by itself, as text that goes on after another, so that no token straddles
    two. Text in it is data: no special token comes out of it.

    Args:
        tokenizer: the model's, a fast Hugging Face tokenizer.
        read: of a PRM's layout; None leaves the labels on the policy's own tokens.
    """
    rollouts = judged_rollouts(solutions, tokenizer)
    columns = [
        labelled_steps(rollout, *np.array([judged.targets, judged.weights], np.float32))
        for rollout, (_, judged) in zip(rollouts, solutions, strict=True)
    ]
    samples = LabelSamples(
        sequences=tuple(column[0] for column in columns),
        targets=tuple(column[1] for column in columns),
        weights=tuple(column[2] for column in columns),
    )
    return to_model(samples, rollouts, read) if read else samples


def judged_rollouts(solutions: Seq[tuple[Prompt, Judged]], tokenizer: Any) -> list[Rollout]:
    """Solutions as if a policy had sampled them, which is what a PRM reads (see `judged_samples`).

    Args:
        tokenizer: the policy's, a fast Hugging Face tokenizer.
    """
    encode = cache(lambda text: tuple(continuation_ids(tokenizer, text)))
    end = tokenizer.eos_token_id
    return [
        _rollout(f"{i}/{prompt.prompt_id}", prompt, judged, [encode(s) for s in judged.steps], end)
        for i, (prompt, judged) in enumerate(solutions)
    ]


def _rollout(
    name: str, prompt: Prompt, judged: Judged, steps: list[tuple[int, ...]], end: int
) -> Rollout:
    """One solution, whose steps are token ids by now."""
    if judged.whole:
        steps = [*steps[:-1], (*steps[-1], end)]
    lengths = [len(ids) for ids in steps]
    stops = np.cumsum(lengths)
    # Where a step ends in the text is all that is asked of `ends`.
    texts = np.cumsum([0, *map(len, judged.steps)])
    ends = np.repeat(texts[:-1], lengths)
    ends[stops - 1] = texts[1:]
    total = int(stops[-1])
    completion = Completion(
        token_ids=np.array([i for ids in steps for i in ids], np.int32),
        logprobs=np.zeros(total, np.float32),
        text="".join(judged.steps),
        ends=ends.astype(np.int32),
        finish_reason="stop",
        stop_reason=None,
        versions=(VersionSpan(version=0, start=0, end=total),),
    )
    return Rollout(
        rollout_id=name,
        prompt=prompt,
        completion=completion,
        steps=tuple(
            Step(start=int(stop) - length, end=int(stop))
            for stop, length in zip(stops, lengths, strict=True)
        ),
        sample_index=0,
        iteration=0,
        seed=0,
        sampling=Sampling(),
    )
