"""An evaluation of a model that scores as a run: its directory, its scores and its numbers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.benchmarks.benchmark_config import BenchmarkConfig, Recipe
from rlstep.interfaces import Case, PromptSet
from rlstep.plugins import check_failed_scores, naming_plugins, naming_refusals
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.learned_from import UNKNOWN, check_unseen
from rlstep.reporting.origins import methods, note, note_models
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory, check_no_run, check_root
from rlstep.reporting.stages import stage
from rlstep.running.cluster import set_at_signals, start_ray
from rlstep.running.preparing import check_sinks, resolve_run_dir
from rlstep.running.stopping import until_stopped
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Group, Prompt, Rollout, Score

if TYPE_CHECKING:
    from rlstep.actors.scorer.step_models import StepModelRole

logger = logging.getLogger(__name__)


def prepare_benchmarks(
    config: BenchmarkConfig, recipe: Recipe | None = None, recipe_name: str = ""
) -> Benchmarking:
    """Everything that can be refused before a process starts, the run's directory last.

    Args:
        recipe: what the recipe returned, before anything was overridden; kept for comparison.
        recipe_name: of its file.

    Raises:
        ValueError: the configuration, the benchmarks' data, the model or the run's name.
        PlugInError: a plug-in failed; names it, its file and line.
    """
    root = resolve_run_dir(config)
    check_root(root)
    with naming_refusals():
        check_sinks(config)
        cases = check(config, root)
    directory = RunDirectory.create(root, config.name)
    held = ExitStack()
    held.enter_context(directory.hold())
    return Benchmarking(config, cases, directory, recipe, recipe_name, held)


def check(config: BenchmarkConfig, root: Path) -> list[list[Case]]:
    """The cases of every benchmark; the model can be loaded and read them.

    Args:
        root: where runs are kept.

    Raises:
        ValueError: the model or the data; names the file, its line and the field. Or the model
            learned from problems of a benchmark.
    """
    from rlstep.actors.learner.models import check_learner

    path = config.model.learner.model.path
    check_no_run(path, root)
    check_learner(config.model.learner, None)
    tokenizer: Any = read_tokenizer(path)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of model.learner.model.path {path!r} has no eos_token, which ends a"
            " solution; set tokenizer.eos_token and save the tokenizer there"
        )
    config.model.reader(tokenizer)  # refuses what does not fit; the role makes its own
    cases = [benchmark.cases(tokenizer) for benchmark in config.benchmarks]
    _check_unseen(config, cases)
    return cases


def _check_unseen(config: BenchmarkConfig, cases: Sequence[Sequence[Case]]) -> None:
    """Refuse a model that learned from a benchmark's problems; of one that does not say, warn."""
    path, source = config.model.learner.model.path, config.model.source
    for benchmark, each in zip(config.benchmarks, cases, strict=True):
        prompts = {r.prompt.prompt_id: r.prompt for case in each for r in case.rollouts}
        measured = PromptSet(train=(), evaluation=(), sets={benchmark.name: [*prompts.values()]})
        if check_unseen(source, path, measured, None) == UNKNOWN:
            logger.warning(
                "%s: %r does not say which problems it learned from; if problems of %s are among"
                " them, its figures say nothing",
                *(source, path, benchmark.name),
            )


