from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.losses import parse

SCRIPT = Path(__file__).with_name("losses.py")


@pytest.mark.slow
def test_it_runs_as_a_script_and_writes_what_it_measured(tmp_path: Path):
    report = tmp_path / "losses.json"
    sizes = "--batch 2 --length 64 --vocabulary 4000 --dtype float32 --repeats 2"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes.split(), "--losses", "Dpo", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=SCRIPT.parents[2],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert found["sizes"]["vocabulary"] == 4000
    assert set(found["losses"]) == {"torch cross_entropy", "Dpo"}
    dpo, plain = found["losses"]["Dpo"], found["losses"]["torch cross_entropy"]
    assert dpo["memory_ratio"] == pytest.approx(dpo["memory_mib"] / plain["memory_mib"])
    # At least the gradient of 2 * 64 * 4000 float32 logits, 1.95 MiB, was made by either.
    assert dpo["memory_mib"] > 1.9 and plain["memory_mib"] > 1.9
    assert dpo["time_s"] > 0.0 and plain["memory_ratio"] == 1.0
    assert found["worst"] == {key: dpo[key] for key in ("time_ratio", "memory_ratio")}
    assert "Dpo" in done.stdout and "worst time_ratio" in done.stdout


def test_a_loss_of_two_models_logits_is_not_compared():
    names = parse([]).losses
    assert {"Dpo", "Ppo", "CrossEntropy"} <= set(names) and "Distillation" not in names


def test_an_odd_number_of_sequences_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["--batch", "3"])
    assert "--batch is 3; pairs need an even number" in capsys.readouterr().err
