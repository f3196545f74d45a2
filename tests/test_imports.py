"""The rings of the design: what importing a module of rlstep may bring along."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import rlstep

CLUSTER = ("ray", "vllm", "deepspeed")
HEAVY = (*CLUSTER, "transformers", "datasets", "wandb", "matplotlib")
WITH_TORCH = {"logprobs", "batching", "losses"}
OUTER = {"actors", "checkpoint", "run", "cli", "catalog", "testing"}

MODULES = [m.name for m in pkgutil.walk_packages(rlstep.__path__, "rlstep.")]
RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.py"))

# Loaded modules only accumulate, so one interpreter can take many modules: what is absent after
# all of them is absent after each. The first import that brings something in is named.
CHECK = """
import importlib, os, runpy, sys
forbidden, names = sys.argv[1].split(","), sys.argv[2:]
for name in names:
    if name.endswith(".py"):  # a recipe, run as a script: its own folder is on the path
        sys.path.insert(0, os.path.dirname(name))
        runpy.run_path(name)
    else:
        importlib.import_module(name)
    brought = [package for package in forbidden if package in sys.modules]
    if brought:
        sys.exit(f"{name} imports {', '.join(brought)}")
"""


def room(module: str) -> str:
    return module.split(".")[1]


def imports(names: list[str], forbidden: tuple[str, ...]) -> str:
    """'' if importing the names brings nothing forbidden, else who brings what."""
    command = [sys.executable, "-c", CHECK, ",".join(forbidden), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return done.stderr if done.returncode else ""


def test_modules_without_torch():
    names = [m for m in MODULES if room(m) not in OUTER | WITH_TORCH]
    assert {"rlstep.types", "rlstep.pairs.outcome", "rlstep.advantages.group"} <= set(names)
    assert imports(names, (*HEAVY, "torch")) == ""


def test_modules_with_torch():
    names = [m for m in MODULES if room(m) in WITH_TORCH]
    assert {"rlstep.batching", "rlstep.losses.dpo"} <= set(names)
    assert imports(names, HEAVY) == ""


def test_entry_points_and_recipes_load_no_cluster():
    names = [m for m in MODULES if room(m) in {"run", "cli", "catalog"}]
    assert imports(names + [str(path) for path in RECIPES], CLUSTER) == ""


def test_actors_package_is_empty():
    # vLLM loads the weight-transfer plugin from here in every engine process.
    assert (Path(rlstep.__path__[0]) / "actors" / "__init__.py").read_text() == ""


def test_the_check_can_fail():
    assert "rlstep.batching imports torch" in imports(
        ["rlstep.types", "rlstep.batching"], ("torch",)
    )
