"""The `rlstep` command, and what a recipe runs when it is started as a script."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlstep.benchmarks.benchmark_config import BenchmarkConfig, Recipe
from rlstep.commands.words import configured, nearest
from rlstep.config import Config
from rlstep.fit_config import FitConfig

if TYPE_CHECKING:
    from rlstep.running.benchmarking import Benchmarking
    from rlstep.running.evaluation import Evaluation
    from rlstep.running.fitting import Fitting
    from rlstep.running.run import Run

USAGE = """\
usage: rlstep train RECIPE [--dry-run] [--FIELD VALUE ...]
       rlstep eval RECIPE [--policy.model.path FOLDER] [--evaluation.samples N] [--FIELD VALUE ...]
       rlstep eval RECIPE [--model.learner.model.path FOLDER]      a PRM on benchmarks of PRMs
       rlstep eval --compare RUN RUN ...   evaluations side by side, problem by problem
       rlstep sft RECIPE              supervised training of a policy
       rlstep fit RECIPE              supervised training of a step or reward model, or a critic
       rlstep train RECIPE --help     every field of the recipe's configuration
       rlstep list [ROOM ...]         what can stand in a recipe: losses, pairs, steps, ...
       rlstep show RUN [--iteration N] [--prompt ID]      rollouts, steps coloured by score
       rlstep export RUN [--iteration N] [--out FOLDER]   a checkpoint as a Hugging Face folder
       rlstep merge BASE MODEL ... --out FOLDER [--method NAME]   fine-tuned models, made one
       rlstep eval-suite RUN --tasks NAME,...    its model on tasks of lm-eval, in another process
       rlstep report RUN              the run as one HTML page, in its directory
       rlstep runs list               every run: when, by which recipe, how well, how it stands
       rlstep runs show RUN           what a run is made of, with hashes; see also diff and lineage
       rlstep runs diff RUN RUN       the fields in which two runs differ
       rlstep runs lineage RUN|MODEL  which policy, data and PRM a model came from

