from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("optimizers.py")


@pytest.mark.slow
def test_it_measures_both_and_one_keeps_half(tmp_path: Path):
    report = tmp_path / "optimizers.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--pairs", "2", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=SCRIPT.parents[2],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    for rows in found["sizes"].values():
        # Two moments of 4 bytes (and the count of its steps), one, and none.
        assert rows["AdamW"]["state"] >= 8 * rows["AdamW"]["parameters"]
        assert rows["SGD-SaI"]["state"] == pytest.approx(
            4 * rows["SGD-SaI"]["parameters"], rel=0.01
        )
        assert rows["SGD-SaI"]["masters"] == rows["AdamW"]["masters"]
    assert found["less"] >= 0.45
