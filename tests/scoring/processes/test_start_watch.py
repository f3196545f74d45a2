"""A process that starts is waited for by what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from rlstep.scoring.processes.start_watch import StartWatch
from tests.waiting import gone, wait_for

WORKS = "while True: pass"
SLEEPS = "import signal; signal.pause()"
RUNS_ANOTHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
WORKS_A_WHILE = "import time\nwhile time.process_time() < 0.4: pass"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def running(program: str, argument: str = "") -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", program, argument]) as child:
        process = psutil.Process(child.pid)
        try:
            yield process
        finally:
            for each in (*process.children(recursive=True), process):
                each.kill()


@pytest.mark.parametrize(("program", "argument"), [(WORKS, ""), (RUNS_ANOTHER, WORKS)])
def test_what_works_is_waited_for_however_slow_the_machine_is(program: str, argument: str):
    """A little more than half a second of work in each 140 s of the clock."""
    clock = Clock()
    with running(program, argument) as process:
        watch = StartWatch(process.pid, clock)
        for _ in range(2):
            enough = watch.processor_s() + 0.6
            wait_for(lambda enough=enough: watch.processor_s() > enough, "work")
            clock.now += 140.0
            assert watch.problem() == ""


def test_what_stands_still_is_given_up():
    clock = Clock()
    with running(SLEEPS) as process:
        watch = StartWatch(process.pid, clock)
        wait_for(lambda: process.status() == psutil.STATUS_SLEEPING, "sleep")
        watch.problem()
        clock.now += 149.0
        assert watch.problem() == ""
        clock.now += 2.0
        assert watch.problem() == "not ready, and at work for less than 0.5 s in 151 s"


def test_what_works_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch):
    with running(WORKS) as process:
        watch = StartWatch(process.pid, Clock())
        wait_for(lambda: watch.processor_s() > 0.4, "work")
        assert watch.problem() == ""
        monkeypatch.setattr("rlstep.scoring.processes.start_watch._LIMIT_S", 0.3)
        assert watch.problem().endswith("s of processor time")


def test_what_is_gone_is_left_to_who_hears_of_its_end():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        wait_for(gone([ended.pid]), "end")
    watch = StartWatch(ended.pid, Clock())
    assert (watch.processor_s(), watch.problem()) == (0.0, "")


def test_work_of_children_that_have_ended_counts():
    with running(RUNS_ANOTHER + SLEEPS, WORKS_A_WHILE) as process:
        watch = StartWatch(process.pid, Clock())
        wait_for(lambda: watch.processor_s() >= 0.4 and not process.children(), "the child's end")
        assert watch.processor_s() >= 0.4