RECIPE is a Python file with a function `config()` that returns an rlstep Config, or for sft and fit
a FitConfig, or to evaluate a PRM a BenchmarkConfig; RUN is a run's name or its folder.
"""

_COMMANDS = {
    "list": "catalog",
    "show": "show",
    "report": "report",
    "export": "export",
    "runs": "runs",
    "merge": "merge",
    "eval-suite": "eval_suite",
}
"""What is no run: its module in rlstep/commands."""
_RUNS = ("train", "eval", "sft", "fit")

_UNKNOWN_FIELD = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def main() -> None:
    """Entry point of the `rlstep` command."""
    verb, *words = sys.argv[1:] or [""]
    if verb in _COMMANDS:
        sys.exit(look(verb, words))
    if verb == "eval" and words[:1] == ["--compare"]:
        sys.exit(look("compare", words[1:]))
    if not verb or {verb, *words[:1]} & {"--help", "-h", "help"}:
        print(USAGE, end="", file=sys.stdout if verb else sys.stderr)
        sys.exit(0 if verb else 2)
    if verb not in _RUNS:
        known = (*_RUNS, *_COMMANDS)
        near = next(filter(verb.startswith, known), "") or nearest(verb, known)
        problem = f"there is no command {verb!r}; the nearest is {near!r} (rlstep --help has all)"
    elif not words or words[0].startswith("-"):
        problem = f"{verb} needs a recipe first: rlstep {verb} RECIPE [--FIELD VALUE ...]"
    else:
        path, *rest = words
        prog = f"rlstep {verb} {path}"
        name = Path(path).stem
        sys.exit(run_recipe(lambda: read_recipe(path), rest, prog=prog, verb=verb, name=name))
    print(f"rlstep: {problem}", file=sys.stderr)
    sys.exit(2)


def look(command: str, words: Sequence[str]) -> int:
    """What is there, by one of the commands that start nothing. Returns an exit status."""
    from rlstep.reporting.disk import DiskFull

    try:
        module = _COMMANDS.get(command, command)
        importlib.import_module(f"rlstep.commands.{module}").main(words)
    except (ValueError, DiskFull) as error:
        print(f"rlstep: {error}", file=sys.stderr)
        return 2
    return 0


def load_recipe(path: str) -> Config:
    """The configuration of a run that a recipe file returns. Raises as `read_recipe`."""
    config = read_recipe(path)
    if not isinstance(config, Config):
        kind, verb = _KINDS[type(config)], _verb_for(config)
        raise ValueError(f"{path}: it is {kind}: rlstep {verb} {path}")
    return config


def read_recipe(path: str) -> Recipe:
    """The configuration that a recipe file returns.

    Raises:
        ValueError: no such file, no Python file, it has no `config` or one that returns something
            else, or its own code raises: names the line.
        TypeError: `config` gave a class a keyword or a type that it does not take.
    """
    from rlstep.reporting.run_directory import default_root, model_of, run_of

    file = Path(path)
    if file.suffix != ".py" and (run := run_of(path, default_root())):
        raise ValueError(
            f"{path}: a run is no recipe: rlstep train RECIPE --name {run.name} --resume True goes"
            " on with it, rlstep eval RECIPE --policy.model.path FOLDER evaluates it; for FOLDER"
            f" {model_of(run)}"
        )
    if not file.is_file():
        folder = file if file.is_dir() else file.parent
        names = sorted(p.name for p in folder.glob("*.py"))
        near = difflib.get_close_matches(file.name, names, 1)
        hint = f"the nearest is {folder / near[0]}" if near else f"{folder} has {names[:10]}"
        what = "a folder is no recipe" if file.is_dir() else "no such recipe"
        raise ValueError(f"{path}: {what}; {hint}")
    if file.suffix != ".py":
        raise ValueError(f"{path}: a recipe is a Python file, like {file.stem or 'mine'}.py")
    sys.path.insert(0, str(file.parent.resolve()))  # a recipe may import its neighbours
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # plug-ins defined in a recipe must be found again by name
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "config", None)):
            raise ValueError(
                f"{path}: it has no function config(); see recipes/arithmetic_full_step_dpo.py"
            )
        config = module.config()
    except (ValueError, TypeError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{_line(error, file)}: {said}") from error
    if not isinstance(config, Config | FitConfig | BenchmarkConfig):
        raise ValueError(
            f"{path}: config() returns {type(config).__name__}, it must return an rlstep Config"
            " (or a FitConfig, or a BenchmarkConfig)"
        )
    return config


def _line(error: Exception, file: Path) -> str:
    """Where a recipe raised: the innermost line in its folder, or else in the recipe."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    folder = str(file.parent.resolve())
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if str(Path(frame.filename).resolve()).startswith(folder + "/"):
            return f"{frame.filename}, line {frame.lineno}"
    return str(file)


def run_recipe(
    recipe: Callable[[], Recipe],
    arguments: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    verb: str = "",
    name: str = "",
) -> int:
    """Apply overrides, then plan (`--dry-run`), evaluate or train. Returns an exit status.

    `--FIELD VALUE` overrides any field; an unknown one is refused with its nearest neighbours.

    Args:
        verb: of the command line; '' does what the recipe is for.
        name: of the recipe's file, or else that of the function's.
    """
    rest = list(sys.argv[1:] if arguments is None else arguments)
    from rlstep.plugins import PlugInError

    if "--dry-run" in rest:
        overrides = [item for item in rest if item != "--dry-run"]
        return plan_recipe(recipe, overrides, prog=prog, verb=verb)
    try:
        written, config = _configured(recipe, rest, prog, verb)
        from rlstep.reporting.stages import stage

        with stage("configuration, model and data checked"):
            run = _prepared(config, written, name or _file_of(recipe), verb)
    except (ValueError, PlugInError) as error:
        print(f"rlstep: {error}", file=sys.stderr)
        return 2
    try:
        summary = asyncio.run(run.run())
    except PlugInError as error:
        print(f"rlstep: {error}", file=sys.stderr)
        return 1
    return 0 if summary["complete"] else 130


def _file_of(recipe: Callable[[], Recipe]) -> str:
    """The name of the file that a recipe's function stands in, '' where it is no function."""
    code = getattr(recipe, "__code__", None)
    return Path(code.co_filename).stem if code else ""


