"""Every recipe resolves as an argument of `rlstep train`, and one of them run as a script.

Those of reasoning-gym are skipped, saying so, without the extra.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.py") if "\ndef config(" in path.read_text())
GYM = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="the extra rlstep[reasoning-gym] is absent"
)

POLICY = str(FOLDER / "policies" / "arithmetic")
TEACHERS = {
    "arithmetic_distillation": ["--policy.reference-model.path", POLICY],
    "arithmetic_teacher_grpo": ["--step-models.0.learner.model.path", POLICY],
    "arithmetic_prm_benchmark": ["--model.learner.model.path", POLICY],
}
"""Recipes of a model that another run makes, and the option that names a folder for it."""
DATA = {"prm_benchmark": [f"--benchmarks.{i}.path={FOLDER}" for i in range(2)]}
"""Those of data that nobody ships, and options that name a folder that is there. The model is not,
and so they are not read."""

# One interpreter for all: they load the same libraries.
RESOLVE = """
import contextlib, io, json, os, runpy, sys
from rlstep.cli import main

def outcome(call):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            call()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}

def script(path):
    sys.path.insert(0, path.rpartition("/")[0])  # as Python does
    runpy.run_path(path, run_name="__main__")

results, teachers = {}, json.loads(os.environ["TEACHERS"])
for path in sys.argv[1:]:
    ends = {"sft": "sft", "fit": "fit", "benchmark": "eval"}
    verb = next((v for end, v in ends.items() if path.endswith(f"_{end}.py")), "train")
    sys.argv = ["rlstep", verb, path, "--dry-run"]
    results[path] = {"without": outcome(main)}
    options = teachers.get(path.rpartition("/")[2].removesuffix(".py"), [])
    sys.argv = ["rlstep", verb, path, "--dry-run", *options]
    results[path]["command"] = outcome(main) if options else results[path]["without"]
    sys.argv = [path, "--dry-run", *options]
    if len(results) == 1:
        results[path]["script"] = outcome(lambda: script(path))
loaded = [name for name in ("ray", "vllm", "deepspeed") if name in sys.modules]
print(json.dumps({"loaded": loaded, "results": results}))
"""


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, *map(str, RECIPES)],
        capture_output=True,
        text=True,
        check=False,
        # Hub models that are not on this machine are not asked for; their memory is 'unknown'.
        env={
            **os.environ,
            "COLUMNS": "120",
            "TEACHERS": json.dumps(TEACHERS | DATA),
            "RLSTEP_RUN_DIR": str(tmp_path_factory.mktemp("runs")),  # none of these names is taken
            "HF_HOME": str(tmp_path_factory.mktemp("hub")),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_recipes_are_found():
    assert {"arithmetic_full_step_dpo", "arithmetic_grpo"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize(
    ("path", "way"),
    [
        *(
            pytest.param(path, "command", marks=GYM if "reasoning_gym" in path.stem else ())
            for path in RECIPES
        ),
        (RECIPES[0], "script"),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_dry_run(path: Path, way: str, resolved: dict):
    result = resolved["results"][str(path)][way]
    assert result["status"] == 0, result["err"]
    supervised, measured = path.stem.endswith(("_sft", "_fit")), path.stem.endswith("_benchmark")
    roles = ("learner",) if supervised else ("policy learner", "generator", "scorer")
    told = ("prm (frozen)",) if measured else ("iterations=", *roles)
    for part in ("Config(", *told, "GiB each"):
        assert part in result["out"]


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_is_not_there_is_named(name: str, resolved: dict):
    result = resolved["results"][str(FOLDER / f"{name}.py")]["without"]
    assert result["status"] == 2
    run = "prm" if name.endswith("_benchmark") else "teacher"
    assert f"path is 'runs/{run}/export', and there is no such folder" in result["err"]


@pytest.mark.parametrize("name", DATA)
def test_data_that_are_not_there_are_named(name: str, resolved: dict):
    result = resolved["results"][str(FOLDER / f"{name}.py")]["without"]
    assert result["status"] == 2
    assert "benchmarks.0.path is 'data/ProcessBench', and there is no such file" in result["err"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_script(path: Path):
    assert path.read_text().endswith(RECIPES[0].read_text().rpartition("\n\n\n")[2])


def test_dry_runs_load_no_cluster(resolved: dict):
    assert resolved["loaded"] == []


def test_a_policy_that_no_cpu_serves_is_not_made() -> None:
    from recipes.sft_base import RandomLlama

    with pytest.raises(ValueError, match=r"start\.hidden_size is 96 for 4 heads; .* value is 128"):
        RandomLlama(tokenizer="any", hidden_size=96)
    RandomLlama(tokenizer="any", hidden_size=64, heads=2)
