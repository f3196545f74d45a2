"""A run that was killed and resumed is the run that was never killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import look
from rlstep.reporting.card import CARD, LINEAGE
from tests.run.run_kit import (
    ROOT,
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

CURRICULUM = ROOT / "tests" / "curriculum_recipe.py"
ZERO3 = ("--policy.zero-stage", "3", "--policy.world-size", "2")

LINGERING = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Ray's own agents (2.60) outlive a driver that was killed without a word by a minute."""


def sockets(under: int) -> set[Path]:
    """Folders that the engines of a run, by the process that started it, talk through."""
    pids = [process.pid for process in descendants(under)]
    return {folder for pid in pids for folder in Path("/tmp").glob(f"rlstep-vllm-{pid}-*")}


def hub_folder(folder: Path) -> dict[str, bytes]:
    """Its files, and that transformers loads them; of lineage.json not when and how fast it came
    about."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    lineage = json.loads(found[LINEAGE])
    del lineage["made"], lineage["figures"]["seconds"]
    return found | {LINEAGE: json.dumps(lineage).encode()}


def export(name: str, runs: Path, folder: Path, *arguments: str) -> dict[str, bytes]:
    """What `rlstep export` makes of one of a run's checkpoints."""
    words = [name, *arguments, "--out", str(folder), "--run-dir", str(runs)]
    assert look("export", words) == 0
    return hub_folder(folder)


def copied_as_if_killed(process: subprocess.Popen[str], run: Path, copy: Path) -> None:
    """What is on disk while all processes of the run stand still is what a kill would leave."""
    everyone = [process.pid, *(p.pid for p in descendants(process.pid))]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    shutil.copytree(run, copy, symlinks=True)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Resumed from what a kill leaves on disk, beside the same run that went on. That one is killed
    when it has done as much: of its processes nothing is left."""
    policy = make_policy(tmp_path / "policy")
    whole, killed = tmp_path / "runs" / "tiny", tmp_path / "again" / "tiny"
    arguments = "--iterations 5 --export-every 2 --evaluation.every 2".split()
    with started(policy, whole.parent, *arguments) as process:
        wait_for_iteration(process, whole, 2)
        copied_as_if_killed(process, whole, killed)
        wait_for_iteration(process, whole, 5)
        below = [p for p in descendants(process.pid) if p.name() not in LINGERING]
        process.send_signal(signal.SIGKILL)
        wait_for(gone(p.pid for p in below), "end of everything below")
        printed, _ = process.communicate()
    with started(policy, killed.parent, *arguments, "--resume", "True") as process:
        wait_for_iteration(process, killed, 3)
        talking = sockets(process.pid)
        finish(process)
    assert talking and not any(folder.exists() for folder in talking)

    # What is made of a checkpoint is what the run itself exports, killed or not.
    of_both = [hub_folder(run / "exports" / "iteration-000004") for run in (whole, killed)]
    assert of_both[0] == of_both[1] != hub_folder(killed / "export")
    four = export("tiny", whole.parent, tmp_path / "4", "--iteration", "4")
    five = export("tiny", killed.parent, tmp_path / "5")
    for later, then in ((four, of_both[0]), (five, hub_folder(killed / "export"))):
        assert later.keys() == then.keys()
        for name in later.keys() - {LINEAGE, CARD}:  # these have evaluations that came after
            assert later[name] == then[name], name
    # Until the first iteration one line a stage; what libraries say is in a file for each role.
    start = printed[: printed.index("iteration 0/")].splitlines()
    assert [line for line in start if not re.match(r" *\d+\.\d s  |run /", line)] == []
    assert len(start) >= 7 and any("first weight sync" in line for line in start)
    files = {file.name for file in (whole / "log").iterdir()}
    assert files == {"generator-0.log", "policy-0.log", "prm-0.log", "scorer-0.log"}

    def recorded(file: str) -> list[list[dict[str, Any]]]:
        """Of both runs, as far as both are whole."""
        return [[r for r in records(run, file) if r["iteration"] <= 4] for run in (whole, killed)]

    metrics = recorded("metrics.jsonl")
    exact = [  # everything but the clock
        name
        for name in metrics[0][1]
        if not name.startswith(("time/", "sync/", "busy/")) and not name.endswith("seconds")
    ]
    assert "train/loss" in exact and "prm/loss" in exact
    for one, other in zip(*metrics, strict=True):
        assert {n: one.get(n) for n in exact} == {n: other.get(n) for n in exact}
    assert sum(record.get("train/updates", 0) for record in metrics[0]) >= 2, "nothing was trained"

    # The probe was sampled before the kill, and is the same one after it.
    measured, again = (
        {n: v for n, v in rows[-1].items() if n.startswith("prm/")} for rows in metrics
    )
    assert measured == again and measured["prm/probe_chains"] > 0

    rollouts = recorded("rollouts.jsonl")
    assert [r["rollout_id"] for r in rollouts[0]] == [r["rollout_id"] for r in rollouts[1]]
    assert [r["steps"] for r in rollouts[0]] == [r["steps"] for r in rollouts[1]]


@pytest.mark.slow
def test_a_curriculum_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """The same prompts, chosen by the same measurements, and the same ones in others' places."""
    policy = make_policy(tmp_path / "policy")
    whole, cut = tmp_path / "whole" / "tiny", tmp_path / "cut" / "tiny"
    train(policy, whole.parent, "--iterations", "5", recipe=CURRICULUM)
    train(policy, cut.parent, "--iterations", "3", recipe=CURRICULUM)
    train(policy, cut.parent, "--iterations", "5", "--resume", "True", recipe=CURRICULUM)
    logs = [(run / "measurements.jsonl").read_text() for run in (whole, cut)]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 5
    ids = [[r["rollout_id"] for r in records(run, "rollouts.jsonl")] for run in (whole, cut)]
    assert ids[0] == ids[1]
    replaced = [
        r["replaced/groups"] for r in records(whole, "metrics.jsonl") if "rollout/groups" in r
    ]
    assert len(replaced) == 5 and sum(replaced) > 0


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


