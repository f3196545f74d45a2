from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rlstep.interfaces import RunStart
from rlstep.reporting.sinks.console import OpenConsole
from rlstep.types import Failure
from tests.builders import make_group, make_rollout


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def show(tmp_path: Path, *, terminal: bool, resumed: int | None = None) -> str:
    """A start of 70 s with an evaluation unless it is resumed; two iterations of 4 s each, and an
    evaluation of 12 s after the first."""
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, force_terminal=terminal, width=160)
    start = RunStart(
        name="demo", folder=tmp_path / "demo", config={}, iterations=1000, resumed=resumed
    )
    sink = OpenConsole(start, console, clock)
    if resumed is None:
        clock.now += 70.0
        sink.iteration({"iteration": 0, "eval/accuracy": 0.25}, [])
    first = (resumed or 0) + 1
    for iteration in (first, first + 1):
        clock.now += 4.0
        record = {"iteration": iteration, "rollout/accuracy": 0.25, "rollout/rollouts": 8}
        record |= {"rollout/tokens": 1000, "train/loss": 0.6931}
        sink.iteration(record, [])
        if iteration == first:
            clock.now += 12.0
            sink.iteration({"iteration": iteration, "eval/accuracy": 0.5}, [])
    sink.close({"failed": False, "eval_accuracy_end": 0.5, "iterations": 2, "prm_auc_end": None})
    return text.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_record(tmp_path: Path):
    # 8 rollouts and 1000 tokens in 4 s, evaluations not counted. All in all two iterations took
    # 20 s, so the 998 that are left take 9980 s = 2:46:20. The start is no part of their pace.
    text = show(tmp_path, terminal=False)
    assert "\x1b" not in text and "\r" not in text
    rates = "loss 0.6931  2.0 rollouts/s  250 tokens/s  left"
    assert [line for line in text.splitlines() if line.startswith("iteration")] == [
        "iteration 0/1000  eval 25.0%  left -",
        f"iteration 1/1000  train 25.0%  eval 25.0%  {rates} 1:06:36",  # 999 of 4 s
        f"iteration 1/1000  train 25.0%  eval 50.0%  {rates} 4:26:24",  # 999 of 16 s
        f"iteration 2/1000  train 25.0%  eval 50.0%  {rates} 2:46:20",
    ]


def test_the_pace_of_a_resumed_run_is_its_own(tmp_path: Path):
    # Between its first line and its second it took 16 s, so 498 iterations take 7968 s.
    text = show(tmp_path, terminal=False, resumed=500)
    *_, last = (line for line in text.splitlines() if line.startswith("iteration "))
    assert last.startswith("iteration 502/1000") and last.endswith("left 2:12:48")


def test_on_a_terminal_there_is_a_bar(tmp_path: Path):
    text = show(tmp_path, terminal=True)
    assert "2/1000" in text and "train 25.0%" in text and "250 tokens/s" in text
    assert "\niteration " not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_the_closing_table(tmp_path: Path, terminal: bool):
    text = show(tmp_path, terminal=terminal)
    assert "run ended" in text and "eval_accuracy_end" in text and "0.5" in text
    assert "prm_auc_end" not in text  # never measured


def lines(tmp_path: Path, every: int, *records: dict[str, float]) -> list[str]:
    """What a run of 4 iterations prints, without the pace."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=300)
    start = RunStart(
        name="demo", folder=tmp_path / "demo", config={}, iterations=4, evaluation_every=every
    )
    sink = OpenConsole(start, console, lambda: 0.0)
    for record in records:
        sink.iteration(record, [])
    sink.close({"failed": False})
    return [e.partition("  left")[0] for e in text.getvalue().splitlines() if e[:4] == "iter"]


def trained(iteration: int, **more: float) -> dict[str, float]:
    named = {name.replace("_", "/", 1): value for name, value in more.items()}
    return {"iteration": iteration, "rollout/groups": 4, "rollout/accuracy": 0.25, **named}


def evaluated(iteration: int) -> dict[str, float]:
    return {"iteration": iteration, "eval/accuracy": 0.5}


def test_an_iteration_with_an_evaluation_prints_once(tmp_path: Path):
    records = [trained(1), trained(2), evaluated(2), trained(3), trained(4), evaluated(4)]
    assert lines(tmp_path, 2, evaluated(0), *records) == [
        "iteration 0/4  eval 50.0%",
        "iteration 1/4  train 25.0%  eval 50.0%",
        "iteration 2/4  train 25.0%  eval 50.0%",
        "iteration 3/4  train 25.0%  eval 50.0%",
        "iteration 4/4  train 25.0%  eval 50.0%",
    ]


def test_a_supervised_training_shows_what_was_measured_of_it(tmp_path: Path):
    """Each kind of measurement stands in the line; the last one is shown until the next."""
    policy = [{"iteration": 1, "train/loss": 0.5, "train/updates": 3}]
    assert lines(tmp_path, 2, {"iteration": 0, "eval/nll": 0.75}, *policy) == [
        "iteration 0/4  eval nll 0.7500",
        "iteration 1/4  eval nll 0.7500  loss 0.5000",
    ]
    labels = {"eval/auc": 0.92345, "eval/label_accuracy": 0.875, "eval/label_loss": 0.3}
    assert lines(tmp_path, 1, {"iteration": 1, "train/loss": 0.5}, {"iteration": 1, **labels}) == [
        "iteration 1/4  eval auc 0.9234  eval labels 87.5%  loss 0.5000"
    ]
    pairs = {"eval/pair_accuracy": 0.625, "eval/pair_loss": 0.6}
    assert lines(tmp_path, 0, {"iteration": 0, **pairs}) == ["iteration 0/4  eval pairs 62.5%"]


def test_an_evaluation_that_never_came_hides_no_iteration(tmp_path: Path):
    seen = lines(tmp_path, 1, trained(1), trained(2), trained(3))
    assert seen == [f"iteration {i}/4  train 25.0%" for i in (1, 2, 3)]


def test_an_iteration_without_signal_shows_no_other_ones_loss(tmp_path: Path):
    first = trained(1, train_loss=0.5, train_updates=2, rollout_without_signal=0.25)
    second = trained(2, train_updates=0, rollout_without_signal=1.0, rollout_failures=3)
    assert lines(tmp_path, 0, first, second) == [
        "iteration 1/4  train 25.0%  loss 0.5000  updates 2  no signal 25%",
        "iteration 2/4  train 25.0%  updates 0  no signal 100%  failed 3",
    ]


def test_an_iteration_without_rollouts_is_a_line(tmp_path: Path):
    nothing: dict[str, float] = {
        "iteration": 1,
        "rollout/groups": 0,
        "rollout/rollouts": 0,
        "train/updates": 0,
    }
    assert lines(tmp_path, 0, nothing) == ["iteration 1/4  updates 0  no signal 0%"]


def test_what_failed_stands_in_the_line_with_the_first_reason(tmp_path: Path):
    failure = Failure(reason="crashed", detail="Own: KeyError: 'unit' (own.py, line 3, in verify)")
    group = make_group(make_rollout("a", [[1]], outcome=1.0, scores={"form": failure}))
    text = io.StringIO()
    start = RunStart(name="demo", folder=tmp_path / "demo", config={}, iterations=4)
    sink = OpenConsole(start, Console(file=text, width=300), lambda: 0.0)
    sink.iteration(trained(1, rollout_failures=1), [group])
    told = "failed 1 (form failed for 1 of 1 (1 crashed); first: Own: KeyError: 'unit' (own.py,"
    assert told in text.getvalue()
