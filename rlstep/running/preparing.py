"""Everything that can be refused before a process starts: models, tokenizer, data, settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlstep.benchmarks.benchmark_config import Recipe
from rlstep.checks import json_able, parts
from rlstep.config import Config, ModelConfig
from rlstep.interfaces import JudgeModel, PromptSet, Tokenizer
from rlstep.reporting.describe import describe_config
from rlstep.reporting.files import read_json
from rlstep.reporting.learned_from import check_unseen
from rlstep.reporting.measurements import MeasurementLog
from rlstep.reporting.origins import check_same_data
from rlstep.reporting.probe import read_probe
from rlstep.reporting.run_directory import RunDirectory, check_no_run, default_root
from rlstep.reporting.sinks.files import Files
from rlstep.running.checkpoint import Checkpoint, Checkpoints
from rlstep.running.resuming import check_resume, check_unfinished
from rlstep.running.saved_backlog import read_backlog
from rlstep.running.selection import draw_of
from rlstep.scoring.judges.routing import check_routes
from rlstep.scoring.processes.confined import spec_of
from rlstep.tasks.mixture import Part
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Prompt, Sampling

logger = logging.getLogger(__name__)


def check(config: Config, root: Path, *, trains: bool = True) -> tuple[Tokenizer, PromptSet]:
    """The tokenizer and the problems of a run, of which everything else was found valid, too.

    Args:
        root: where runs are kept.
        trains: False of an evaluation, which needs problems that are held out, and no others.

    Raises:
        ValueError: the configuration, the data or a model.
    """
    config.verifier.check(config.scorer.deadline_s)
    if port := config.generator.door_port:
        from rlstep.rollouts.generate_door import check_door

        check_door(port)
    for model in parts(config, ModelConfig):
        check_no_run(model.path, root)
    check_models(config)
    for judge in parts(config, JudgeModel):
        judge.check()
    tokenizer = load_tokenizer(config.policy.model.path)
    check_special(config, tokenizer)
    check_conversations(config, tokenizer)
    for step_model in config.step_models:
        step_model.reader(tokenizer)  # refuses what does not fit; the roles make their own
    prompts = load_prompts(config, tokenizer, trains=trains)
    for step_model in config.step_models:
        most = config.evaluation.problems or None
        check_unseen(step_model.source, step_model.learner.model.path, prompts, most)
    return tokenizer, prompts


def check_sinks(config: Recipe) -> str:
    """The sinks of a run, by name, of which each can do its work.

    Raises:
        ValueError: one cannot; the message says what to do.
    """
    if not any(isinstance(sink, Files) for sink in config.sinks):
        raise ValueError(
            "sinks has no Files(), of which the summary, the page and `rlstep show` are made, and"
            f" which a resume goes on with; add it: sinks=(Files(), *{config.sinks!r})"
        )
    for sink in config.sinks:
        sink.check()
    return ", ".join(type(sink).__name__ for sink in config.sinks)


def resume_point(
    config: Config, directory: RunDirectory, prompts: PromptSet | None
) -> Checkpoint | None:
    """Where an earlier run would go on: its newest valid checkpoint, None where it has none. Says
    in one line what the configuration changes.

    Args:
        prompts: None where they cannot be loaded yet, and so not be compared with the probe's.

    Raises:
        ValueError: no checkpoint is valid, or the configuration is of another run; names the field.
    """
    if prompts is not None and directory.probe.exists():
        read_probe(directory.probe, prompts.evaluation)  # refuses another task's
    if prompts is not None:
        check_same_data(directory, prompts)
    saved = Checkpoints(directory.checkpoints).latest_valid()
    changed = ""
    if saved and directory.config.exists():
        changed = check_resume(read_json(directory.config), describe_config(config))
    if saved:
        ended = read_json(directory.summary) if directory.summary.exists() else {}
        check_unfinished(config, saved.state, complete=bool(ended.get("complete")))
    if saved and config.curriculum.reads:
        MeasurementLog(directory.measurements).check(saved.state.iteration)
    if saved and prompts is not None:
        read_backlog(saved.path, prompts.train)  # refuses one that cannot be gone on with
    if changed:
        print(changed, flush=True)
    return saved


def check_models(config: Config) -> None:
    """Refuse models that could not be trained or served.

    Raises:
        ValueError: names the role, and what is wrong with its model.
    """
    from rlstep.actors.generator.served import (
        check_adapters_served,
        check_engine,
        check_heads,
        check_served,
    )
    from rlstep.actors.learner.models import check_learner
    from rlstep.actors.learner.positions import check_positions

    place = config.placement
    try:
        name = "policy"
        check_learner(config.policy, config.loss)
        for read in filter(None, (config.policy.model, config.policy.reference_model)):
            check_positions(read.path, config.generator.context)
        on_cpu = not place.generator_gpus
        served = config.policy.model.path
        check_served(config.generator, served, on_cpu=on_cpu)
        if config.generator.transfer == "adapter":
            check_adapters_served(served, config.policy.model.lora, on_cpu=on_cpu)
        for model in config.step_models:
            name = f"step_models ({model.source})"
            check_learner(model.learner, model.loss)
            check_positions(model.learner.model.path, config.generator.context)
            if model.engine is not None:
                check_heads(model.learner.model.path, on_cpu=not place.step_model_gpus)
                check_engine(model.learner, model.engine, config.generator.context)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def load_tokenizer(path: str) -> Tokenizer:
    """Raises: ValueError: no such model, or a tokenizer without a pad or end-of-sequence token."""
    from rlstep.actors.learner.models import check_model

    check_model(path)
    return read_tokenizer(path)


def check_special(config: Config, tokenizer: Any) -> None:
    """Refuse stop strings that never show: where the engine looks, text has no special tokens."""
    special = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for stop in (stop for sampling in parts(config, Sampling) for stop in sampling.stop):
        if token := next((text for text in special if text in stop), None):
            raise ValueError(
                f"sampling.stop has {stop!r}, but {token!r} is a special token, which is never"
                f" found; use stop_token_ids=({special[token]},) instead"
            )


def check_conversations(config: Config, tokenizer: Tokenizer) -> None:
    """Refuse an environment that cannot work, and a format that does not fit the tokenizer.

    Raises:
        ValueError: says which, and why.
    """
    if (conversing := config.rollouts.conversing) is not None:
        spec_of(conversing.environment, "environment")
        conversing.environment.check(config.scorer.deadline_s)
        conversing.format.between(tokenizer, conversing.sampling.stop_token_ids)


def load_prompts(config: Config, tokenizer: Tokenizer, *, trains: bool = True) -> PromptSet:
    """The task's problems, cut to what the configuration uses.

    Args:
        trains: see `check`.

    Raises:
        ValueError: a broken row, too few problems for one iteration, or none to evaluate, one that
            nobody can judge, or one whose row the verifier reads and cannot be sent.
    """
    prompts = config.task.load(tokenizer, config.max_prompt_tokens)
    for reason, number in prompts.dropped.items():
        logger.warning("%s: %d rows dropped: %s", type(config.task).__name__, number, reason)
    if trains:
        _check_training(config, prompts)
    prompts = replace(prompts, sets=_further(config, tokenizer, prompts))
    if not trains:
        _check_held_out(config, prompts)
    environment = config.rollouts.conversing and config.rollouts.conversing.environment
    if environment is None or not environment.decides:
        check_routes(prompts, config.judges, config.verifier)
    if environment is not None:
        _check_rows(prompts, type(environment).__name__)
    if "row" in config.verifier.asks:
        _check_rows(prompts, type(config.verifier).__name__)
    return prompts


def _check_held_out(config: Config, prompts: PromptSet) -> None:
    if not prompts.held_out:
        raise ValueError(
            f"task {type(config.task).__name__} holds out no problem (dropped:"
            f" {dict(prompts.dropped)}), and evaluation.sets has none either; there is nothing to"
            " evaluate on"
        )


def _check_training(config: Config, prompts: PromptSet) -> None:
    left_out = f"; dropped {dict(prompts.dropped)}" if prompts.dropped else ""
    if not prompts.train and prompts.too_long:
        raise ValueError(
            f"max_prompt_tokens is {config.max_prompt_tokens}, and every prompt is longer: the"
            f" shortest has {min(prompts.too_long)} tokens, the longest {max(prompts.too_long)}"
            f"{left_out}"
        )
    if not prompts.train:
        raise ValueError(
            f"task {type(config.task).__name__} has no training problem left{left_out}"
            f" at max_prompt_tokens {config.max_prompt_tokens}"
        )
    if config.prompts_per_iteration > len(prompts.train):
        raise ValueError(
            f"prompts_per_iteration is {config.prompts_per_iteration}, but the task has only"
            f" {len(prompts.train)} training problems; the nearest valid value is that{left_out}"
        )
    config.curriculum.check(prompts.train, draw_of(config))


def _further(
    config: Config, tokenizer: Tokenizer, prompts: PromptSet
) -> dict[str, Sequence[Prompt]]:
    """The problems of `evaluation.sets`; their ids begin with the set's name, and the meta entry
    'task' is the name, as in a mixture.

    Raises:
        ValueError: a set without a problem, or one that holds problems that are trained on.
    """
    trained, found = {prompt.prompt_id for prompt in prompts.train}, {}
    for number, each in enumerate(config.evaluation.sets):
        field = f"evaluation.sets.{number} ({each.name})"
        loaded = each.task.load(tokenizer, config.max_prompt_tokens)
        if not loaded.evaluation:
            raise ValueError(
                f"{field}: {type(each.task).__name__} holds out no problem at max_prompt_tokens"
                f" {config.max_prompt_tokens} (dropped: {dict(loaded.dropped)})"
            )
        if seen := [p.prompt_id for p in loaded.evaluation if p.prompt_id in trained]:
            raise ValueError(
                f"{field}: {len(seen)} of its {len(loaded.evaluation)} problems are among those"
                f" that are trained on, such as {seen[0]!r}; hold out others"
            )
        part = Part(name=each.name, task=each.task)
        found[each.name] = [part.named(prompt) for prompt in loaded.evaluation]
    return found


def _check_rows(prompts: PromptSet, verifier: str) -> None:
    for prompt in (*prompts.train, *prompts.held_out):
        try:
            for key, value in prompt.meta.items():
                json_able(f"meta.{key}", value)
        except ValueError as error:
            raise ValueError(
                f"prompt {prompt.prompt_id!r}: {error}, and {verifier} reads the row in a process"
                " of its own; leave it out, or make it text, a number, or a list or object of these"
            ) from error


def resolve_run_dir(config: Recipe) -> Path:
    """Where runs live: the configuration's place, or a default that is printed."""
    if config.run_dir:
        return Path(config.run_dir)
    root = default_root()
    if not os.environ.get("RLSTEP_RUN_DIR"):
        print(f"run_dir is not set; runs are kept in {root}", flush=True)
    return root
