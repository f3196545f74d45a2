"""A run that was killed and resumed is the run that was never killed."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.run.run_kit import (
    descendants,
    finish,
    make_policy,
    records,
    started,
    train,
    wait_for_iteration,
    wait_for_lines,
)
from tests.waiting import gone, wait_for

LINGERING = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Ray's own agents (2.60) outlive a driver that was killed without a word by a minute."""


def sockets() -> set[Path]:
    """Folders that engines talk through."""
    return set(Path("/tmp").glob("rlstep-vllm-*"))


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy")
    runs = tmp_path / "runs"
    with (
        started(policy, runs, "--name", "killed") as process,
        started(policy, runs, "--name", "whole") as other,
    ):
        wait_for_iteration(process, runs / "killed", 2)
        below = [p for p in descendants(process.pid) if p.name() not in LINGERING]
        process.send_signal(signal.SIGKILL)
        wait_for(gone(p.pid for p in below), "end of everything below")
        printed = finish(other)
    left = sockets()
    train(policy, runs, "--name", "killed", "--resume", "True")
    assert sockets() <= left  # the killed engine's may lie there

    # Until the first iteration one line a stage; what libraries say is in a file for each role.
    start = printed[: printed.index("iteration 0/")].splitlines()
    assert [line for line in start if not re.match(r" *\d+\.\d s  |run /", line)] == []
    assert len(start) >= 7 and "first weight sync" in start[-1]
    files = {file.name for file in (runs / "whole" / "log").iterdir()}
    assert files == {"generator-0.log", "policy-0.log", "prm-0.log", "scorer-0.log"}

    whole, killed = (records(runs / name, "metrics.jsonl") for name in ("whole", "killed"))
    exact = [  # everything but the clock
        name
        for name in whole[1]
        if not name.startswith(("time/", "sync/")) and not name.endswith("seconds")
    ]
    assert "train/loss" in exact and "prm/loss" in exact
    for one, other in zip(whole, killed, strict=True):
        assert {n: one.get(n) for n in exact} == {n: other.get(n) for n in exact}
    assert sum(record.get("train/updates", 0) for record in whole) >= 2, "nothing was trained"

    # The probe was sampled before the kill, and is the same one after it.
    measured, again = (
        {n: v for n, v in rows[-1].items() if n.startswith("prm/")} for rows in (whole, killed)
    )
    assert measured == again and measured["prm/probe_chains"] > 0

    rollouts = [records(runs / name, "rollouts.jsonl") for name in ("whole", "killed")]
    assert [r["rollout_id"] for r in rollouts[0]] == [r["rollout_id"] for r in rollouts[1]]
    assert [r["steps"] for r in rollouts[0]] == [r["steps"] for r in rollouts[1]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_checkpoint_and_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    policy = make_policy(tmp_path / "policy")
    runs = tmp_path / "runs"
    arguments = ("--name", "stopped", "--checkpoint-every", "0", "--iterations", "100000")
    with started(policy, runs, *arguments) as process:
        wait_for_lines(process, runs / "stopped" / "metrics.jsonl", 3)
        below = descendants(process.pid)
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == 130, output[-4000:]
        wait_for(gone(p.pid for p in below), "end of everything below")
    done = max(record["iteration"] for record in records(runs / "stopped", "metrics.jsonl"))
    assert (runs / "stopped" / "checkpoints" / f"iteration-{done:06d}" / "manifest.json").exists()
