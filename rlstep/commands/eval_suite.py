"""`rlstep eval-suite RUN --tasks NAME ...`: a run's model on tasks of lm-eval, in its own process.

What training did to everything else shows in no reward: a model that reasons better may have lost
what it knew. Results go beside the run's metrics, into suites.jsonl, a line a task.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstep.commands import lm_eval_child
from rlstep.commands.show import arguments, root
from rlstep.reporting.files import JsonLines, read_json
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.origins import name_of, now
from rlstep.reporting.redact import redact
from rlstep.reporting.run_directory import RunDirectory, find_run, model_of

PYTHON = "RLSTEP_LM_EVAL_PYTHON"
"""Names an interpreter that has lm-eval, where rlstep's own has it not."""
BACKENDS = ("hf", "vllm")
_LINES = 20
"""Of its log that are shown where lm-eval fails."""
_NOT_PASSED = ("PYTHONPATH", "PYTHONHOME", "HF_ALLOW_CODE_EVAL")


def main(words: Sequence[str]) -> None:
    """Run lm-eval on the run's model, print its figures, and keep them in the run's directory.

    Raises:
        ValueError: no such run, model or task, one that runs what a model wrote, or lm-eval is not
            there, or failed; names the nearest, or its last lines.
        DiskFull: there is no room for the results.
    """
    given = _given(words)
    run = find_run(given.run, root(given))
    model = _model(run, given)
    answer = _asked(run, _request(model, given), given)
    rows = list(_rows(answer, model, given))
    results = JsonLines(run.path / "suites.jsonl")
    results.append(*rows)
    print_results(rows)
    print(f"results {results.path}")


def _given(words: Sequence[str]) -> argparse.Namespace:
    about = "A run's model on tasks of lm-eval (0.4.x), in a process of its own."
    parser = arguments("eval-suite", about)
    parser.add_argument("--tasks", required=True, help="names, with commas between them")
    parser.add_argument("--iteration", type=int, help="the export of it; the last one without it")
    parser.add_argument("--model", help="another folder in its place, such as what it began as")
    parser.add_argument("--include", help="a folder with tasks of one's own, as .yaml files")
    parser.add_argument("--shots", type=int, help="examples before each problem, or the task's own")
    parser.add_argument("--limit", type=int, help="only the first so many problems of each task")
    parser.add_argument("--chat-template", action="store_true", help="use the tokenizer's own")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], help="of lm-eval")
    parser.add_argument("--model-args", default="", help="of the backend: dtype=bfloat16,...")
    own = f"an interpreter that has lm-eval; without it {PYTHON}, or this one"
    parser.add_argument("--python", default=os.environ.get(PYTHON) or sys.executable, help=own)
    parser.add_argument("--deadline-s", type=float, default=86_400.0, help="longest wait")
    given = parser.parse_args(words)
    given.tasks = [name for name in given.tasks.split(",") if name]
    if not given.tasks:
        raise ValueError("eval-suite: --tasks is ''; name at least one, such as --tasks gsm8k")
    for name in ("shots", "limit"):
        number, least = getattr(given, name), int(name == "limit")
        if number is not None and number < least:
            raise ValueError(f"eval-suite: --{name} is {number}; the smallest valid is {least}")
    return given


def _model(run: RunDirectory, given: argparse.Namespace) -> Path:
    """Raises: ValueError: there is no model to evaluate; says how to get one."""
    if given.model:
        folder = Path(given.model).expanduser()
        if not (folder / "config.json").is_file():
            raise ValueError(f"eval-suite: --model is {given.model!r}, which is no model's folder")
        return folder
    folder = run.export if given.iteration is None else run.export_of(given.iteration)
    if not (folder / "config.json").is_file():
        which = "" if given.iteration is None else f" of iteration {given.iteration}"
        raise ValueError(f"run {run.name!r} has no export{which}; {model_of(run)}")
    return folder


