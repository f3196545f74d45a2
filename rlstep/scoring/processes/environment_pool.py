"""Runs an environment's episodes in processes that can be killed.

A call carries its episode's whole history, so that nothing is lost with a process: the next one
that is asked makes the episode again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import time
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

from rlstep.checks import at_least
from rlstep.interfaces import Environment
from rlstep.scoring.processes import environment_worker
from rlstep.scoring.processes.confined import GRACE_S, exited, spec_of, start_process
from rlstep.scoring.processes.start_watch import LOOK_S, StartWatch
from rlstep.types import Failure, History, Observation


class _Ended(Exception):
    """The process is gone; the message says how it ended."""


class _Unstarted(Exception):
    """There is no process; the message says why."""


class _Unblamed(Exception):
    """The process is gone, and this call has nothing to do with it."""


@dataclass(eq=False)
class _Call:
    """What a process was asked."""

    deadline_s: float
    answer: asyncio.Future[dict[str, Any]]
    timer: asyncio.TimerHandle | None = None
    """Runs from when the process may have begun with the call; before, nobody is late."""


class _Process(asyncio.Protocol):
    """One process, and the calls that it has not answered.

    What it is asked in one turn of the event loop goes in one message. It begins with calls in
    their order, `threads` at a time, and answers each as soon as it can.
    """

    def __init__(self, threads: int, memory_mb: int) -> None:
        """Raises: _Unstarted: there is none."""
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        arguments = (os.getpid(), threads, memory_mb)
        with theirs:
            try:
                self._process = start_process(environment_worker.__name__, theirs, arguments)
            except OSError as error:  # no memory, or no more processes or files, for now
                self._ours.close()
                raise _Unstarted(error.strerror or str(error)) from error
        self._threads = threads
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[_Call] = deque()
        """Of these those that it cannot have begun with."""
        self._numbers = itertools.count()
        self._unsent: list[bytes] = []
        self._received = bytearray()
        self._lost: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self.killed = False
        """By us, for one of its calls: the others are not to blame."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        return self.killed or self._lost is not None

    async def load(self, spec: str, deadline_s: float) -> None:
        """Have it make the environment.

        Raises:
            _Unstarted: there is none.
        """
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, sock=self._ours)
        watch, problem = StartWatch(self.pid), ""
        ready = self.ask({"environment": spec, "deadline_s": deadline_s}, inf)
        while not (await asyncio.wait({ready}, timeout=LOOK_S))[0]:
            if not problem and (problem := watch.problem()):
                self.kill()
        try:
            answer = ready.result()
        except (_Ended, _Unblamed) as error:
            raise _Unstarted(problem or str(error) or "killed") from error
        if "failure" in answer:
            self.kill()
            raise _Unstarted(answer["failure"])

    def ask(self, message: dict[str, Any], deadline_s: float) -> asyncio.Future[dict[str, Any]]:
        """The answer, once it is there. Raises:

        TimeoutError: it took longer than the deadline, and the process is killed.
        _Ended: it ended before it answered, by itself, and may have begun with the call.
        _Unblamed: it ended for another's sake, or before it had begun with the call.
        """
        loop = asyncio.get_running_loop()
        call, number = _Call(deadline_s, loop.create_future()), next(self._numbers)
        if self.gone:
            early = _Unblamed() if self.killed else _Ended("before the call")
            call.answer.set_exception(early)
            return call.answer
        if not self._unsent:
            loop.call_soon(self._send)  # behind everybody who is about to ask in this turn
        self._calls[number] = call
        self._waiting.append(call)
        self._unsent.append(json.dumps({"call": number, **message}).encode())
        return call.answer

    def _send(self) -> None:
        self._transport.write(b"\n".join([*self._unsent, b""]))
        self._unsent = []
        self._begin()

    def _begin(self) -> None:
        """Start the clocks of the calls that it may have begun with."""
        loop = asyncio.get_running_loop()
        begun = len(self._calls) - len(self._waiting)
        for _ in range(min(self._threads - begun, len(self._waiting))):
            call = self._waiting.popleft()
            call.timer = loop.call_later(call.deadline_s, self._late, call)

    def _late(self, call: _Call) -> None:
        self.kill()
        if not call.answer.done():
            call.answer.set_exception(TimeoutError())

    def data_received(self, data: bytes) -> None:
        # Here, and not in a task: what has arrived before a deadline is seen before it.
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        try:
            for line in lines:
                self._answered(json.loads(line))
            assert len(self._received) < 1 << 24
        except (ValueError, KeyError, AssertionError):  # no answer of ours: the same as its end
            self._transport.abort()
        else:
            self._begin()

    def _answered(self, answer: dict[str, Any]) -> None:
        call = self._calls.pop(answer.pop("call"))
        if call.timer is None:  # sooner than we knew: it had answered one that we have yet to read
            self._waiting.remove(call)
        else:
            call.timer.cancel()
        if not call.answer.done():  # nobody waits any more
            call.answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = asyncio.create_task(self._end_of_calls())
        self._closed.set()

    async def _end_of_calls(self) -> None:
        if not self.killed:
            await asyncio.to_thread(exited, self._process.pid, GRACE_S)
        how = self._end()
        for call in self._calls.values():
            if call.timer is not None:
                call.timer.cancel()
            if not call.answer.done():
                blamed = call.timer is not None and not self.killed
                call.answer.set_exception(_Ended(how) if blamed else _Unblamed())
        self._calls.clear()

    def kill(self) -> None:
        self.killed = True
        self._end()

    def _end(self) -> str:
        """End it, if it has not ended, and all it started; says how it ended."""
        if self._process.returncode is None:  # not yet reaped: the id is still this process's
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    async def close(self) -> None:
        self.kill()
        if not hasattr(self, "_transport"):
            self._ours.close()
            return
        self._transport.abort()
        await self._closed.wait()
        assert self._lost is not None
        await self._lost


