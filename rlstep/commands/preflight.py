"""What a dry run finds out about the machine, the files and the services that a run will meet."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlstep.benchmarks.benchmark_config import BenchmarkConfig, Recipe
from rlstep.checks import parts
from rlstep.commands.plan import optimizer_bytes, parameters
from rlstep.config import Config, ModelConfig
from rlstep.fit_config import FitConfig
from rlstep.interfaces import PromptSet
from rlstep.plugins import PlugInError, naming_refusals
from rlstep.reporting.disk import free_bytes
from rlstep.reporting.evaluated import is_evaluation
from rlstep.reporting.run_directory import RunDirectory, check_new, check_root
from rlstep.running import benchmarking, fitting, preparing
from rlstep.running.access import check_cluster, check_mode, named_cluster

PATIENCE_S = 3.0
"""Longest wait for a service: a dry run is for finding out now."""

_FILES = (".jsonl", ".json", ".csv", ".parquet", ".gz")


@contextmanager
def offline() -> Iterator[None]:
    """Within it hub models and datasets are looked for on this machine only."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants: Any = sys.modules.get("huggingface_hub.constants")  # read the variable before
    was = getattr(constants, "HF_HUB_OFFLINE", None)
    if constants:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if constants:
            constants.HF_HUB_OFFLINE = was
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def preflight(config: Recipe, *, trains: bool = True) -> tuple[list[tuple[str, str]], list[str]]:
    """What was found, by what was looked at, and what would go wrong. Starts and writes nothing.

    Args:
        trains: False of an evaluation, which needs no problem to train on.
    """
    root = preparing.resolve_run_dir(config)
    found: list[tuple[str, str]] = []
    wrong: list[str] = []
    prompts: PromptSet | None = None

    def look(name: str, text: Any) -> None:
        """Every check is made, whatever those before it found."""
        try:
            found.append((name, text()))
        except (ValueError, PlugInError) as error:
            wrong.append(str(error))

    def problems() -> str:
        nonlocal prompts
        if absent := _absent(config):
            _check_here(config)
            return f"{', '.join(absent)}: not on this machine; from the hub, at the start"
        if isinstance(config, FitConfig):
            with naming_refusals():
                return fitting.check(config, root)
        if isinstance(config, BenchmarkConfig):
            with naming_refusals():
                return _cases(config, benchmarking.check(config, root))
        with naming_refusals():
            prompts = preparing.check(config, root, trains=trains)[1]
        return f"{len(prompts.train):,} problems, {len(prompts.held_out):,} held out"

    def sinks() -> str:
        with naming_refusals():
            return preparing.check_sinks(config)

    look("models and data", problems)
    look("sinks", sinks)
    look("run", lambda: _place(config, root, prompts))
    look("disk", lambda: _disk(config, root))
    look("ports", _ports)
    for name, url in _services(config):
        look(name, lambda name=name, url=url: _reached(name, url))
    return found, wrong


def _cases(config: BenchmarkConfig, cases: Sequence[Sequence[Any]]) -> str:
    both = zip(config.benchmarks, cases, strict=True)
    return ", ".join(f"{len(each):,} cases of {benchmark.name}" for benchmark, each in both)


def _absent(config: Recipe) -> list[str]:
    """Hub ids of which this machine has no copy: of models, and of the task's data."""
    paths = [each.path for each in parts(config, ModelConfig)]
    models = [p for p in paths if p and not _is_folder(p) and not _in_cache(p)]
    data = [text for _, text in _data(config) if not text.endswith(_FILES)]
    if isinstance(config, BenchmarkConfig):  # whose data are always on this machine
        data = []
    return list(dict.fromkeys([*models, *data]))


def _is_folder(path: str) -> bool:
    from rlstep.actors.learner.models import looks_local

    return looks_local(path) or Path(path).is_dir()


def _in_cache(path: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(path, "config.json"), str)


def _data(config: Recipe) -> list[tuple[str, str]]:
    """The places of a task's rows, or of examples, by field: files, or ids of datasets. Of
    benchmarks files or folders."""
    if isinstance(config, BenchmarkConfig):
        named = [(f"benchmarks.{i}", each) for i, each in enumerate(config.benchmarks)]
        return [(f"{n}.path", str(getattr(b, "path"))) for n, b in named if hasattr(b, "path")]  # noqa: B009
    field = "examples" if isinstance(config, FitConfig) else "task"
    of: Any = getattr(config, field)
    named = [(f"{field}.{name}", getattr(of, name, "")) for name in ("path", "evaluation")]
    return [(name, text) for name, text in named if isinstance(text, str) and text]


