"""A PRM is fitted, and measured by itself, on the real stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.run_kit import ROOT, finish, records, started

pytestmark = pytest.mark.slow


def test_a_fitted_prm_finds_first_errors(tmp_path: Path) -> None:
    fit, measure = (ROOT / "recipes" / f"arithmetic_prm_{name}.py" for name in ("fit", "benchmark"))
    with started("", tmp_path, "--name", "prm", verb="fit", recipe=fit) as process:
        finish(process)
    model = str(tmp_path / "prm" / "export")
    lengths = [word for i in range(2) for word in (f"--benchmarks.{i}.lengths", "4", "8")]
    options = ("--model.learner.model.path", model, *lengths)
    with started("", tmp_path, *options, verb="eval", recipe=measure) as process:
        said = finish(process)
    run = tmp_path / "arithmetic-prm-eval"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] and "eval/habit/8_operations/f1" in said
    for name in ("habit", "slips"):
        for length in (4, 8):
            place = f"eval/{name}/{length}_operations"
            assert summary[f"{place}/cases"] == 256 and summary[f"{place}/failures"] == 0
    # It has seen the habit alone, and knows it by its looks.
    assert summary["eval/habit/f1"] > 0.9 > 0.5 > summary["eval/slips/f1"]
    assert len(records(run, "evaluations.jsonl")) == 1024
    lineage = json.loads((run / "versions.json").read_text())["models"]
    assert lineage["model"]["name"] == "prm/export"