class _Slot:
    """A process and its successors."""

    def __init__(self, pool: EnvironmentPool) -> None:
        self._pool = pool
        self._starting: asyncio.Task[_Process] | None = None
        self.process: _Process | None = None

    async def alive(self) -> _Process:
        """The living process, started where there is none.

        Raises:
            _Unstarted: it does not start, which all who wait for it hear.
        """
        if self.process is not None and not self.process.gone:
            return self.process
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Process:
        try:
            if self.process is not None:
                await self.process.close()
            self.process = await self._pool.new_process()
            return self.process
        finally:
            self._starting = None

    async def close(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self.process is not None:
            await self.process.close()


class EnvironmentPool:
    """Answers actions in `processes` processes, `threads` episodes of each at a time.

    All that waits for a process at a moment goes to it in one message, and comes back one by one.
    An answer that takes longer than `deadline_s` (for every action that is replayed; not while it
    waits for others) is a Failure('timeout'), and its process is killed; one that raises, or whose
    process ends twice, is a Failure('crashed'); one that is no valid observation a
    Failure('bad_observation'). The others of that process are asked again and their episodes
    replayed; where the environment cannot be replayed they are a Failure('environment_lost'). Where
    no process starts, all that waits for it is a Failure('crashed'). The processes die with this
    one. Everything is called from one event loop.

    Raises:
        ValueError: a bound is too small, or the environment is not one that another process can
            build.
    """

    process = _Process

    def __init__(
        self,
        environment: Environment,
        *,
        processes: int = 1,
        threads: int = 16,
        deadline_s: float = 5.0,
        memory_mb: int = 4096,
    ) -> None:
        at_least("environment_pool.processes", processes, 1)
        at_least("environment_pool.threads", threads, 1)
        at_least("environment_pool.deadline_s", deadline_s, 0.01)
        self.answered_at = time.monotonic()
        """When the newest answer came."""
        self._spec = spec_of(environment, "environment")
        self.threads = threads
        self._deadline_s = deadline_s
        self._memory_mb = memory_mb
        self._slots = [_Slot(self) for _ in range(processes)]
        self._suspects = _Slot(self)
        """Where calls go that were open when a process ended by itself: one at a time, so that the
        one that ends its process is found and takes no other with it."""
        self._alone = asyncio.Lock()

    async def observe(self, history: History) -> Observation | Failure:
        """The answer to the history's last action."""
        try:
            return await self._within(self._slot(history), history)
        except _Unstarted as error:
            return _unstarted(error)
        except _Ended:
            pass
        async with self._alone:
            try:
                return await self._within(self._suspects, history)
            except _Unstarted as error:
                return _unstarted(error)
            except _Ended as error:
                detail = f"the environment's process ended: {error}"
                return Failure(reason="crashed", detail=detail)

    async def _within(self, slot: _Slot, history: History) -> Observation | Failure:
        """Raises: _Ended, _Unstarted."""
        deadline = self._deadline_s * len(history.actions)
        while True:
            process = await slot.alive()
            try:
                answer = await process.ask(_message(history), deadline)
                self.answered_at = time.monotonic()
            except TimeoutError:
                self.answered_at = time.monotonic()
                detail = f"no observation within {deadline:g} s"
                return Failure(reason="timeout", detail=detail)
            except _Unblamed:
                continue
            if "failure" in answer:
                return Failure(reason=answer["failure"], detail=answer["detail"])
            return Observation(**answer)

    async def leave(self, history: History) -> None:
        """Let go of an episode that is not done. One whose `close` takes longer than `deadline_s`
        ends its process."""
        message = {"episode": history.episode_id, "leave": True}
        for slot in (self._slot(history), self._suspects):
            if slot.process is not None and not slot.process.gone:
                with suppress(TimeoutError, _Ended, _Unblamed):  # it is gone, and the episode
                    await slot.process.ask(message, self._deadline_s)

    def _slot(self, history: History) -> _Slot:
        name = history.affinity or history.episode_id
        return self._slots[zlib.crc32(name.encode()) % len(self._slots)]

    async def new_process(self) -> _Process:
        process = self.process(self.threads, self._memory_mb)
        await process.load(self._spec, self._deadline_s)
        return process

    def pids(self) -> list[int]:
        """Process ids of the living processes."""
        found = [slot.process for slot in (*self._slots, self._suspects)]
        return [process.pid for process in found if process is not None and not process.gone]

    async def close(self) -> None:
        """End every process; what is still asked becomes a failure."""
        for slot in (*self._slots, self._suspects):
            await slot.close()


def _unstarted(error: _Unstarted) -> Failure:
    return Failure(reason="crashed", detail=f"the environment's process does not start: {error}")


def _message(history: History) -> dict[str, Any]:
    prompt = history.prompt
    return {
        "episode": history.episode_id,
        "prompt": {
            "prompt_id": prompt.prompt_id,
            "token_ids": prompt.token_ids.tolist(),
            "text": prompt.text,
            "answer": prompt.answer,
            "meta": dict(prompt.meta),
        },
        "seed": history.seed,
        "actions": [[action.text, list(action.token_ids)] for action in history.actions],
    }
