"""Where the processes of a run on one machine listen."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.run.run_kit import descendants, make_policy, started, wait_for_lines

pytestmark = pytest.mark.slow


def listening(pid: int) -> list[tuple[str, str]]:
    """Of a process and all below it: its name, and the address of every socket that listens."""
    found = []
    for process in [psutil.Process(pid), *descendants(pid)]:
        try:
            sockets = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue  # ended meanwhile
        found += [(process.name(), s.laddr.ip) for s in sockets if s.status == "LISTEN"]
    return found


def on_loopback(address: str) -> bool:
    at = ip_address(address)
    return (getattr(at, "ipv4_mapped", None) or at).is_loopback


def test_a_run_of_its_own_ray_is_reached_by_this_machine_alone(tmp_path: Path) -> None:
    policy, runs = make_policy(tmp_path / "policy"), tmp_path / "runs"
    with started(policy, runs, "--name", "run", "--iterations", "100000") as process:
        wait_for_lines(process, runs / "run" / "metrics.jsonl", 2)
        found = listening(process.pid)
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    assert any("Learner" in name for name, _ in found), found
    assert [each for each in found if not on_loopback(each[1])] == []