@pytest.mark.slow
def test_a_run_that_is_stopped_at_its_start_leaves_no_process(tmp_path: Path) -> None:
    """While its actors load."""
    policy, run = make_policy(tmp_path / "policy"), tmp_path / "runs" / "stopped"
    with started(policy, run.parent, "--name", run.name) as process:
        assert process.stdout is not None
        assert any(line.endswith(" s  Ray\n") for line in process.stdout), "it did not start"
        below = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode == 130, output[-4000:]
        wait_for(gone(p.pid for p in below), "end of everything below")
    assert "generators (" not in output and "stopped before everything had started" in output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["complete"], summary["failed"]) == (False, False)


@pytest.mark.slow
def test_killed_at_lag_1_every_prompt_is_trained_on_once(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy")
    whole, killed = tmp_path / "runs" / "tiny", tmp_path / "again" / "tiny"
    arguments = "--iterations 5 --max-policy-lag 1 --evaluation.every 0".split()
    with started(policy, whole.parent, *arguments) as process:
        wait_for_iteration(process, whole, 2)
        copied_as_if_killed(process, whole, killed)
    newest = max((killed / "checkpoints").glob("iteration-*"))
    assert (newest / "backlog.json").exists()
    train(policy, killed.parent, *arguments, "--resume", "True")
    trained: dict[str, set[int]] = {}
    for row in records(killed, "rollouts.jsonl"):
        admitted_with = row["rollout_id"].partition("/")[0]
        trained.setdefault(f"{admitted_with}/{row['prompt_id']}", set()).add(row["iteration"])
    metrics = [r for r in records(killed, "metrics.jsonl") if "rollout/groups" in r]
    assert [r["iteration"] for r in metrics] == [1, 2, 3, 4, 5]
    assert all(len(iterations) == 1 for iterations in trained.values())
    assert len(trained) == sum(r["rollout/groups"] for r in metrics)
    assert sum(r.get("rollout/failures/stale", 0) for r in metrics) == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--policy.model.lora.rank", "4"), ZERO3], ids=str)
def test_an_export_of_a_checkpoint_is_served(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """By vLLM, with transformers' own logprobs."""
    policy = make_policy(tmp_path / "policy")
    train(policy, tmp_path / "runs", "--name", "first", "--iterations", "2", *flags)
    export("first", tmp_path / "runs", tmp_path / "out", "--iteration", "1")
    script = Path(__file__).with_name("served_export.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out"), "float32"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.rpartition("difference")[2]) < 1e-4
