"""The cluster scripts, as far as they can fail before a cluster starts."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "cluster" / "local.sh"


@pytest.mark.parametrize("name", ["RAY_PORT", "DASHBOARD_PORT"])
def test_a_port_that_is_taken_is_named_with_the_nearest_free_one(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        other = {"RAY_PORT": "DASHBOARD_PORT", "DASHBOARD_PORT": "RAY_PORT"}[name]
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound, not listening: nothing else gets it meanwhile
            ports = {name: str(taken), other: str(unused.getsockname()[1])}
            finished = subprocess.run(
                [str(SCRIPT)], env={**os.environ, **ports}, capture_output=True, text=True
            )
    assert finished.returncode != 0
    assert f"{name} is {taken}, and that port is taken" in finished.stderr
    nearest = int(finished.stderr.split()[-1])
    assert taken < nearest < 65536
