from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.types import Failure, OutcomeScore
from tests.scoring.processes.misbehaving import (
    Misbehaving,
    NeverReady,
    OnlyHere,
    WithFunction,
    WithLimits,
)
from tests.scoring.processes.patient_pool import PatientPool
from tests.waiting import gone, state_and_ticks, wait_for

ROOT = Path(__file__).parents[3]
DEADLINE_S = 0.5
"""Of CPU time, in a `PatientPool`."""


def brief(outcomes):
    """Reason of a Failure, extracted answer of a score."""
    return [o.reason if isinstance(o, Failure) else o.extracted for o in outcomes]


@pytest.fixture(scope="module")
def pool():
    with PatientPool(Misbehaving(), workers=2, deadline_s=DEADLINE_S, memory_mb=1024) as pool:
        yield pool


async def test_results_keep_the_order_of_the_items(pool):
    items = [(str(n), str(n - n % 3)) for n in range(1000)]
    outcomes = await pool.verify(items)
    assert [o.extracted for o in outcomes] == [str(n) for n in range(1000)]
    assert [o.value for o in outcomes] == [float(n % 3 == 0) for n in range(1000)]


async def test_no_items(pool):
    assert await pool.verify([]) == []


@pytest.mark.parametrize(
    ("trick", "reason", "detail"),
    [
        ("loop", "timeout", "no verdict within 0.5 s"),
        ("sum", "timeout", "no verdict within 0.5 s"),
        ("stop", "timeout", "no verdict within 0.5 s"),
        ("segfault", "crashed", "SIGSEGV"),
        ("exit", "crashed", "exit status 3"),
        ("sys.exit", "crashed", "exit status 4"),
        ("allocate", "crashed", "MemoryError"),
        ("raise", "crashed", "KeyError: 'missing'"),
        ("nothing", "crashed", "returned NoneType, not OutcomeScore"),
        ("float", "crashed", "returned float, not OutcomeScore"),
        ("nan", "crashed", "value nan"),
        ("half", "crashed", "value 0.5"),
        ("huge", "crashed", "value 1e+308"),
        ("bool", "crashed", "an OutcomeScore of bool, Verdict, str"),
        ("text", "crashed", "an OutcomeScore of str, Verdict, str"),
        ("array", "crashed", "an OutcomeScore of ndarray, Verdict, str"),
        ("no text", "crashed", "an OutcomeScore of float, Verdict, NoneType"),
    ],
)
async def test_only_the_guilty_item_fails(pool, trick, reason, detail):
    # 80 items make chunks of 10 for 2 workers: the trick has neighbours before and after it
    items = [(str(n), str(n)) for n in range(80)]
    items[44] = (trick, "")
    outcomes = await pool.verify(items)
    failure = outcomes.pop(44)
    assert isinstance(failure, Failure)
    assert (failure.reason, detail in failure.detail) == (reason, True), failure
    assert all(isinstance(o, OutcomeScore) and o.value == 1.0 for o in outcomes)
    assert len(pool.pids()) <= 2


async def test_several_guilty_items_in_one_chunk(pool):
    outcomes = await pool.verify([("a", "a")] * 7 + [("loop", "")])  # 8 chunks of 1
    assert brief(outcomes) == ["a"] * 7 + ["timeout"]
    with PatientPool(Misbehaving(), workers=1, deadline_s=DEADLINE_S) as single:
        # one worker and 16 items: chunks of 4, so the first holds three guilty ones
        texts = ["exit", "loop", "raise", "b", *"cdefghijklmn"]
        outcomes = await single.verify([(text, "") for text in texts])
    assert brief(outcomes) == ["crashed", "timeout", "crashed", "b", *"cdefghijklmn"]


async def test_a_hanging_item_is_given_its_deadline_and_its_worker_is_replaced():
    """By the machine's own clock; all other deadlines here are a worker's CPU time."""
    with VerifierPool(Misbehaving(), workers=1, deadline_s=0.5) as single:
        for trick in ("stop", "loop"):
            (failure,) = await single.verify([(trick, "")])
            assert failure == Failure(reason="timeout", detail="no verdict within 0.5 s")