def _request(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    own = {"pretrained": str(model.absolute())}
    pairs = [pair.partition("=") for pair in given.model_args.split(",") if pair]
    if wrong := [name for name, equals, _ in pairs if not equals or name in own]:
        raise ValueError(
            f"eval-suite: --model-args has {wrong[0]!r}; they are NAME=VALUE, with commas between"
            " them, and the model is the run's"
        )
    return {
        "backend": given.backend,
        "model_args": ",".join(
            f"{n}={v}" for n, v in {**own, **{n: v for n, _, v in pairs}}.items()
        ),
        "tasks": given.tasks,
        "include": given.include and str(Path(given.include).expanduser().absolute()),
        "limit": given.limit,
        "shots": given.shots,
        "chat_template": given.chat_template,
    }


def _asked(
    run: RunDirectory, request: Mapping[str, Any], given: argparse.Namespace
) -> dict[str, Any]:
    """lm-eval's answer. What it prints is in the run's log/eval-suite.log.

    Raises:
        ValueError: it refused the request, failed, or took too long.
    """
    run.log.mkdir(exist_ok=True)
    log = run.log / "eval-suite.log"
    environment = {n: v for n, v in os.environ.items() if n not in _NOT_PASSED}
    with tempfile.TemporaryDirectory(prefix="rlstep-suite-") as folder:
        asked, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request))
        print(f"lm-eval: {', '.join(request['tasks'])}; what it prints is in {log}", flush=True)
        command = [given.python, lm_eval_child.__file__, str(asked), str(answer)]
        with log.open("wb") as printed:
            status = _finished(command, printed, environment, given.deadline_s, folder)
        found = read_json(answer) if answer.is_file() else {}
    if "refused" in found:
        raise ValueError(f"eval-suite: {found['refused']}{_where(found['refused'])}")
    if status or not found:
        ended = "took longer than --deadline-s" if status is None else f"ended with {status}"
        last = log.read_text(errors="replace").splitlines()[-_LINES:]
        raise ValueError(redact("\n".join([f"eval-suite: lm-eval {ended}; {log} ends:", *last])))
    return found


def _where(refused: str) -> str:
    missing = "has no lm-eval" in refused
    hint = f"; pip install 'rlstep[evals]', or name an interpreter with it: --python, or {PYTHON}"
    return hint if missing else ""


def _finished(
    command: Sequence[str], log: Any, environment: dict[str, str], deadline_s: float, folder: str
) -> int | None:
    """The child's exit status, None where it was too slow. It never outlives this process's own
    end, be that Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
    except OSError as error:
        raise ValueError(f"eval-suite: --python is {command[0]!r}: {error.strerror}") from error
    try:
        return child.wait(deadline_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        child.kill()
        child.wait()
        signal.signal(signal.SIGTERM, before)


def _rows(answer: Mapping[str, Any], model: Path, given: argparse.Namespace) -> Any:
    """A line a task or group, as lm-eval names them."""
    lineage = model / "lineage.json"
    iteration = read_json(lineage).get("iteration") if lineage.is_file() else given.iteration
    try:
        sha256 = hash_weights(model)
    except (ValueError, OSError):
        sha256 = None
    for task, results in answer["results"].items():
        numbers = {n: v for n, v in results.items() if isinstance(v, int | float) and "," in n}
        yield {
            "iteration": iteration,
            "task": task,
            "shots": answer["n-shot"].get(task),
            "samples": answer["n-samples"].get(task, {}).get("effective"),
            "figures": {n: v for n, v in numbers.items() if "_stderr," not in n},
            "errors": {
                n.replace("_stderr,", ","): v for n, v in numbers.items() if "_stderr," in n
            },
            "model": name_of(str(model)),
            "sha256": sha256,
            "task_version": answer["versions"].get(task),
            "lm_eval": answer["lm_eval"],
            "backend": given.backend,
            "chat_template": given.chat_template,
            "when": now(),
        }


def print_results(rows: Sequence[Mapping[str, Any]]) -> None:
    """The figures as a table, each with its standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "shots", "problems", "figure", "value", "standard error")
    for row in rows:
        for name, value in row["figures"].items():
            error = row["errors"].get(name)
            counted = [str(row[n]) if row[n] is not None else "" for n in ("shots", "samples")]
            told = f"{error:.4f}" if isinstance(error, int | float) else ""
            table.add_row(row["task"], *counted, name, f"{value:.4f}", told)
    Console().print(table)
