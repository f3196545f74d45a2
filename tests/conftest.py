"""Settings of every test."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Ray (2.60) lets its workers yield to whatever else runs, here the other worker's tests.
os.environ.setdefault("RAY_worker_niceness", "0")

# Two workers with two threads each on two cores wait for each other by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a change is to blame for what it breaks; others are drawn
# by `pytest --hypothesis-profile=random`. A deadline would measure the machine, not the code.
settings.register_profile("rlstep", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("rlstep")


class RayOnOneWorker(LoadScopeScheduling):
    """One worker takes all that starts Ray, since two clusters on one machine are in each other's
    way, and one all of scoring, where tests count the machine's sandboxed processes; the rest goes
    by files to whoever is free.

    The mark `xdist_group` would say it, but has no effect (pytest 9.2 with pytest-xdist 3.8).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith(("tests/actors/", "tests/run/")):
            return "ray"
        return "scoring" if file.startswith("tests/scoring/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayOnOneWorker:
    return RayOnOneWorker(config, log)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the tests took of the processors: unlike seconds, much the same on a busy machine. Ray's
    processes are nobody's children, and not in it."""
    took = os.times()
    seconds = took.user + took.system + took.children_user + took.children_system
    terminalreporter.write_line(
        f"CPU time, user and system, without Ray's processes: {seconds:.0f} s"
    )
