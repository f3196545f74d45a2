"""`rlstep eval`: held-out problems measured with a model as it is on disk. Nothing is trained, and
no learner is started."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlstep.benchmarks.benchmark_config import Recipe
from rlstep.config import Config
from rlstep.interfaces import PromptSet, StepModel, StepOracle, Tokenizer
from rlstep.plugins import naming_plugins, naming_refusals
from rlstep.reporting.describe import describe_config
from rlstep.reporting.evaluated import Measured, lines, write_figures
from rlstep.reporting.files import read_json
from rlstep.reporting.learned_from import UNKNOWN, check_unseen
from rlstep.reporting.origins import data_of, methods, note, note_models, read_versions
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory, check_root
from rlstep.reporting.stages import stage
from rlstep.rollouts.refusals import check_answering
from rlstep.running.cluster import set_at_signals, start_ray
from rlstep.running.evaluating import HeldOut
from rlstep.running.preparing import check, check_sinks, resolve_run_dir
from rlstep.running.resuming import check_same_evaluation
from rlstep.running.stopping import until_stopped

if TYPE_CHECKING:
    from rlstep.actors.serving_roles import ServingRoles

logger = logging.getLogger(__name__)


def prepare_evaluation(
    config: Config, recipe: Recipe | None = None, recipe_name: str = ""
) -> Evaluation:
    """Everything that can be refused before a process starts, the run's directory last.

    Args:
        recipe: what the recipe returned, before anything was overridden; kept for comparison.
        recipe_name: of its file.

    Raises:
        ValueError: the configuration, the problems, a model, the name, or a step model that
            learned from the problems.
        PlugInError: a plug-in failed; names it, its file and line.
    """
    root = resolve_run_dir(config)
    check_root(root)
    with naming_refusals():
        check_sinks(config)
        tokenizer, prompts = check(config, root, trains=False)
    scoring, origins = _scoring(config, prompts)
    open_directory = RunDirectory.reopen if config.resume else RunDirectory.create
    directory = open_directory(root, config.name)
    with ExitStack() as stack:
        stack.enter_context(directory.hold())
        if config.resume:
            _check_unmeasured(directory)
            check_same_evaluation(read_json(directory.config), describe_config(config))
        held = stack.pop_all()
    parts = (config, tokenizer, prompts, directory, scoring, origins, recipe, recipe_name)
    return Evaluation(*parts, held)


def _check_unmeasured(directory: RunDirectory) -> None:
    if directory.evaluated(0):
        raise ValueError(
            f"resume: {directory.path} is complete, see its {directory.figures.name}; begin another"
            " evaluation without --resume"
        )


def _scoring(config: Config, prompts: PromptSet) -> tuple[list[StepModel], dict[str, str]]:
    """The step models that have learned to score, and what is known of where from, by source.

    What cannot score as it is on disk is left out, and said: one that a run would begin to train
    has nothing to say yet.
    """
    scoring, origins = [], {}
    for number, model in enumerate(config.step_models):
        folder = model.learner.model.path
        if reason := _unfit(model):
            print(
                f"step model {model.source!r} is left out: {reason}; --step-models.{number}.learner"
                ".model.path FOLDER names another",
                flush=True,
            )
            continue
        scoring.append(model)
        origins[model.source] = check_unseen(
            model.source, folder, prompts, config.evaluation.problems or None
        )
        if origins[model.source] == UNKNOWN:
            logger.warning(
                "WHAT %r LEARNED FROM IS UNKNOWN: %s does not say. If the evaluated problems were"
                " among it, best-of-k and votes by it are better than they should be",
                *(model.source, folder),
            )
    answering, temperature = config.evaluation.rollouts, config.train_temperature
    check_answering(answering, config.rollouts, scoring, temperature)
    return scoring, origins


def _unfit(model: StepModel) -> str:
    """Why a step model cannot score as it is on disk; '' where it can."""
    from rlstep.actors.learner.heads import check_architecture

    if model.log_ratios or model.embeds or (model.loss is not None and model.loss.outputs > 1):
        return f"{type(model).__name__} reads more of a model than a frozen one gives"
    try:
        check_architecture(model.learner)
    except ValueError as error:
        return str(error)
    return ""


@dataclass
class Evaluation:
    """One evaluation with everything around it."""

    config: Config
    tokenizer: Tokenizer
    prompts: PromptSet
    directory: RunDirectory
    step_models: list[StepModel]
    """Those that score."""
    origins: dict[str, str]
    """By their sources what they learned from: see `check_unseen`."""
    recipe: Recipe | None = None
    """What the recipe returned, before anything was overridden."""
    recipe_name: str = ""
    """Of the recipe's file, '' where a program made the configuration."""
    held: ExitStack = field(default_factory=ExitStack)
    """Keeps the directory for this process until the evaluation has ended."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by Ctrl-C and SIGTERM (`ray job stop`)."""

    async def run(self) -> dict[str, Any]:
        """Measure. Returns whether it came to its end; what was sampled before a stop is kept.

        Raises:
            PlugInError: a plug-in failed; names it, its file and line.
            RuntimeError, TimeoutError: a role failed; names the role and what it did.
        """
        task = self.config.task
        async with AsyncExitStack() as stack:
            stack.enter_context(self.held)
            stack.enter_context(naming_plugins())
            reporter = Reporter(
                self.directory,
                self.config,
                sinks=self.config.sinks,
                iterations=0,
                oracle=task if isinstance(task, StepOracle) else None,
                recipe=self.recipe,
            )
            self.reporter = stack.enter_context(reporter)
            data, made_by = data_of(task, self.prompts), methods(self.config)
            note(self.directory, recipe=self.recipe_name or None, methods=made_by, data=data)
            if await until_stopped(self.stopped, self._start(stack)):
                with stage("evaluation"):
                    measured = await self._until_stopped()
            else:
                measured = self._stopped()
            if measured is None:
                self.reporter.add_to_summary(complete=False)
                return {"complete": False}
            await self._report(measured)
            summary = {
                "complete": True,
                "generators_recreated": self.roles.generators.recoveries,
            }
            self.reporter.add_to_summary(**summary)
            return summary

    async def _start(self, stack: AsyncExitStack) -> None:
        self.roles = await self._start_roles(stack)
        with stage("hashes of the models"):
            await asyncio.to_thread(note_models, self.directory, self.config)

    async def _start_roles(self, stack: AsyncExitStack) -> ServingRoles:
        set_at_signals(self.stopped)
        start_ray(stack, self.directory.log)
        set_at_signals(self.stopped)  # Ray has put handlers of its own in their places
        from rlstep.actors.serving_roles import ServingRoles

        roles = ServingRoles(self.config, self.tokenizer, self.step_models)
        stack.push_async_callback(roles.close)
        await roles.serve()
        return roles

    async def _until_stopped(self) -> Measured | None:
        held_out = HeldOut(
            config=self.config,
            prompts=self.prompts,
            directory=self.directory,
            roles=self.roles,
            step_models=self.step_models,
        )
        found: list[Measured] = []

        async def measure() -> None:
            found.append(await held_out.measure(0))

        return found[0] if await until_stopped(self.stopped, measure()) else self._stopped()

    def _stopped(self) -> None:
        logger.warning(
            "stopped; rlstep eval RECIPE --name %s --resume True goes on with it",
            self.directory.name,
        )

    async def _report(self, measured: Measured) -> None:
        models = read_versions(self.directory).get("models", {})
        known = {"policy": models.get("policy")}
        known |= {
            source: {**models.get(source, {}), "learned_from": origin}
            for source, origin in self.origins.items()
        }
        await asyncio.to_thread(write_figures, self.directory, measured, models=known)
        self.reporter.iteration({"iteration": 0, **measured.metrics})
        print("\n".join(lines(measured)), flush=True)
