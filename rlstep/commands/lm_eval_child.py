"""What runs in lm-eval's own interpreter: reads a request, writes an answer. Knows nothing of
rlstep, which need not be installed there.

    python lm_eval_child.py REQUEST ANSWER      two JSON files

The request has `model`, `backend`, `model_args`, `tasks`, `include`, `limit`, `shots` and
`chat_template`. The answer has what lm-eval returned of it, or `refused`, a line that says why
nothing was run.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CODE = ("humaneval", "humaneval_infilling", "mbpp", "cruxeval", "longproc", "score/math")
"""Folders of lm-eval's tasks (0.4.13) that run or evaluate what a model wrote, in the same process.
Not all of them say so (`unsafe_code`)."""
SEED = 1234


def main(request: str, answer: str) -> None:
    asked = json.loads(Path(request).read_text())
    Path(answer).write_text(json.dumps(answered(asked), default=str))


def answered(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        import lm_eval  # type: ignore
    except ImportError as error:
        return {"refused": f"{sys.executable} has no lm-eval: {error}"}
    from importlib.metadata import version

    from lm_eval.tasks import TaskManager  # type: ignore

    installed = version("lm_eval")
    if not installed.startswith("0.4."):
        return {"refused": f"{sys.executable} has lm-eval {installed}; a 0.4.x is needed"}
    manager = TaskManager(include_path=asked["include"])
    own = Path(str(lm_eval.__file__)).parent / "tasks"
    if why := refused(asked["tasks"], manager.task_index, own):
        return {"refused": why}
    found = lm_eval.simple_evaluate(
        model=asked["backend"],
        model_args=asked["model_args"],
        tasks=asked["tasks"],
        num_fewshot=asked["shots"],
        limit=asked["limit"],
        apply_chat_template=asked["chat_template"],
        task_manager=manager,
        log_samples=False,
        random_seed=SEED,
        numpy_random_seed=SEED,
        torch_random_seed=SEED,
        fewshot_random_seed=SEED,
        confirm_run_unsafe_code=False,
    )
    kept = ("results", "versions", "n-shot", "n-samples", "higher_is_better")
    return {"lm_eval": installed, **{name: (found or {}).get(name, {}) for name in kept}}


def refused(tasks: list[str], index: dict[str, Any], folder: Path) -> str:
    """Why these tasks are not run, '' where they are.

    Args:
        index: lm-eval's entries by name, with `cfg`, `tags` and `yaml_path`.
        folder: of lm-eval's own tasks.
    """
    for name in tasks:
        if name not in index:
            near = difflib.get_close_matches(name, list(index), 1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            return f"--tasks has {name!r}, which lm-eval does not know{hint}"
        for leaf in leaves(name, index, set()):
            if runs_code(index[leaf], folder):
                within = "" if leaf == name else f" (of {name!r})"
                return (
                    f"--tasks has {leaf!r}{within}, which runs what the model wrote, outside of any"
                    " sandbox; rlstep's own tests of programs run in one: CodeTests"
                )
    return ""


def leaves(name: str, index: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """The tasks that a task, a group or a tag stands for."""
    if name in seen or name not in index:
        return
    seen.add(name)
    entry = index[name]
    config = entry.cfg or {}
    inside = config.get("task") if "group" in config else None
    children = [inside] if isinstance(inside, str) else list(inside or [])
    names = [c if isinstance(c, str) else c.get("task", c.get("group", "")) for c in children]
    if "group" not in config and not config.get("task") and not config.get("class"):
        names += sorted(entry.tags)  # a tag, of tasks
    if not names:
        yield name
    for each in names:
        if isinstance(each, str):
            yield from leaves(each, index, seen)


def runs_code(entry: Any, folder: Path) -> bool:
    if (entry.cfg or {}).get("unsafe_code"):
        return True
    place = Path(entry.yaml_path or "/").resolve()
    return any((folder / code).resolve() in place.parents for code in CODE)


if __name__ == "__main__":
    main(*sys.argv[1:])
