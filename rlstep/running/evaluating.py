"""One evaluation: all that is measured on held-out problems, in a run and by `rlstep eval`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rlstep.config import Config
from rlstep.interfaces import PromptSet, RolloutContext, StepModel, StepOracle
from rlstep.measuring.evaluation import evaluate_prm, tells_apart
from rlstep.measuring.metrics import accuracy, rollout_metrics
from rlstep.measuring.monitors import alarms, tell
from rlstep.measuring.sampled import ACCURACY, Curves, SampledProblem, curves
from rlstep.plugins import check_failed_scores
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.evaluated import Measured, SetFigures
from rlstep.reporting.probe import read_probe, write_probe
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sample_rows import problems_of, sample_rows
from rlstep.rollouts.held_out import answers, sample_greedily, sample_many, sample_probe
from rlstep.types import Group, Prompt, Rollout, Sampling

logger = logging.getLogger(__name__)

GREEDY, SAMPLES, PROBE = "eval", "eval-samples", "prm-probe"
"""Purposes of contexts, which keep their request ids and seeds apart."""


class _Sampling(Protocol):
    """Of the roles what an evaluation needs."""

    def context(self, iteration: int, purpose: str = ...) -> RolloutContext: ...


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out problems of a run, and what they are measured with."""

    config: Config
    prompts: PromptSet
    directory: RunDirectory
    roles: _Sampling
    step_models: Sequence[StepModel]
    """That score here."""

    @property
    def sets(self) -> dict[str, Sequence[Prompt]]:
        """By name, the task's own under ''; none is empty."""
        most = self.config.evaluation.problems or None
        named = {"": self.prompts.evaluation, **self.prompts.sets}
        return {name: prompts[:most] for name, prompts in named.items() if prompts}

    async def measure(self, iteration: int) -> Measured:
        """Sample, score and write down.

        What an earlier life of this evaluation had sampled is taken over, problem by problem; the
        greedy completions, one a problem, are made again.

        Raises:
            RuntimeError: more than `max_failed_scores` of a source's scores failed.
        """
        config, started = self.config.evaluation, time.monotonic()
        drawn = config.drawn(self.config.rollouts.sampling)
        sampling = replace(self.config.rollouts.sampling, max_tokens=drawn.max_tokens)
        sets = self.sets
        everything = [prompt for prompts in sets.values() for prompt in prompts]
        drawing = asyncio.create_task(self._samples(iteration, everything, drawn))
        try:
            context = self.roles.context(iteration, GREEDY)
            if config.rollouts is not None:
                groups = await answers(everything, config.rollouts, context)
            else:
                groups = await sample_greedily(everything, sampling, context)
            check_failed_scores(groups, self.config.max_failed_scores)
            rows = await drawing
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
        self._write(iteration, groups)
        figures, metrics = [], dict[str, float]()
        for name, prompts in sets.items():
            mine = {prompt.prompt_id for prompt in prompts}
            its = [group for group in groups if group.prompt.prompt_id in mine]
            sampled = [row for row in rows if row["prompt_id"] in mine]
            found, measured = await asyncio.to_thread(_of_set, name, its, sampled, config.at)
            figures.append(found)
            metrics |= measured
        if any(model.source == "prm" for model in self.step_models) and config.prm_problems:
            probed = list(sets.get("", ()))[: config.prm_problems]
            metrics |= await self._prm(iteration, probed, drawn) if probed else {}
        metrics["time/evaluation"] = time.monotonic() - started
        return Measured(iteration=iteration, samples=config.samples, sets=figures, metrics=metrics)

    def _write(self, iteration: int, groups: Sequence[Group]) -> None:
        oracle = self.config.task if isinstance(self.config.task, StepOracle) else None
        own = {prompt.prompt_id for prompt in self.prompts.evaluation}
        known = [group for group in groups if group.prompt.prompt_id in own]
        others = [group for group in groups if group.prompt.prompt_id not in own]
        try:
            self.directory.evaluations.truncate_after(iteration - 1)  # of an earlier life
            rows = [*rollout_rows(iteration, known, oracle), *rollout_rows(iteration, others)]
            self.directory.evaluations.append(*rows)
        except DiskFull as error:
            logger.error("%s; the run goes on without these completions", error)

    # --- samples ---------------------------------------------------------------------------------

    async def _samples(
        self, iteration: int, prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[dict[str, Any]]:
        """A row of every sample, without its text."""
        number = self.config.evaluation.samples
        if not number:
            return []
        rows = self._kept(iteration, {prompt.prompt_id for prompt in prompts})
        done = {row["prompt_id"] for row in rows}
        if done:
            logger.warning("the samples of %d problems are there already", len(done))
        rest = [prompt for prompt in prompts if prompt.prompt_id not in done]
        context = self.roles.context(iteration, SAMPLES)
        scored_by = [model.source for model in self.step_models]
        async for groups in sample_many(rest, number, sampling, context):
            check_failed_scores(groups, self.config.max_failed_scores)
            found = list(sample_rows(iteration, groups, scored_by))
            try:
                self.directory.samples.append(*found)
            except DiskFull as error:
                logger.error("%s; the run goes on without these samples", error)
            rows += [_without_text(row) for row in found]
        return rows

    def _kept(self, iteration: int, wanted: set[str]) -> list[dict[str, Any]]:
        """Rows of the problems that an earlier life of this evaluation was done with; what it had
        of others goes."""
        file, number = self.directory.samples, self.config.evaluation.samples
        there = list(file.of_iteration(iteration))
        counted = Counter(row["prompt_id"] for row in there)
        kept = [r for r in there if counted[r["prompt_id"]] == number and r["prompt_id"] in wanted]
        if len(kept) < len(there):
            file.truncate_after(iteration - 1)
            file.append(*kept)
        return [_without_text(row) for row in kept]

    # --- the PRM ---------------------------------------------------------------------------------

    async def _prm(
        self, iteration: int, problems: Sequence[Prompt], sampling: Sampling
    ) -> dict[str, float]:
        context = self.roles.context(iteration, PROBE)
        probe = await self._probe(problems, sampling, context)
        now = await context.scorer.score_steps(probe)
        if not tells_apart(probe):  # nothing to drift from until today
            probe = now
            write_probe(self.directory.probe, probe)
        task = self.config.task
        metrics = evaluate_prm(probe, now, task if isinstance(task, StepOracle) else None)
        moved = {"drift": metrics["prm/drift"]} if "prm/drift" in metrics else {}
        return metrics | tell(alarms(moved, self.config.monitors.thresholds))

    async def _probe(
        self, problems: Sequence[Prompt], sampling: Sampling, context: RolloutContext
    ) -> list[Rollout]:
        """Sampled at the first evaluation of the run, and read back from its directory after; with
        the PRM's scores of the first evaluation at which it told steps apart."""
        file = self.directory.probe
        if not file.exists():
            write_probe(file, await sample_probe(problems, sampling, context))
        return read_probe(file, self.prompts.evaluation)


def _without_text(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "text"}


def _of_set(
    name: str, groups: Sequence[Group], rows: Sequence[dict[str, Any]], ks: Sequence[int]
) -> tuple[SetFigures, dict[str, float]]:
    """The figures of one set, and its metrics."""
    prefix = f"eval/{name}" if name else "eval"
    problems = problems_of(rows)
    found = curves(problems, ks) if ks else {}
    metrics = rollout_metrics(groups, prefix=prefix)
    figures = SetFigures(
        name=name,
        problems=len(groups),
        greedy=accuracy(groups),
        curves=found,
        shots=metrics.get(f"{prefix}/shots", 0.0),
    )
    if ks:
        measured = _sampled_metrics(problems, rows, found)
        metrics |= {f"{prefix}/sampled/{what}": value for what, value in measured}
    return figures, metrics


def _sampled_metrics(
    problems: Sequence[SampledProblem], rows: Sequence[dict[str, Any]], found: Curves
) -> Iterator[tuple[str, float]]:
    """What the samples show at all of them, and what they took."""
    there = [row for row in rows if "failure" not in row]
    yield "problems", len(problems)
    yield "rollouts", len(there)
    yield "tokens", sum(row["tokens"] for row in there)
    if there:
        yield "truncated", sum(row["finish_reason"] == "length" for row in there) / len(there)
    reasons = Counter(row["failure"].partition(":")[0] for row in rows if "failure" in row)
    reasons.update(text.partition(":")[0] for row in there for text in row["failures"].values())
    yield "failures", sum(reasons.values())
    yield from ((f"failures/{reason}", n) for reason, n in sorted(reasons.items()))
    for measure, points in found.items():
        if points:
            yield measure, points[-1].value
        if points and measure == ACCURACY and points[-1].standard_error is not None:
            yield f"{ACCURACY}_standard_error", points[-1].standard_error
