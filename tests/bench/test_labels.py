"""The benchmark of labels: its report on figures by hand, its coins, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlstep.types import Prompt
from tests.bench.labels import ESTIMATORS, LUCK, SKILL, TASK, Row, report, succeeds

SCRIPT = Path(__file__).with_name("labels.py")


def row(name: str, tokens: int, seconds: float, located: list[int]) -> Row:
    return Row(
        name=name,
        prefilled=tokens,
        decoded=tokens,
        completions=72,
        seconds=seconds,
        located=located,
    )


def test_report_by_hand():
    rows = [
        row("naive", 4000, 50.0, [1, 2, 3, 5]),
        row("cached", 400, 20.0, [1, 2, 3, 5]),
        row("both", 100, 5.0, [1, 2, 3, 4]),
    ]
    result = report(rows, [1, 2, 3, 4])
    assert result["rows"]["cached"]["prefilled_ratio"] == 10.0
    assert result["rows"]["cached"]["oracle_agreement"] == 75.0
    assert result["rows"]["both"]["exhaustive_agreement"] == 75.0
    assert result["both"] == {"prefilled": 40.0, "seconds": 10.0, "points": 25.0}
    assert result["met"]
    assert not report(rows, [1, 2, 3, 5])["met"]  # 25 points behind
    slow = [*rows[:2], row("both", 100, 11.0, [1, 2, 3, 4])]
    assert not report(slow, [1, 2, 3, 4])["met"]


def test_coins_have_the_rates_they_are_said_to_have():
    text = "2+3*2\n"
    prompt = Prompt(prompt_id="2+3*2", token_ids=np.zeros(1, np.int32), text=text, answer="10")
    right, wrong = ["2+3=5\n"], ["2+3=6\n"]
    assert TASK.first_error(prompt, right) is None and TASK.first_error(prompt, wrong) == 0
    for kept, rate in ((right, SKILL**9), (wrong, LUCK)):
        seen = np.mean([succeeds(prompt, kept, seed) for seed in range(4000)])
        assert seen == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 4000))


@pytest.mark.slow
def test_it_runs_as_a_script_and_writes_what_it_measured(tmp_path: Path):
    path = tmp_path / "labels.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=SCRIPT.parents[2],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert set(found["rows"]) == {"naive", *ESTIMATORS}
    naive, both = found["rows"]["naive"], found["rows"]["both"]
    # 4 chains, 9 prefixes of at least 200 + 40 i tokens, 8 continuations: 4 * 8 * 3600 at least.
    assert naive["prefilled"] >= 115_200 and naive["completions"] == 4 * 72
    assert found["both"]["prefilled"] >= 15.0
    assert both["completions"] < naive["completions"] / 3
    assert "both, over 4 chains" in done.stdout
