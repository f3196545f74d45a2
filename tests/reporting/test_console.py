from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rlstep.reporting.console import ConsoleSink
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks import RunStart


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def show(tmp_path: Path, *, terminal: bool, resumed: int | None = None) -> str:
    """Two iterations of 4 s each, and an evaluation of 12 s after the first."""
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, force_terminal=terminal, width=160)
    sink = ConsoleSink(console=console, clock=clock)
    directory = RunDirectory.create(tmp_path, "demo")
    sink.open(RunStart(directory=directory, config={}, iterations=1000, resumed=resumed))
    first = (resumed or 0) + 1
    for iteration in (first, first + 1):
        clock.now += 4.0
        record = {"iteration": iteration, "rollout/accuracy": 0.25, "rollout/rollouts": 8}
        record |= {"rollout/tokens": 1000, "train/loss": 0.6931}
        sink.iteration(record, [])
        if iteration == first:
            clock.now += 12.0
            sink.iteration({"iteration": iteration, "eval/accuracy": 0.5}, [])
    sink.close({"failed": False, "eval_accuracy_end": 0.5, "iterations": 2})
    return text.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_record(tmp_path: Path):
    # 8 rollouts and 1000 tokens in 4 s, evaluations not counted. All in all two iterations took
    # 20 s, so the 998 that are left take 9980 s = 2:46:20.
    text = show(tmp_path, terminal=False)
    assert "\x1b" not in text and "\r" not in text
    rates = "loss 0.6931  2.0 rollouts/s  250 tokens/s  left"
    assert [line for line in text.splitlines() if line.startswith("iteration")] == [
        f"iteration 1/1000  train 25.0%  {rates} 1:06:36",  # 999 of 4 s
        f"iteration 1/1000  train 25.0%  eval 50.0%  {rates} 4:26:24",  # 999 of 16 s
        f"iteration 2/1000  train 25.0%  eval 50.0%  {rates} 2:46:20",
    ]


def test_the_pace_of_a_resumed_run_is_its_own(tmp_path: Path):
    text = show(tmp_path, terminal=False, resumed=500)  # 498 iterations of 10 s: 4980 s
    assert "iteration 502/1000" in text and "left 1:23:00\n" in text


def test_on_a_terminal_there_is_a_bar(tmp_path: Path):
    text = show(tmp_path, terminal=True)
    assert "2/1000" in text and "train 25.0%" in text and "250 tokens/s" in text
    assert "\niteration " not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_the_closing_table(tmp_path: Path, terminal: bool):
    text = show(tmp_path, terminal=terminal)
    assert "run ended" in text and "eval_accuracy_end" in text and "0.5" in text


def test_an_iteration_without_rollouts_has_a_line(tmp_path: Path):
    """As after the loss of a replica: every request of a batch may have failed."""
    text, clock = io.StringIO(), Clock()
    sink = ConsoleSink(console=Console(file=text, width=160), clock=clock)
    sink.open(RunStart(directory=RunDirectory.create(tmp_path, "demo"), config={}, iterations=2))
    clock.now += 4.0
    sink.iteration({"iteration": 1, "rollout/rollouts": 0, "rollout/failures": 4}, [])
    assert "iteration 1/2  0.0 rollouts/s  0 tokens/s" in text.getvalue()
