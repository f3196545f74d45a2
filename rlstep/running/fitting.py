"""Supervised training as a run: its directory, progress, checkpoints, measurements and export."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.benchmarks.benchmark_config import Recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Tokenizer
from rlstep.measuring.fitted import fit_metrics
from rlstep.plugins import naming_plugins, naming_refusals
from rlstep.reporting.card import sign
from rlstep.reporting.describe import describe_config
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.files import read_json
from rlstep.reporting.hashing import SamplesHash, hash_samples
from rlstep.reporting.learned_from import write_learned
from rlstep.reporting.origins import data_of, methods, note, note_models
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory, check_no_run, check_root
from rlstep.reporting.stages import stage
from rlstep.running.checkpoint import Checkpoint, Checkpoints, RunState
from rlstep.running.cluster import set_at_signals, start_ray
from rlstep.running.exports import in_the_place_of
from rlstep.running.preparing import check_sinks, load_tokenizer, resolve_run_dir
from rlstep.running.resuming import check_fit_resume, check_unfinished
from rlstep.running.stopping import until_stopped
from rlstep.types import Samples

if TYPE_CHECKING:
    from rlstep.actors.learner.learner_group import LearnerGroup

_MODEL = "model"
"""Of a checkpoint: what the learner saved."""

logger = logging.getLogger(__name__)


def prepare_fit(config: FitConfig, recipe: Recipe | None = None, recipe_name: str = "") -> Fitting:
    """Everything that can be refused before a process starts, the run's directory last.

    Args:
        recipe: what the recipe returned, before anything was overridden; kept for comparison.
        recipe_name: of its file.

    Raises:
        ValueError: the configuration, the examples, the model, the run's name or its checkpoints.
        PlugInError: a plug-in failed; names it, its file and line.
    """
    root = resolve_run_dir(config)
    check_root(root)
    with naming_refusals():
        check_sinks(config)
        check(config, root)
    open_directory = RunDirectory.reopen if config.resume else RunDirectory.create
    directory = open_directory(root, config.name)
    with ExitStack() as stack:
        stack.enter_context(directory.hold())
        began = _with_model(config, directory)
        if began is not config:
            with naming_refusals():
                check(began, root)
        saved = resume_point(config, directory) if config.resume else None
        held = stack.pop_all()
    tokenizer = load_tokenizer(began.learner.model.path)
    return Fitting(began, tokenizer, directory, saved, recipe, recipe_name, held)


def check(config: FitConfig, root: Path) -> str:
    """What is there to train and to train on, in words.

    Args:
        root: where runs are kept.

    Raises:
        ValueError: the model or the examples, of which the first batch is made.
    """
    from rlstep.actors.learner.models import check_learner

    if not config.learner.model.path:
        return "the model and the examples are made at the start"
    check_no_run(config.learner.model.path, root)
    check_learner(config.learner, config.loss)
    tokenizer = load_tokenizer(config.learner.model.path)
    first = next(iter(config.examples.batches(tokenizer, config.seed)), None)
    if first is None:
        raise ValueError(f"examples {type(config.examples).__name__} has no batch")
    held_out = config.examples.held_out(tokenizer)
    rest = f"{len(held_out.sequences):,} held out" if held_out else "none held out"
    return f"{len(first.sequences):,} sequences in the first batch, {rest}"


def _with_model(config: FitConfig, directory: RunDirectory) -> FitConfig:
    """The same with the folder of the model that it begins with, written where there is none."""
    if config.learner.model.path:
        return config
    assert config.start is not None, "the configuration has checked it"
    folder = directory.path / "start"
    if not (folder / "config.json").exists():
        config.start.write(str(folder), config.seed)
    learner = replace(config.learner, model=replace(config.learner.model, path=str(folder)))
    return replace(config, learner=learner)


def resume_point(config: FitConfig, directory: RunDirectory) -> Checkpoint | None:
    """Where an earlier training would go on: its newest valid checkpoint, None where it has none.

    Raises:
        ValueError: no checkpoint is valid, or the configuration is of another run; names the field.
    """
    saved, changed = Checkpoints(directory.checkpoints).latest_valid(), ""
    if saved and directory.config.exists():
        now = describe_config(_with_model(config, directory))
        changed = check_fit_resume(read_json(directory.config), now)
    if saved:
        ended = read_json(directory.summary) if directory.summary.exists() else {}
        check_unfinished(config, saved.state, complete=bool(ended.get("complete")))
    if changed:
        print(changed, flush=True)
    return saved


@dataclass
class Fitting:
    """One supervised training with everything around it."""

    config: FitConfig
    tokenizer: Tokenizer
    directory: RunDirectory
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
    clock: Callable[[], float] = time.monotonic
    """Of the seconds between checkpoints."""

    async def run(self) -> dict[str, Any]:
        """Train as configured. Returns whether it is complete, and what it took.

        Raises:
            PlugInError: a plug-in failed; names it, its file and line.
            RuntimeError, TimeoutError: the learner failed; names what it did.
        """
        config, saved = self.config, self.saved
        state = saved.state if saved else RunState(iteration=0)
        async with AsyncExitStack() as stack:
            stack.enter_context(self.held)
            stack.enter_context(naming_plugins())
            reporter = Reporter(
                self.directory,
                config,
                sinks=config.sinks,
                iterations=config.iterations,
                evaluation_every=config.evaluation_every,
                resumed=state.iteration if config.resume else None,
                recipe=self.recipe,
            )
            self.reporter = stack.enter_context(reporter)
            data, made_by = data_of(config.examples), methods(config)
            note(self.directory, recipe=self.recipe_name or None, methods=made_by, data=data)
            if not await until_stopped(self.stopped, self._start(stack)):
                logger.warning("stopped before everything had started")
                self.reporter.add_to_summary(complete=False)
                return {"complete": False}
            self.held_out = config.examples.held_out(self.tokenizer)
            complete = await self._train(state)
            note(self.directory, data=self._data())
            if complete:
                complete = await until_stopped(self.stopped, self._export())
            summary = {
                "complete": complete,
                "batches": self.batches,
                "train_seconds": round(self.seconds, 1),
                **{f"{name}_end": value for name, value in self.measured.items()},
            }
            self.reporter.add_to_summary(**summary)
            return summary

    async def _start(self, stack: AsyncExitStack) -> None:
        self.learner = await self._start_learner(stack)
        with stage("hashes of the models"):
            await asyncio.to_thread(note_models, self.directory, self.config)

    async def _start_learner(self, stack: AsyncExitStack) -> LearnerGroup:
        set_at_signals(self.stopped)
        start_ray(stack, self.directory.log)
        from rlstep.actors.learner.learner_group import LearnerGroup

        set_at_signals(self.stopped)  # Ray has put handlers of its own in their places
        config = self.config
        with stage("learner"):
            learner = await LearnerGroup.start(
                config.learner,
                config.loss,
                name="learner",
                seed=config.seed,
                deadline_s=config.deadline_s,
                actor_options={"num_gpus": config.gpus} if config.gpus else None,
            )
            stack.push_async_callback(learner.close)
            if self.saved:
                await learner.restore(str(self.saved.path / _MODEL))
        return learner

    async def _train(self, state: RunState) -> bool:
        """Iterations until the last one, the end of the examples, or a stop, which ends the
        training when its iteration is done. Returns whether it came to its end."""
        config = self.config
        self.batches = int(state.counters.get("batches", 0))
        self.seconds = float(state.counters.get("train_seconds", 0))
        self.measured: dict[str, float] = {}
        self.drawn = SamplesHash()
        batches = self.drawn.passing(config.examples.batches(self.tokenizer, config.seed))
        for _ in itertools.islice(batches, self.batches):
            continue  # seen before the training was resumed
        self.state, self.saved_at, self.whole = state, state.iteration, True
        try:
            await self._to_the_end(batches)
        except Exception:
            await self._save_what_is_whole()
            raise
        self.iteration = self.state.iteration
        complete = not self.stopped.is_set()
        await self._save()
        return complete and await self._measured(self.iteration)

    async def _to_the_end(self, batches: Iterator[Samples]) -> None:
        config, first = self.config, self.state.iteration
        if first == 0 or _due(first, config.evaluation_every):
            await self._measured(first)
        saved_when = self.clock()
        for iteration in range(first + 1, config.iterations + 1):
            if self.stopped.is_set() or 0.0 < config.train_seconds <= self.seconds:
                return
            if not await self._iterate(iteration, batches):
                return
            counters = {"batches": self.batches, "train_seconds": round(self.seconds)}
            self.state = RunState(iteration=iteration, counters=counters)
            late = 0.0 < config.checkpoint_seconds <= self.clock() - saved_when
            if late or _due(iteration, config.checkpoint_every):
                await self._save()
                saved_when = self.clock()
            if _due(iteration, config.evaluation_every):
                await self._measured(iteration)

    async def _measured(self, iteration: int) -> bool:
        """Whether it was measured, and not stopped meanwhile."""
        return await until_stopped(self.stopped, self._measure(iteration))

    async def _iterate(self, iteration: int, batches: Iterator[Samples]) -> int:
        """Train on the next batches. Returns how many there were."""
        started, done = time.monotonic(), 0
        sums, weights = defaultdict[str, float](float), defaultdict[str, float](float)
        for samples in itertools.islice(batches, self.config.updates_per_iteration):
            self.whole = False
            metrics = await self.learner.train(samples)
            done, updates = done + 1, metrics["updates"]
            for name, value in metrics.items():
                weights[name] += updates  # not every batch has every metric
                sums[name] += value if name in _SUMMED else value * updates
        if not done:
            return 0
        took = time.monotonic() - started
        self.batches += done
        self.seconds += took
        record = {
            name if "/" in name else f"train/{name}": (
                value if name in _SUMMED else value / (weights[name] or 1.0)
            )
            for name, value in sums.items()
        }
        self.reporter.iteration({"iteration": iteration, **record, "time/iteration": took})
        self.whole = True
        return done

    async def _measure(self, iteration: int) -> None:
        if self.held_out is None or self.directory.evaluated(iteration):
            return
        started = time.monotonic()
        rows = [s.token_ids for s in self.held_out.sequences]
        predictions = await self.learner.predict(rows)
        self.measured = fit_metrics(self.held_out, predictions, scores=self.config.scores)
        took = {"time/evaluation": time.monotonic() - started}
        self.reporter.iteration({"iteration": iteration, **self.measured, **took})

    def _data(self) -> dict[str, Any]:
        """The entry of the examples, with the hash of every batch that was trained on."""
        trained = {"sha256": self.drawn.hexdigest(), "batches": self.drawn.batches}
        found = {**data_of(self.config.examples), "train": trained}
        if self.held_out is not None:
            sequences = len(self.held_out.sequences)
            held_out = {"sha256": hash_samples(self.held_out), "sequences": sequences}
            found["held_out"] = held_out
        return found

    async def _export(self) -> None:
        async def write(folder: Path) -> None:
            await self.learner.export(str(folder))
            if self.config.scores:
                began_with = self.config.learner.model.path
                write_learned(folder, self.drawn.prompt_ids, began_with)
            updates = {"updates": self.batches}
            await asyncio.to_thread(sign, folder, self.directory, self.iteration, updates)

        await in_the_place_of(self.directory.export, write)

    async def _save(self) -> None:
        """A checkpoint of the last iteration, unless there is one."""
        if self.state.iteration == self.saved_at:
            return
        checkpoints = Checkpoints(self.directory.checkpoints, self.config.checkpoint_keep)
        try:
            async with checkpoints.writing(self.state) as folder:
                await self.learner.save(str(folder / _MODEL))
        except DiskFull as error:
            logger.error("%s; training goes on, and the next checkpoint is tried again", error)
        else:
            self.saved_at = self.state.iteration

    async def _save_what_is_whole(self) -> None:
        """A training that fails between two iterations keeps those that it has done. What fails
        here is said, and what ended the training is raised."""
        if not self.whole:
            logger.error(
                "an iteration failed in its middle, and is not saved; the newest checkpoint is of"
                " iteration %d",
                self.saved_at,
            )
            return
        try:
            await self._save()
        except Exception as error:
            logger.error("the training fails, and saving what it has done failed, too: %s", error)


_SUMMED = frozenset({"updates", "skipped_updates", "tokens", "seconds"})
"""Of the learner's metrics those that add up over batches; the others are means over updates."""


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0
