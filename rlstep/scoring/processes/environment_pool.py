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
import zlib
from typing import Any

from rlstep.checks import at_least
from rlstep.interfaces import Environment
from rlstep.scoring.processes import environment_worker
from rlstep.scoring.processes.confined import GRACE_S, exited, spec_of, start_process
from rlstep.types import Failure, History, Observation

_START_S = 150.0
"""Longest time for a process to make its environment."""


class _Ended(Exception):
    """The process is gone; the message says how it ended."""


class _Process:
    """One process, and the calls that it has not answered."""

    def __init__(self, threads: int, memory_mb: int) -> None:
        """Raises: _Ended: there is none; says why."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        arguments = (os.getpid(), threads, memory_mb)
        with theirs:
            try:
                self._process = start_process(environment_worker.__name__, theirs, arguments)
            except OSError as error:  # no memory, or no more processes or files, for now
                ours.close()
                raise _Ended(error.strerror or str(error)) from error
        self._ours = ours
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self.killed = False
        """By us, for one of its calls: the others are not to blame."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        return self.killed or self._reading.done()

    async def load(self, spec: str) -> None:
        """Send the spec and wait for the environment.

        Raises:
            _Ended: there is none; says why.
        """
        self._reader, self._writer = await asyncio.open_connection(sock=self._ours, limit=1 << 24)
        self._writer.write(spec.encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._reader.readline(), _START_S)
        except (TimeoutError, ConnectionError) as error:
            self.kill()
            raise _Ended(f"not ready: {error or f'after {_START_S} s'}") from error
        if not line:
            await asyncio.to_thread(exited, self._process.pid, GRACE_S)
            raise _Ended(self._end())
        if "failure" in (answer := json.loads(line)):
            self.kill()
            raise _Ended(answer["failure"])
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = json.loads(line)
                future = self._calls.pop(answer.pop("call"), None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (ConnectionError, ValueError):
            pass  # the same as its end
        if not self.killed:
            await asyncio.to_thread(exited, self._process.pid, GRACE_S)
        ended = _Ended(self._end())
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ended)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises: _Ended: it ended, or was killed, before it answered."""
        if self.gone:
            raise _Ended("ended before the call")
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self._writer.write(json.dumps({"call": number, **message}).encode() + b"\n")
        try:
            return await answer
        finally:
            self._calls.pop(number, None)

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
        reading = getattr(self, "_reading", None)
        if reading is not None:
            await reading
        if hasattr(self, "_writer"):
            self._writer.close()
        else:
            self._ours.close()


class _Slot:
    """A process and its successors."""

    def __init__(self, pool: EnvironmentPool) -> None:
        self._pool = pool
        self._starting = asyncio.Lock()
        self.free = asyncio.Semaphore(pool.threads)
        self.process: _Process | None = None

    async def alive(self) -> _Process:
        """The living process, started where there is none."""
        async with self._starting:
            if self.process is None or self.process.gone:
                if self.process is not None:
                    await self.process.close()
                self.process = await self._pool.new_process()
            return self.process


class EnvironmentPool:
    """Answers actions in `processes` processes, `threads` episodes of each at a time.

    An answer that takes longer than `deadline_s` (for every action that is replayed) is a
    Failure('timeout'), and its process is killed; one that raises, or whose process ends twice, is
    a Failure('crashed'); one that is no valid observation a Failure('bad_observation'). The others
    of that process are asked again and their episodes replayed; where the environment cannot be
    replayed they are a Failure('environment_lost'). The processes die with this one. Everything is
    called from one event loop.

    Raises:
        ValueError: a bound is too small, or the environment is not one that another process can
            build.
    """

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
        slot = self._slot(history.episode_id)
        async with slot.free:
            try:
                return await self._within(slot, history)
            except _Ended:
                pass
        async with self._alone:
            try:
                return await self._within(self._suspects, history)
            except _Ended as error:
                detail = f"the environment's process ended: {error}"
                return Failure(reason="crashed", detail=detail)

    async def leave(self, episode_id: str) -> None:
        """Let go of an episode. One whose `close` takes longer than `deadline_s` ends its
        process."""
        for slot in (self._slot(episode_id), self._suspects):
            if slot.process is not None and not slot.process.gone:
                await self._let_go(slot, slot.process, episode_id)

    async def _let_go(self, slot: _Slot, process: _Process, episode_id: str) -> None:
        async with slot.free:
            asked = process.ask({"episode": episode_id, "leave": True})
            try:
                await asyncio.wait_for(asked, self._deadline_s)
            except TimeoutError:
                process.kill()  # its `close` hangs
            except _Ended:
                pass  # and the episode with it

    async def _within(self, slot: _Slot, history: History) -> Observation | Failure:
        """Raises: _Ended: the process ended by itself, or does not start."""
        deadline = self._deadline_s * len(history.actions)
        while True:
            process = await slot.alive()
            try:
                answer = await asyncio.wait_for(process.ask(_message(history)), deadline)
            except TimeoutError:
                process.kill()
                detail = f"no observation within {deadline:g} s"
                return Failure(reason="timeout", detail=detail)
            except _Ended:
                if not process.killed:
                    raise
                continue  # for another's sake
            if "failure" in answer:
                return Failure(reason=answer["failure"], detail=answer["detail"])
            return Observation(**answer)

    def _slot(self, episode_id: str) -> _Slot:
        return self._slots[zlib.crc32(episode_id.encode()) % len(self._slots)]

    async def new_process(self) -> _Process:
        process = _Process(self.threads, self._memory_mb)
        await process.load(self._spec)
        return process

    def pids(self) -> list[int]:
        """Process ids of the living processes."""
        found = [slot.process for slot in (*self._slots, self._suspects)]
        return [process.pid for process in found if process is not None and not process.gone]

    async def close(self) -> None:
        """End every process; what is still asked becomes a failure."""
        for slot in (*self._slots, self._suspects):
            if slot.process is not None:
                await slot.process.close()


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
