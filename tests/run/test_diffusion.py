"""A diffusion policy on the real stack: two ranks, two replicas that follow them, a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.diffusion.kit import make_diffusion_model, request
from tests.run import run_kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPE = run_kit.ROOT / "tests" / "diffusion_recipe.py"


def test_two_iterations_a_third_after_a_resume_and_the_export(tmp_path: Path) -> None:
    path = make_diffusion_model(tmp_path / "start", canvas=24)
    run_kit.train(path, tmp_path / "runs", recipe=RECIPE)
    more = ("--iterations", "3", "--resume", "True")
    run_kit.train(path, tmp_path / "runs", *more, recipe=RECIPE)
    run = tmp_path / "runs" / "diffusion"
    records = run_kit.records(run, "metrics.jsonl")
    parity = [r["sync/parity_error"] for r in records if "sync/parity_error" in r]
    assert len(parity) == 3 and max(parity) <= 1e-4
    assert sum(r.get("train/updates", 0) for r in records) == 3
    assert all(r["rollout/failures"] == 0 for r in records if "rollout/failures" in r)
    assert [r["iteration"] for r in records if "eval/accuracy" in r] == [0, 1, 2, 3]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] is True and summary["generators_recreated"] == 0
    start, end = weights(path), weights(str(run / "export"))
    assert start.keys() == end.keys()
    assert any((start[name] != end[name]).any() for name in start)
    assert len(greedy(str(run / "export"))) == 8


def weights(path: str) -> dict[str, Any]:
    from transformers import AutoModelForMaskedLM

    model: Any = AutoModelForMaskedLM.from_pretrained(path)
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def greedy(path: str) -> np.ndarray:
    """Eight tokens, by the folder alone."""
    from transformers import AutoModelForMaskedLM

    from rlstep.diffusion.canvas import read_canvas
    from rlstep.diffusion.unmasking import Pace, sheets, unmask, written

    model: Any = AutoModelForMaskedLM.from_pretrained(path).eval()
    canvas, pace = read_canvas(path), Pace(block=4, tokens=1)
    asked = request([3, 12, 4], temperature=0.0, min_tokens=8, max_tokens=8)
    [sheet] = sheets(asked, canvas, pace)
    while sheet.end(canvas) is None:
        unmask([sheet], lambda seen: model(input_ids=seen).logits, canvas, 0)
    return written(sheet, 11)[0]
