"""The rings: what importing a module of rlstep may bring along, and which room may ask which."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import rlstep

CLUSTER = ("ray", "vllm", "deepspeed")
HEAVY = (*CLUSTER, "transformers", "datasets", "wandb", "matplotlib")
WITH_TORCH = (
    "rlstep.adapters.scaled_layer",
    *("rlstep.tensors.batching", "rlstep.tensors.logprobs", "rlstep.tensors.head_logprobs"),
    "rlstep.tensors.bundles",
    "rlstep.losses",
    "rlstep.analysis.weight_spread",
    "rlstep.optimizers.sgd_sai",
    *("rlstep.diffusion.elbo", "rlstep.diffusion.unmasking"),
    "rlstep.actors.learner.heads",  # asked before Ray is told how clusters authenticate
)
ENTRY_POINTS = ("rlstep.cli", "rlstep.commands", "rlstep.running.run")
OUTER = (*ENTRY_POINTS, "rlstep.actors", "rlstep.running.checkpoint", "rlstep.testing")

PACKAGE = Path(rlstep.__path__[0])
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


def among(module: str, places: tuple[str, ...]) -> bool:
    """Whether the module is one of the places, or in one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def imports(names: list[str], forbidden: tuple[str, ...]) -> str:
    """'' if importing the names brings nothing forbidden, else who brings what."""
    command = [sys.executable, "-c", CHECK, ",".join(forbidden), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def test_modules_without_torch():
    names = [m for m in MODULES if not among(m, (*OUTER, *WITH_TORCH))]
    assert {"rlstep.types", "rlstep.pairs.outcome", "rlstep.tensors.inputs"} <= set(names)
    assert imports(names, (*HEAVY, "torch")) == ""


def test_modules_with_torch():
    names = [m for m in MODULES if among(m, WITH_TORCH)]
    assert {"rlstep.tensors.batching", "rlstep.losses.dpo"} <= set(names)
    assert imports(names, HEAVY) == ""


def test_entry_points_and_recipes_load_no_cluster():
    names = [m for m in MODULES if among(m, ENTRY_POINTS)]
    assert {"rlstep.running.run", "rlstep.commands.plan"} <= set(names)
    assert imports(names + [str(path) for path in RECIPES], CLUSTER) == ""


def test_actors_packages_are_empty():
    # vLLM loads the weight-transfer plugin from here in every engine process.
    for room in (PACKAGE / "actors", PACKAGE / "actors" / "weights"):
        assert (room / "__init__.py").read_text() == ""


def test_the_check_can_fail():
    assert "rlstep.types imports numpy" in imports(["rlstep", "rlstep.types"], ("numpy",))


# --- rooms ---------------------------------------------------------------------------------------


def room_of(module: str) -> str:
    """The folder that a module stands in; a module of rlstep/ itself is a room of its own."""
    file = PACKAGE.joinpath(*module.split(".")[1:])
    package = file.is_dir() or module.count(".") < 2
    return module if package else module.rpartition(".")[0]


def asked_by(file: Path) -> set[str]:
    """The modules of rlstep that a file imports, be it inside a function or for its types alone."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(MODULES) or {node.module}
    return found & set(MODULES)


def rooms() -> dict[str, set[str]]:
    """Every room, with those that its files import from."""
    arrows: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(("rlstep", *file.relative_to(PACKAGE).with_suffix("").parts))
        here = room_of(module.removesuffix(".__init__"))
        arrows.setdefault(here, set()).update({room_of(m) for m in asked_by(file)} - {here})
    return arrows


def test_no_room_asks_one_that_asks_it():
    found = rooms()
    assert found["rlstep.losses"] >= {"rlstep.types", "rlstep.interfaces", "rlstep.tensors"}
    TopologicalSorter(found).prepare()  # raises CycleError, which names the circle


def test_few_files_stand_outside_a_room():
    assert len(list(PACKAGE.glob("*.py"))) <= 10
    for folder in PACKAGE.rglob("*/"):
        assert folder.name == "__pycache__" or list(folder.glob("*.py")), f"{folder} is empty"