async def test_a_killed_worker_is_replaced_before_anybody_asks():
    with PatientPool(Misbehaving(), workers=1, deadline_s=DEADLINE_S) as single:
        first = single.pids()
        assert brief(await single.verify([("stop", "")])) == ["timeout"]
        wait_for(lambda: single.pids() not in ([], first), "replacement")
        second = single.pids()
        assert brief(await single.verify([("a", "a")])) == ["a"]
        assert single.pids() == second


async def test_a_worker_killed_from_outside_costs_nothing(pool):
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    items = [(str(n), str(n)) for n in range(64)]
    assert all(isinstance(o, OutcomeScore) and o.value == 1.0 for o in await pool.verify(items))


@pytest.mark.parametrize(("deaths", "reasons"), [(1, ["a"]), (2, ["crashed"])])
async def test_a_start_that_was_killed_is_tried_once_more(deaths, reasons):
    """One kill cost all items that waited for the new worker."""
    with PatientPool(Misbehaving(), workers=1, deadline_s=DEADLINE_S) as single:
        left = [0]

        class Unlucky(single.worker):
            def load(self):
                if left[0]:
                    left[0] -= 1
                    os.kill(self.pid, signal.SIGKILL)
                super().load()

        single.worker = Unlucky
        (pid,) = single.pids()
        left[0] = deaths
        os.kill(pid, signal.SIGKILL)
        assert brief(await single.verify([("a", "a")])) == reasons
        assert brief(await single.verify([("b", "b")])) == ["b"]


