"""Starts the roles, runs the loop, and leaves a run directory behind."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.benchmarks.benchmark_config import Recipe
from rlstep.config import Config
from rlstep.interfaces import PromptSet, StepOracle, Tokenizer
from rlstep.plugins import naming_plugins, naming_refusals
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.evaluated import Measured, write_figures
from rlstep.reporting.measurements import MeasurementLog
from rlstep.reporting.origins import data_of, methods, note, note_models
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory, check_root
from rlstep.reporting.stages import stage
from rlstep.rollouts.recoveries import Recoveries
from rlstep.running.checkpoint import Checkpoint, Checkpoints, RunState
from rlstep.running.cluster import set_at_signals, start_ray
from rlstep.running.evaluating import HeldOut
from rlstep.running.exports import export_all, export_iteration, keep_best
from rlstep.running.loop import train
from rlstep.running.preparing import check, check_sinks, resolve_run_dir, resume_point
from rlstep.running.saved_backlog import read_backlog, write_backlog
from rlstep.running.selection import Selection
from rlstep.running.stopping import until_stopped
from rlstep.running.watchdog import watched

if TYPE_CHECKING:
    from rlstep.actors.roles import RunRoles

logger = logging.getLogger(__name__)


def prepare(config: Config, recipe: Recipe | None = None, recipe_name: str = "") -> Run:
    """Everything that can be refused before a process starts, the run's directory last.

    Args:
        recipe: what the recipe returned, before anything was overridden; kept for comparison.
        recipe_name: of its file.

    Raises:
        ValueError: the configuration, the data, a model, the run's name or its checkpoints.
        PlugInError: a plug-in failed; names it, its file and line.
    """
    root = resolve_run_dir(config)
    check_root(root)
    with naming_refusals():
        check_sinks(config)
        tokenizer, prompts = check(config, root)
    open_directory = RunDirectory.reopen if config.resume else RunDirectory.create
    directory = open_directory(root, config.name)
    with ExitStack() as stack:
        stack.enter_context(directory.hold())
        saved = resume_point(config, directory, prompts) if config.resume else None
        checkpoints = Checkpoints(directory.checkpoints, config.checkpoint_keep)
        held = stack.pop_all()
    parts = (config, tokenizer, prompts, directory, checkpoints, saved, recipe, recipe_name)
    return Run(*parts, held)


@dataclass
class Run:
    """One run of the loop with everything around it."""

    config: Config
    tokenizer: Tokenizer
    prompts: PromptSet
    directory: RunDirectory
    checkpoints: Checkpoints
    saved: Checkpoint | None
    """Where to go on from."""
    recipe: Recipe | None = None
    """What the recipe returned, before anything was overridden."""
    recipe_name: str = ""
    """Of the recipe's file, '' where a program made the configuration."""
    held: ExitStack = field(default_factory=ExitStack)
    """Keeps the run's directory for this process until the run has ended."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by Ctrl-C, SIGTERM (`ray job stop`) or the time limit."""
    seconds: float = 0.0
    """Spent on training: iterations and everything between them, but not the first and the last
    evaluation."""
    clock: Callable[[], float] = time.monotonic
    """Of the seconds between checkpoints."""
    selection: Selection | None = field(init=False, default=None)
    """From the first iteration on."""
    losses: Recoveries = field(default_factory=lambda: Recoveries("max_learner_losses"))
    """Of learners."""

    def __post_init__(self) -> None:
        self._saving = asyncio.Lock()

    async def run(self) -> dict[str, Any]:
        """Train as configured. Returns whether it is complete, and what it took.

        Raises:
            PlugInError: a plug-in failed; names it, its file and line.
            RuntimeError, TimeoutError: a role failed; names the role and what it did.
        """
        saved, resume = self.saved, self.config.resume
        state = saved.state if saved else RunState(iteration=0)
        task = self.config.task
        async with AsyncExitStack() as stack:
            stack.enter_context(self.held)
            stack.enter_context(naming_plugins())
            reporter = Reporter(
                self.directory,
                self.config,
                sinks=self.config.sinks,
                iterations=self.config.iterations,
                evaluation_every=self.config.evaluation.every,
                resumed=state.iteration if resume else None,
                oracle=task if isinstance(task, StepOracle) else None,
                recipe=self.recipe,
            )
            self.reporter = stack.enter_context(reporter)
            data, made_by = data_of(task, self.prompts), methods(self.config)
            note(self.directory, recipe=self.recipe_name or None, methods=made_by, data=data)
            if not await until_stopped(self.stopped, self._start(stack, saved, state)):
                logger.warning("stopped before everything had started")
                self.reporter.add_to_summary(complete=False)
                return {"complete": False}
            state = await self._train(state)
            return await self._finish(state)

    async def _start(
        self, stack: AsyncExitStack, saved: Checkpoint | None, state: RunState
    ) -> None:
        self.roles = await self._start_roles(stack, saved, state)
        with stage("hashes of the models"):
            await asyncio.to_thread(note_models, self.directory, self.config)

    async def _start_roles(
        self, stack: AsyncExitStack, saved: Checkpoint | None, state: RunState
    ) -> RunRoles:
        set_at_signals(self.stopped)
        start_ray(stack, self.directory.log)
        set_at_signals(self.stopped)  # Ray has put handlers of its own in their places
        from rlstep.actors.roles import RunRoles

        roles = RunRoles(self.config, self.tokenizer)
        stack.push_async_callback(roles.close)
        probe = self.prompts.train[0].token_ids
        version, sampled = (
            state.versions.get("policy", 0),
            int(state.counters.get("train_tokens", 0)),
        )
        await roles.start(probe, saved.path if saved else None, version, sampled)
        roles.scorer.versions |= {n: v for n, v in state.versions.items() if n != "policy"}
        return roles

    async def _train(self, state: RunState) -> RunState:
        """The loop until its last iteration, or until the run is stopped."""
        self.state, self.saved_at = state, state.iteration
        self.seconds = float(state.counters.get("train_seconds", 0))
        try:
            work = watched(self._through_losses(state), self._signs, self._patience_s)
            await self._until_stopped(work)
        except Exception:
            await self._save_what_is_whole()
            raise
        if not self.roles.whole:
            self._say_torn("the run was stopped while its learners were started again")
        elif self.state.iteration > self.saved_at:
            await self._save()
        return self.state

    async def _through_losses(self, state: RunState) -> None:
        """The loop, and again from the newest checkpoint where a learner's process has ended."""
        from rlstep.actors.learner.learner_group import LearnerLost  # Ray takes a second to import

        lost: LearnerLost | None = None
        while True:
            try:
                if lost is not None:
                    state = await self._learners_again(lost)
                self.seconds = float(state.counters.get("train_seconds", 0))
                await self._evaluate_before(state.iteration)
                await self._iterate(state, time.monotonic() - self.seconds)
                return
            except LearnerLost as error:
                self.losses.spend(self.config.max_learner_losses, "a learner was lost", error)
                lost, self.roles.whole = error, False  # until its successors are what was saved

    def _signs(self) -> object:
        """What changes while the run gets anything done."""
        files = (self.directory.metrics, self.directory.evaluations, self.directory.samples)
        sizes = [file.path.stat().st_size for file in files if file.path.exists()]
        backlog = self.selection and (
            self.selection.backlog.done,
            len(self.selection.backlog.finished),
        )
        roles = self.roles
        return roles.signs, roles.sampled, roles.version, self.state.iteration, backlog, sizes

    @property
    def _patience_s(self) -> float:
        """Every wait for a role has a deadline, which a retry may double; one that is as long as
        something gets done is asked about it by then."""
        roles = (self.config, self.config.generator, self.config.scorer)
        return 120.0 + 2 * max(role.deadline_s for role in roles)

    async def _learners_again(self, error: Exception) -> RunState:
        """Every learner anew, as the newest checkpoint has it; generators and scorers go on."""
        self.saved = await asyncio.to_thread(self.checkpoints.latest_valid)
        state = self.saved.state if self.saved else RunState(iteration=0)
        again = self.state.iteration - state.iteration
        said = (
            "all learners are started again from iteration %d; %d further ones are done again: %s"
        )
        logger.warning(said, state.iteration, again, error)
        self.state, self.saved_at, self.selection = state, state.iteration, None
        sampled = int(state.counters.get("train_tokens", 0))
        folder, version = self.saved and self.saved.path, state.versions.get("policy", 0)
        await self.roles.learners_again(folder, version, sampled)
        self.roles.scorer.versions = {
            source: state.versions.get(source, 0) for source in self.roles.scorer.versions
        }
        self.directory.truncate_after(state.iteration)
        return state

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work was done to its end. A stop ends evaluations at once, iterations when
        their update is done, so that the checkpoint holds whole ones, and a save at its end."""

        async def whole() -> None:
            await self.roles.between_updates.wait()
            async with self._saving:
                return

        done = await until_stopped(self.stopped, work, whole)
        if not done:
            logger.warning("stopped after %d iterations", self.state.iteration)
        return done

    async def _iterate(self, state: RunState, started: float) -> None:
        config, report = self.config, self.reporter.iteration
        prompts, log = self.prompts.train, MeasurementLog(self.directory.measurements)
        ahead = read_backlog(self.saved.path, prompts) if self.saved else None
        self.selection = Selection(config, prompts, log, ahead)
        self.saved_when = self.clock()
        done = train(config, self.roles, self.selection, report, state.iteration)
        async with aclosing(done):
            async for iteration in done:
                self.seconds = time.monotonic() - started
                self.state = self._state(iteration)
                # Before the checkpoint: a run that goes on from there has it.
                if _due(iteration, config.export_every) and iteration < config.iterations:
                    await export_iteration(self.roles, self.directory, self.state)
                if _due(iteration, config.checkpoint_every) or self._unsaved_for_long():
                    await self._save()
                if self._spent() or self.stopped.is_set():
                    return
                if _due(iteration, config.evaluation.every) and iteration < config.iterations:
                    await self._evaluate(iteration)

    def _unsaved_for_long(self) -> bool:
        return 0.0 < self.config.checkpoint_seconds <= self.clock() - self.saved_when

    def _spent(self) -> bool:
        """Whether one of the budgets of training is used up."""
        seconds, tokens = self.config.train_seconds, self.config.train_tokens
        return 0.0 < seconds <= self.seconds or 0 < tokens <= self.roles.sampled

    def _state(self, iteration: int) -> RunState:
        return RunState(
            iteration=iteration,
            versions={"policy": self.roles.version, **self.roles.scorer.versions},
            counters={"train_seconds": round(self.seconds), "train_tokens": self.roles.sampled},
        )

    async def _save(self) -> None:
        """A checkpoint of the last whole iteration, and of what is collected ahead by now."""
        assert self.selection is not None, "an iteration was done"
        ahead = self.selection.backlog.to_save(self.config.max_policy_lag)
        if ahead is not None:  # what was sampled of it counts
            counters = {**self.state.counters, "train_tokens": self.roles.sampled}
            self.state = replace(self.state, counters=counters)

        async def write(folder: Path) -> None:
            if ahead is not None:
                await asyncio.to_thread(write_backlog, folder, ahead, self.prompts.train)
            await self.roles.save(folder)

        async with self._saving:
            try:
                async with self.checkpoints.writing(self.state) as folder:
                    await write(folder)
            except DiskFull as error:
                logger.error("%s; the run goes on, and the next checkpoint is tried again", error)
            else:
                self.saved_at = self.state.iteration
            finally:
                self.saved_when = self.clock()

    async def _save_what_is_whole(self) -> None:
        """A run that fails keeps every iteration that its learners have done. What fails here is
        said, and what ended the run is raised."""
        if self.selection is None:
            return
        if not self.roles.whole:
            self._say_torn("an update failed in its middle")
            return
        if (done := self.selection.backlog.done) > self.state.iteration:
            self.state = self._state(done)
        if self.state.iteration == self.saved_at:
            return
        try:
            await self._save()
        except Exception as error:
            logger.error("the run fails, and saving what it has done failed, too: %s", error)
        else:
            logger.warning("the run fails; iteration %d is saved", self.saved_at)

    def _say_torn(self, how: str) -> None:
        told = "%s, and is not saved; the newest checkpoint is of iteration %d"
        logger.error(told, how, self.saved_at)

    async def _evaluate_before(self, iteration: int) -> None:
        """What stands before the next iteration: the first evaluation, or one by cadence that an
        earlier life of the run did not get to after its checkpoint."""
        if iteration == 0:
            with stage("first evaluation"):
                await self._evaluate(0)
        elif iteration < self.config.iterations and _due(iteration, self.config.evaluation.every):
            await self._evaluate(iteration)

    async def _evaluate(self, iteration: int) -> None:
        held_out = HeldOut(
            config=self.config,
            prompts=self.prompts,
            directory=self.directory,
            roles=self.roles,
            step_models=self.config.step_models,
        )
        if not held_out.sets:
            return
        if not self.directory.evaluated(iteration):
            measured = await held_out.measure(iteration)
            if measured.samples:
                await self._write_figures(measured)
            self.reporter.iteration({"iteration": iteration, **measured.metrics})
        if metric := self.config.evaluation.best:
            await keep_best(metric, self.roles, self.directory, self._state(iteration))

    async def _write_figures(self, measured: Measured) -> None:
        try:
            await asyncio.to_thread(write_figures, self.directory, measured)
        except DiskFull as error:
            logger.error("%s; the run goes on without these figures", error)

    async def _finish(self, state: RunState) -> dict[str, Any]:
        """The last evaluation and the export; a run that was stopped keeps only its checkpoint."""
        complete = not self.stopped.is_set()
        if complete and state.iteration:
            complete = await self._until_stopped(self._evaluate(state.iteration))
        if complete and state.iteration:
            complete = await self._until_stopped(export_all(self.roles, self.directory, state))
        summary = {
            "complete": complete,
            "train_seconds": round(self.seconds, 1),
            "train_tokens": self.roles.sampled,
            "max_parity_error": self.roles.sync.max_parity_error,
            "generators_recreated": self.roles.generators.recoveries,
            **{f"peak_gib_{role}": peak for role, peak in (await self.roles.peaks_gib()).items()},
        }
        self.reporter.add_to_summary(**summary)
        return summary


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0