def _prepared(
    config: Recipe, written: Recipe, name: str, verb: str
) -> Run | Fitting | Evaluation | Benchmarking:
    if isinstance(config, Config) and verb == "eval":
        from rlstep.running.evaluation import prepare_evaluation

        return prepare_evaluation(config, written, name)
    if isinstance(config, Config):
        from rlstep.running.run import prepare

        return prepare(config, written, name)
    if isinstance(config, BenchmarkConfig):
        from rlstep.running.benchmarking import prepare_benchmarks

        return prepare_benchmarks(config, written, name)
    from rlstep.running.fitting import prepare_fit

    return prepare_fit(config, written, name)


def plan_recipe(
    recipe: Callable[[], Recipe],
    overrides: list[str],
    *,
    prog: str | None,
    verb: str = "",
) -> int:
    """Print what would run, and what would be in its way. Returns an exit status: 2 if anything.

    Nothing is started, written or downloaded; a service has a few seconds to answer.
    """
    from rlstep.commands.plan import print_plan
    from rlstep.commands.preflight import offline, preflight

    with offline():
        try:
            _, config = _configured(recipe, overrides, prog, verb)
            found, wrong = preflight(config, trains=verb != "eval")
        except ValueError as error:
            print(f"rlstep: {error}", file=sys.stderr)
            return 2
        print_plan(config, found)
    for problem in wrong:
        print(f"rlstep: {problem}", file=sys.stderr)
    return 2 if wrong else 0


_KINDS = {FitConfig: "a supervised training", BenchmarkConfig: "an evaluation of a model"}
"""What a recipe is that is no run of the loop."""


def _verb_for(config: FitConfig | BenchmarkConfig) -> str:
    if isinstance(config, BenchmarkConfig):
        return "eval"
    return "fit" if config.scores else "sft"


def _evaluation(config: Config | BenchmarkConfig) -> Config | BenchmarkConfig:
    """The configuration without iterations, under a name of its own: <name>-eval, -eval-2, ...; one
    that is resumed is the evaluation of that name, or else <name>-eval."""
    from rlstep.reporting.evaluated import is_evaluation
    from rlstep.reporting.run_directory import check_root, check_run_name, free_name
    from rlstep.running.preparing import resolve_run_dir

    check_run_name(config.name)
    root = resolve_run_dir(config)
    check_root(root)
    name = f"{config.name}-eval"
    if isinstance(config, BenchmarkConfig) or not config.resume:
        name = free_name(root, name)
    elif is_evaluation(root / config.name):
        name = config.name
    print(f"the evaluation is {root / name}", flush=True)
    if isinstance(config, BenchmarkConfig):
        return dataclasses.replace(config, name=name, run_dir=str(root))
    return dataclasses.replace(config, iterations=0, name=name, run_dir=str(root))


def _configured(
    recipe: Callable[[], Recipe], arguments: list[str], prog: str | None, verb: str
) -> tuple[Recipe, Recipe]:
    """The recipe's own configuration, and with the overrides.

    Raises:
        ValueError: a value is refused; names the field and the nearest valid value. Or the recipe
            is not one that the verb is for; names the verb that is.
    """
    try:
        written = recipe()
        config = configured(written, arguments, prog)
    except TypeError as error:  # a value of a wrong type, or a keyword that is no field
        raise ValueError(_explained(error)) from error
    if isinstance(config, FitConfig):
        if verb not in ("", right := _verb_for(config)):
            kind = "a model that scores" if config.scores else "a policy"
            raise ValueError(f"{verb}: the recipe trains {kind} on labels: rlstep {right}")
    elif isinstance(config, BenchmarkConfig) and verb not in ("", "eval"):
        raise ValueError(f"{verb}: the recipe evaluates a model that scores: rlstep eval")
    elif verb in ("sft", "fit"):
        raise ValueError(f"{verb}: the recipe is no supervised training: rlstep train")
    elif verb == "eval":
        config = _evaluation(config)
    return written, config


def _explained(error: TypeError) -> str:
    """The error's text; where a dataclass was given an unknown field, the place and the nearest."""
    unknown = _UNKNOWN_FIELD.search(str(error))
    if unknown is None:
        return str(error)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        kind = frame.f_globals.get(unknown[1])
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind)]
            near = difflib.get_close_matches(unknown[2], names, 1)
            hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(names)}"
            place = f"{frame.f_code.co_filename}, line {line}"
            return f"{place}: {unknown[1]} has no field {unknown[2]!r}; {hint}"
    return str(error)


if __name__ == "__main__":
    main()