async def test_a_process_that_cannot_be_made_is_a_failure_until_it_can(monkeypatch):
    def no_process(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    items = [(str(n), str(n)) for n in range(8)]
    with PatientPool(Misbehaving(), workers=1, deadline_s=DEADLINE_S) as single:
        with monkeypatch.context() as broken:
            broken.setattr(subprocess, "Popen", no_process)
            (pid,) = single.pids()
            os.kill(pid, signal.SIGKILL)
            for _ in range(2):
                outcomes = await single.verify(items)
                assert brief(outcomes) == ["crashed"] * 8
                assert "no worker could start: Resource temporarily" in str(outcomes[0])
            assert single.pids() == []
        assert brief(await single.verify(items)) == [text for text, _ in items]
    monkeypatch.setattr(subprocess, "Popen", no_process)
    with pytest.raises(RuntimeError, match="did not start: Resource temporarily unavailable"):
        VerifierPool(Misbehaving(), workers=1)


async def test_noise_and_odd_text_pass_through(pool):
    texts = ["", "\x00", "a\nb", "\ud800", "\N{RIGHT-TO-LEFT OVERRIDE}x", "😀", '"],[', "é" * 10**6]
    outcomes = await pool.verify([("print", ""), *((text, text) for text in texts)])
    assert brief(outcomes) == ["printed", *texts]


async def test_workers_see_no_secrets_and_load_nothing_heavy(pool, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted")
    for pid in pool.pids():  # so that new ones start now
        os.kill(pid, signal.SIGKILL)
    environment, modules = await pool.verify([("environment", ""), ("modules", "")])
    assert "planted" not in environment.extracted
    assert not {"torch", "ray", "sympy", "transformers"} & set(json.loads(modules.extracted))


async def test_the_event_loop_goes_on_while_items_hang(pool):
    ticks = 0
    task = asyncio.create_task(pool.verify([("loop", ""), ("loop", "")]))
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert brief(task.result()) == ["timeout", "timeout"]
    assert ticks > 1  # a blocked loop would give 1


def test_pool_made_and_used_off_the_main_thread():
    outcomes = []

    def run(pool):
        outcomes.extend(asyncio.run(pool.verify([("loop", ""), ("a", "a")])))

    pools = []
    maker = threading.Thread(
        target=lambda: pools.append(PatientPool(Misbehaving(), workers=1, deadline_s=DEADLINE_S))
    )
    maker.start()
    maker.join()  # the thread that made the pool has ended: its workers must not end with it
    with pools[0] as pool:
        pids = pool.pids()
        assert brief(asyncio.run(pool.verify([("a", "a")]))) == ["a"]
        assert pool.pids() == pids
        user = threading.Thread(target=run, args=(pool,))
        user.start()
        user.join()
    assert brief(outcomes) == ["timeout", "a"]


async def test_close_leaves_no_process_and_ends_what_is_running():
    pool = VerifierPool(Misbehaving(), workers=2, deadline_s=60.0)
    (child,) = await pool.verify([("child", "")])  # a process that a worker started
    assert isinstance(child, OutcomeScore)
    pids = [*pool.pids(), int(child.extracted)]
    task = asyncio.create_task(pool.verify([("loop", "")] * 20))
    await asyncio.sleep(0)  # lets the task hand its items over
    await asyncio.to_thread(pool.close)
    assert brief(await task) == ["closed"] * 20
    wait_for(gone(pids), "end of all processes")
    assert pool.pids() == []
    with pytest.raises(RuntimeError, match="closed"):
        await pool.verify([("a", "a")])
    pool.close()  # twice is once


PARENT = """
import asyncio, signal, sys
from rlstep.scoring.processes.verifier_pool import VerifierPool
from tests.scoring.processes.patient_pool import PatientPool
from tests.waiting import gone, state_and_ticks, wait_for
from tests.scoring.processes.misbehaving import Misbehaving
pool = VerifierPool(Misbehaving(), workers=2, deadline_s=600.0)
print(*pool.pids(), flush=True)
asyncio.run(pool.verify([(trick, "") for trick in sys.argv[1:]]))
signal.pause()
"""


def wait_until_busy(pid: int) -> None:
    """Until a worker is stopped, or has computed for another 0.2 s."""
    begun = state_and_ticks(pid)[1]

    def busy() -> bool:
        state, ticks = state_and_ticks(pid)
        return state == "T" or ticks >= begun + 20

    wait_for(busy, f"work of {pid}")


@pytest.mark.parametrize("tricks", [[], ["loop", "sum"], ["stop", "stop"]])
def test_workers_die_with_their_parent(tricks):
    command = [sys.executable, "-c", PARENT, *tricks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        if tricks:
            for pid in pids:
                wait_until_busy(pid)
        parent.send_signal(signal.SIGKILL)
    wait_for(gone(pids), "end of the workers")


def test_a_pool_that_is_never_closed_ends_with_its_program():
    program = PARENT.rsplit("asyncio.run", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    wait_for(gone(map(int, done.stdout.split())), "end of the workers")


def test_a_verifier_that_cannot_start_is_refused_at_once():
    with pytest.raises(RuntimeError, match="did not start: ValueError: this is not process"):
        VerifierPool(OnlyHere(pid=os.getpid()), workers=2)


def test_a_verifier_whose_start_stands_still_is_refused(monkeypatch):
    monkeypatch.setattr("rlstep.scoring.processes.start_watch._LIMIT_S", 2.0)
    with pytest.raises(RuntimeError, match="did not start: not ready"):
        VerifierPool(NeverReady(pid=os.getpid()), workers=2)


def test_a_verifier_that_cannot_be_copied_is_refused():
    @dataclass(frozen=True)
    class Local(Misbehaving):
        pass

    with pytest.raises(ValueError, match="Local cannot be copied"):
        VerifierPool(Local())
    with pytest.raises(ValueError, match="WithFunction cannot be copied"):
        VerifierPool(WithFunction(function=lambda: 1))
    with pytest.raises(ValueError, match="WithLimits cannot be built in another process"):
        VerifierPool(WithLimits(limits=[("a", 1.0)]))  # type: ignore[arg-type]  # a list, no tuple
    VerifierPool(WithLimits(limits=(("a", 1.0),)), workers=1).close()


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"workers": 0}, "verifier_pool.workers is 0; the smallest valid value is 1"),
        ({"deadline_s": 0.0}, "verifier_pool.deadline_s is 0.0"),
        ({"memory_mb": 1}, "verifier_pool.memory_mb is 1"),
    ],
)
def test_refused_bounds(bound, message):
    with pytest.raises(ValueError, match=message):
        VerifierPool(Misbehaving(), **bound)
