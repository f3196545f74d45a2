"""Runs a verifier in processes that can be killed.

Symbolic comparison can hang in C code, where neither a signal handler nor a thread can stop it, and
Math-Verify's own timeouts work in the main thread only. Here each worker is a process of its own:
an item past its deadline is ended by SIGKILL, becomes a `Failure`, and nothing else is lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rlstep.checks import at_least
from rlstep.interfaces import Item, Verifier
from rlstep.scoring.processes import verifier_worker
from rlstep.scoring.processes.confined import GRACE_S, exited, spec_of, start_process
from rlstep.scoring.processes.start_watch import LOOK_S, StartWatch
from rlstep.types import Failure, OutcomeScore, Verdict

_SEND_S = 60.0
"""Longest time for a new worker's socket to take the few bytes that its verifier is sent as."""
_LARGEST_CHUNK = 64
"""Items sent at once. Their answers come back one by one, so a chunk shares no deadline."""

Outcome = OutcomeScore | Failure


class _StartFailed(Exception):
    """A worker has no process, or could not load its verifier; the message says why."""


class _Killed(_StartFailed):
    """Something else has ended it while it started: whoever guards the machine's memory, say."""


class _Worker:
    """One process and the socket to it. Used by one thread at a time; `kill` by any."""

    def __init__(self, spec: str, deadline_s: float, memory_mb: int) -> None:
        self._socket, theirs = socket.socketpair()
        self._answers = self._socket.makefile("rb")
        self._spec = spec
        self._killing = threading.Lock()
        arguments = (os.getpid(), deadline_s, memory_mb)
        with theirs:
            try:
                self._process = start_process(verifier_worker.__name__, theirs, arguments)
            except OSError:
                self._answers.close()
                self._socket.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self) -> None:
        """Send the verifier's spec and wait until it is ready for items."""
        watch = StartWatch(self.pid)
        answers = select.poll()
        answers.register(self._socket, select.POLLIN)
        try:
            self.send(self._spec, _SEND_S)
            while not answers.poll(1000 * LOOK_S):
                if problem := watch.problem():
                    raise _StartFailed(problem)
            answer = self.receive(_SEND_S)
        except (EOFError, ConnectionError) as error:
            ended_by = self.kill(grace_s=GRACE_S)
            kind = _Killed if ended_by == "SIGKILL" else _StartFailed
            raise kind(f"the process ended early ({ended_by})") from error
        if "error" in answer:
            raise _StartFailed(answer["error"])

    def send(self, line: str, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        self._socket.sendall(line.encode() + b"\n")

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            TimeoutError: none came in time.
            EOFError, ConnectionError: the process is gone.
        """
        self._socket.settimeout(timeout_s)
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)

    def kill(self, grace_s: float = 0.0) -> str:
        """End the process and all it started; says how it ended, within `grace_s` by itself."""
        with self._killing:
            if self._process.returncode is None:  # not yet reaped: the id is still this process's
                exited(self._process.pid, grace_s)
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def kill_unseen(self) -> None:
        """Like `kill`, without waiting for the end; `close` does that later."""
        with self._killing:
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        self._answers.close()
        self._socket.close()


class VerifierPool:
    """Verifies items in `workers` processes, in any thread and from any event loop.

    An item that takes longer than `deadline_s` is a Failure('timeout'). One whose `verify` raises,
    or that ends its process twice, is a Failure('crashed'). No other item is affected: those that
    were queued behind it run in the worker's replacement. The workers die with this process.

    Raises:
        ValueError: a bound is too small, or the verifier is not one that another process can build.
        RuntimeError: a worker did not start.
    """

    worker = _Worker

    def __init__(
        self,
        verifier: Verifier,
        *,
        workers: int = 2,
        deadline_s: float = 5.0,
        memory_mb: int = 2048,
    ) -> None:
        at_least("verifier_pool.workers", workers, 1)
        at_least("verifier_pool.deadline_s", deadline_s, 0.01)
        at_least("verifier_pool.memory_mb", memory_mb, 256)
        self.decided_at = time.monotonic()
        """When the newest outcome came; of one that waits for others nobody can tell more."""
        self._spec = spec_of(verifier)
        self._workers = workers
        self._deadline_s = deadline_s
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        self._closed = False
        # PR_SET_PDEATHSIG fires when the thread that started a process ends, so the pool has its
        # own threads; an idle slot holds a worker, or None where the last one was killed.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")
        self._slots: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        # Nobody waits for the end of a killed process, which on a busy machine takes its time.
        self._reaper = ThreadPoolExecutor(1, thread_name_prefix="verifier-reaper")
        try:
            for worker in self._threads.map(lambda _: self._start(), range(workers)):
                self._slots.put(worker)
        except _StartFailed as error:
            self.close()
            raise RuntimeError(f"a worker of the verifier pool did not start: {error}") from error

    async def verify(self, items: Sequence[Item]) -> list[Outcome]:
        """Score items (see `Verifier.item`); the results are in their order."""
        if self._closed:
            raise RuntimeError("the verifier pool is closed")
        size = max(1, min(_LARGEST_CHUNK, len(items) // (4 * self._workers)))
        answers: list[Future[list[Outcome]]] = []
        for start in range(0, len(items), size):
            answers.append(Future())
            self._threads.submit(self._serve, items[start : start + size], answers[-1])
        chunks = await asyncio.gather(*map(asyncio.wrap_future, answers))
        return [outcome for chunk in chunks for outcome in chunk]

    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        with self._lock:
            return [worker.pid for worker in self._alive]

    def close(self) -> None:
        """End every worker; what is still being verified becomes a Failure('closed')."""
        with self._lock:
            self._closed = True
            workers = list(self._alive)
        for worker in workers:
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in workers:
            self._discard(worker)
        self._reaper.shutdown(wait=True)

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise _StartFailed("the pool is closed")
            try:
                worker = self.worker(self._spec, self._deadline_s, self._memory_mb)
            except OSError as error:  # no memory, or no more processes or files, for now
                raise _StartFailed(error.strerror or str(error)) from error
            self._alive.add(worker)
        try:
            worker.load()
        except _StartFailed:
            self._discard(worker)
            raise
        return worker

    def _started(self) -> _Worker:
        """A new worker; a start that was killed is no fault of the items that wait for it, and is
        tried once more."""
        try:
            return self._start()
        except _Killed:
            return self._start()

    def _discard(self, worker: _Worker) -> None:
        worker.close()
        with self._lock:
            self._alive.discard(worker)

    def _retire(self, worker: _Worker) -> None:
        """Kill a worker that is late, and be done with it."""
        worker.kill_unseen()
        with self._lock:
            self._alive.discard(worker)
        self._reaper.submit(worker.close)

    def _serve(self, items: Sequence[Item], answer: Future[list[Outcome]]) -> None:
        """Verify a chunk, hand out its outcomes, and only then replace a worker that was killed."""
        if not answer.set_running_or_notify_cancel():
            return
        worker = self._slots.get()
        try:
            outcomes, worker = self._verify_chunk(items, worker)
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(outcomes)
            worker = worker or self._replacement()
        finally:
            self._slots.put(worker)

    def _replacement(self) -> _Worker | None:
        """A new worker, or None: the next chunk tries again, and says why it cannot be."""
        try:
            return self._start()
        except _StartFailed:
            return None

    def _verify_chunk(
        self, items: Sequence[Item], worker: _Worker | None
    ) -> tuple[list[Outcome], _Worker | None]:
        """The outcomes, and the worker that is left, None where the last one was killed."""
        outcomes: list[Outcome] = []
        suspect = -1  # the item that a worker last died on; a second death is that item's fault
        try:
            while len(outcomes) < len(items):
                worker = worker or self._started()
                try:
                    self._feed(worker, items[len(outcomes) :], outcomes)
                except (TimeoutError, EOFError, ConnectionError) as error:
                    index, self.decided_at = len(outcomes), time.monotonic()
                    if isinstance(error, TimeoutError):
                        self._retire(worker)
                        detail = f"no verdict within {self._deadline_s} s"
                        outcomes.append(Failure(reason="timeout", detail=detail))
                    else:
                        ended_by = worker.kill(grace_s=GRACE_S)
                        self._discard(worker)
                        if index == suspect:
                            detail = f"the verifier's process ended: {ended_by}"
                            outcomes.append(Failure(reason="crashed", detail=detail))
                    worker, suspect = None, index
        except _StartFailed as error:
            reason = "closed" if self._closed else "crashed"
            rest = Failure(reason=reason, detail=f"no worker could start: {error}")
            outcomes += [rest] * (len(items) - len(outcomes))
        return outcomes, worker

    def _feed(self, worker: _Worker, items: Sequence[Item], outcomes: list[Outcome]) -> None:
        """Have one worker verify `items`, appending each outcome as it comes in."""
        worker.send(json.dumps(items), self._deadline_s)
        for _ in items:
            outcomes.append(_outcome(worker.receive(self._deadline_s)))
            self.decided_at = time.monotonic()


def _outcome(answer: dict[str, Any]) -> Outcome:
    if "error" in answer:
        return Failure(reason="crashed", detail=answer["error"])
    return OutcomeScore(**{**answer, "verdict": Verdict(answer["verdict"])})