@dataclass
class Benchmarking:
    """One evaluation with everything around it."""

    config: BenchmarkConfig
    cases: Sequence[Sequence[Case]]
    """Of every benchmark."""
    directory: RunDirectory
    recipe: Recipe | None = None
    """What the recipe returned, before anything was overridden."""
    recipe_name: str = ""
    """Of the recipe's file, '' where a program made the configuration."""
    held: ExitStack = field(default_factory=ExitStack)
    """Keeps the run's directory for this process until the run has ended."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by Ctrl-C or SIGTERM (`ray job stop`)."""

    async def run(self) -> dict[str, Any]:
        """Score everything. Returns whether it is complete, and the numbers.

        Raises:
            PlugInError: a plug-in failed, or too many scores; names it, its file and line.
            ValueError: a benchmark can make no number of the scores.
            RuntimeError, TimeoutError: the model's role failed; names what it did.
        """
        config = self.config
        async with AsyncExitStack() as stack:
            stack.enter_context(self.held)
            stack.enter_context(naming_plugins())
            reporter = Reporter(
                self.directory,
                config,
                sinks=config.sinks,
                iterations=0,
                recipe=self.recipe,
            )
            stack.enter_context(reporter)
            note(self.directory, recipe=self.recipe_name or None, methods=methods(config))
            found: dict[str, float] = {}
            complete = await self._until_stopped(self._run(stack, reporter, found))
            reporter.add_to_summary(complete=complete, **found)
        return {"complete": complete, **found}

    async def _run(
        self, stack: AsyncExitStack, reporter: Reporter, found: dict[str, float]
    ) -> None:
        role = await self._start_model(stack)
        with stage("hashes of the models"):
            await asyncio.to_thread(note_models, self.directory, self.config)
        await self._measure(role, reporter, found)

    async def _start_model(self, stack: AsyncExitStack) -> StepModelRole:
        set_at_signals(self.stopped)
        start_ray(stack, self.directory.log)
        set_at_signals(self.stopped)  # Ray has put handlers of its own in their places
        from rlstep.actors.scorer.step_models import start_frozen

        config = self.config
        role = await start_frozen(
            config.model,
            read_tokenizer(config.model.learner.model.path),
            seed=config.seed,
            deadline_s=config.deadline_s,
            options={"num_gpus": config.gpus} if config.gpus else {},
        )
        stack.push_async_callback(role.learner.close)
        return role

    async def _until_stopped(self, work: Any) -> bool:
        done = await until_stopped(self.stopped, work)
        if not done:
            logger.warning("stopped before every benchmark was measured")
        return done

    async def _measure(
        self, role: StepModelRole, reporter: Reporter, found: dict[str, float]
    ) -> None:
        """One record a benchmark; what is found is there also where a later one fails."""
        for benchmark, cases in zip(self.config.benchmarks, self.cases, strict=True):
            started = time.monotonic()
            rollouts = [rollout for case in cases for rollout in case.rollouts]
            with stage(f"{benchmark.name}: {len(rollouts):,} scored"):
                scores = iter(await role.score(rollouts, 0))
            by_case = [[next(scores) for _ in case.rollouts] for case in cases]
            groups = _groups(cases, by_case, role.model.source)
            check_failed_scores(groups, self.config.max_failed_scores)
            self._keep(groups, _Labels.of(cases) if benchmark.knows_first_errors else None)
            numbers = benchmark.figures(cases, by_case).items()
            figures = {f"eval/{benchmark.name}/{name}": number for name, number in numbers}
            took = {"time/evaluation": time.monotonic() - started}
            reporter.iteration({"iteration": 0, **figures, **took})
            found |= figures

    def _keep(self, groups: Sequence[Group], oracle: _Labels | None) -> None:
        """What was scored, for `rlstep show RUN --evaluation`."""
        try:
            self.directory.evaluations.append(*rollout_rows(0, groups, oracle))
        except DiskFull as error:
            logger.error("%s; the evaluation goes on without these solutions", error)


def _groups(cases: Sequence[Case], scores: Sequence[Sequence[Score]], source: str) -> list[Group]:
    """What was scored, with its scores, by problem."""
    by_prompt: dict[str, tuple[Prompt, list[Rollout]]] = {}
    for case, scored in zip(cases, scores, strict=True):
        for rollout, score in zip(case.rollouts, scored, strict=True):
            prompt = rollout.prompt
            _, together = by_prompt.setdefault(prompt.prompt_id, (prompt, []))
            together.append(rollout.with_scores(**{source: score}))
    return [
        Group(prompt=prompt, rollouts=tuple(rollouts))
        for _, (prompt, rollouts) in sorted(by_prompt.items())
    ]


@dataclass(frozen=True)
class _Labels:
    """What the benchmarks know, as an oracle for the rows of rollouts (`interfaces.StepOracle`)."""

    known: Mapping[tuple[str, tuple[str, ...]], int | None]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> _Labels:
        known = {}
        for case in cases:
            (rollout,) = case.rollouts
            texts = tuple(rollout.step_text(k) for k in range(len(rollout.steps)))
            known[rollout.prompt.prompt_id, texts] = case.first_error
        return cls(known)

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        return self.known[prompt.prompt_id, tuple(step_texts)]
