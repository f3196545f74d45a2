"""A submitted job on a running cluster: token authentication on, logs, stop."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.run.run_kit import RECIPE, ROOT, make_policy
from tests.waiting import gone, wait_for

pytestmark = pytest.mark.slow
RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a client of a fresh cluster."""
    dashboard = free_port()
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "WANDB_MODE": "offline",
    }
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", "--num-cpus=2", f"--port={free_port()}"),
            *(f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            # Its default is one port for every cluster of a machine; without it no job starts.
            f"--dashboard-agent-listen-port={free_port()}",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield {**environment, "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    below = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    head.wait()
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def ray(cluster: dict[str, str], *arguments: str) -> str:
    """One `ray job` command; tried again until the cluster answers."""
    said = []

    def answered() -> bool:
        finished = subprocess.run(
            [RAY, "job", *arguments], env=cluster, capture_output=True, text=True, cwd=ROOT
        )
        said.append(finished.stdout + finished.stderr)
        assert len(said) < 50, said[-1][-4000:]
        return finished.returncode == 0

    wait_for(answered, "answer of the cluster")
    return said[-1]


def submit(cluster: dict[str, str], policy: str, runs: Path, name: str, *more: str) -> None:
    command = f"{sys.executable} -m rlstep.cli train {RECIPE} --run-dir {runs} --name {name}"
    ray(
        cluster,
        *("submit", "--no-wait", "--submission-id", name, "--working-dir", "recipes"),
        *("--runtime-env-json", f'{{"env_vars": {{"TINY_POLICY": "{policy}"}}}}'),
        *("--", *command.split(), *more),
    )


def logs_with(cluster: dict[str, str], name: str, words: str) -> str:
    """The job's logs, once they hold `words`."""

    def there() -> str:
        logs = ray(cluster, "logs", name)
        assert words in logs or "FAILED" not in ray(cluster, "status", name), logs[-4000:]
        return logs if words in logs else ""

    return wait_for(there, f"{words!r} in the logs of {name}")


def test_a_job_succeeds_shows_progress_and_stops(cluster: dict[str, str], tmp_path: Path) -> None:
    policy, runs = make_policy(tmp_path / "policy"), tmp_path / "runs"
    submit(cluster, policy, runs, "whole", "--iterations", "2")
    logs = logs_with(cluster, "whole", "eval_accuracy_end")
    assert "iteration 1/2" in logs
    assert (runs / "whole" / "summary.json").exists()

    refused = subprocess.run(
        [RAY, "job", "list"],
        env={**cluster, "RAY_AUTH_TOKEN": secrets.token_hex(32)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0

    submit(cluster, policy, runs, "stopped", "--iterations", "100000", "--checkpoint-every", "0")
    logs_with(cluster, "stopped", "iteration 2/")
    ray(cluster, "stop", "stopped")
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(runs) in str(p.info["cmdline"])]
    mine += [p for p in psutil.process_iter(["name"]) if "EngineCore" in (p.info["name"] or "")]
    wait_for(gone(p.pid for p in mine), "end of the job's processes")
    saved = list((runs / "stopped" / "checkpoints").glob("iteration-*/manifest.json"))
    assert saved, ray(cluster, "logs", "stopped")[-6000:]