def _check_here(config: Recipe) -> None:
    """What can be said where a model or a dataset is not here yet: of those that should be.

    Raises:
        ValueError: a folder or file that is not there; names the field.
    """
    from rlstep.actors.learner.models import check_model

    for model in parts(config, ModelConfig):
        if _is_folder(model.path):
            check_model(model.path)
    for name, text in _data(config):
        local = text.endswith(_FILES) or isinstance(config, BenchmarkConfig)
        if local and not Path(text).exists():
            raise ValueError(f"{name} is {text!r}, and there is no such file")


def _place(config: Recipe, root: Path, prompts: PromptSet | None) -> str:
    if isinstance(config, BenchmarkConfig) or not config.resume:
        check_new(root, config.name)
        return f"{root / config.name}, a new one"
    directory = RunDirectory.reopen(root, config.name)
    directory.hold().close()  # refuses a run that is under way
    if is_evaluation(directory.path):
        return f"goes on with the samples of {directory.path}"
    if isinstance(config, FitConfig):
        saved = fitting.resume_point(config, directory)
    else:
        saved = preparing.resume_point(config, directory, prompts)
    if saved is None:
        return f"{directory.path} has no checkpoint: it starts over"
    return f"goes on after iteration {saved.state.iteration} of {config.iterations}: {saved.path}"


def _disk(config: Recipe, root: Path) -> str:
    """Raises: ValueError: the run's files need more than is free, or may not be written."""
    check_root(root)
    need, free = bytes_of_files(config), free_bytes(root)
    if need is None:
        return f"{free:,} bytes free; what checkpoints and exports need is unknown"
    if need > free:
        raise ValueError(
            f"run_dir {str(root)!r} has {free:,} bytes free, and checkpoints and exports need"
            f" {need:,}; choose another, or a larger export_every"
        )
    return f"{free:,} bytes free, checkpoints and exports need {need:,}"


def bytes_of_files(config: Recipe) -> int | None:
    """Of a run's checkpoints and exports, None where a model's size is not known.

    A checkpoint holds of every learner its weights, and of what is trained the optimizer's states
    (see `plan.optimizer_bytes`). An export is a model's weights. A model that `FitConfig.start`
    writes is not there yet, so its size is not known.
    """
    if isinstance(config, BenchmarkConfig):
        return 0
    if isinstance(config, FitConfig):
        learners, every = [config.learner], 0
    else:
        trained = [m.learner for m in config.step_models if m.loss is not None]
        learners, every = [config.policy, *trained], config.export_every
    checkpoint, written = 0, list[int]()
    for learner in learners:
        sizes = parameters(learner.model)
        if sizes is None:
            return None
        half = learner.model.dtype == "bfloat16"
        weights = sizes[0] * (2 if half else 4)
        checkpoint += weights + sizes[1] * optimizer_bytes(learner)
        written.append(weights)
    again = max(0, config.iterations - 1) // every if every else 0
    if isinstance(config, Config) and config.evaluation.best:
        again += 1
    exports = sum(written) + again * written[0]  # of every model at the end
    at_once = config.checkpoint_keep + 1  # those that stay, and the one that is written
    return at_once * checkpoint + exports if config.iterations else 0


def _ports() -> str:
    """All ports are the system's choice; what can fail is that it gives none.

    Raises:
        ValueError: none can be bound, or the cluster that is named does not answer, or anybody.
    """
    check_mode()
    if (address := named_cluster()) not in ("", "auto"):
        check_cluster(address, PATIENCE_S)
        return f"the cluster at {address} answers who has its token"
    try:
        with socket.socket() as one:
            one.bind(("", 0))
    except OSError as error:
        raise ValueError(f"ports: the system gives none to listen on: {error}") from error
    return "the system picks them, and gave one"


def _services(config: Recipe) -> list[tuple[str, str]]:
    """Every `url` in the configuration, by the class that has it."""
    holders = [each for each in parts(config, object) if is_dataclass(each)]
    named = [
        (f"{type(each).__name__.lower()}.url", str(getattr(each, "url")))  # noqa: B009
        for each in holders
        if any(f.name == "url" for f in fields(each))
    ]
    return list(dict.fromkeys((name, url) for name, url in named if url))


def _reached(name: str, url: str) -> str:
    """Any answer will do: what a service thinks of HEAD is its own matter.

    Raises:
        ValueError: there is none in time.
    """
    where = urlsplit(url)
    kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=PATIENCE_S)
    try:
        connection.request("HEAD", where.path or "/")
        connection.getresponse()
    except (OSError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{name} is {url!r}, which does not answer within {PATIENCE_S:g} s: {reason}"
        ) from error
    finally:
        connection.close()
    return f"{url} answers"
