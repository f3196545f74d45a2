"""The messages of an environment server of verifiers (0.4): ZeroMQ and msgpack, nothing of it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any


class EpisodeError(Exception):
    """The server did not play an episode to its end; says why."""


class EpisodeWire:
    """The server's messages: [request id, kind, msgpack], many requests at the same time.

    Raises of every request, once the server is gone: ConnectionError.
    """

    def __init__(self, address: str) -> None:
        import zmq
        import zmq.asyncio

        self._address = address
        self._zmq = zmq.asyncio.Context()
        self._socket = self._zmq.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 1000)  # milliseconds, for what is cancelled at the end
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            self._socket.setsockopt(option, 0)
        gone = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
        self._monitor = self._socket.get_monitor_socket(gone)
        self._socket.connect(address)
        self._numbers = itertools.count()
        self._asked: dict[bytes, tuple[asyncio.Future[dict[str, Any]], dict[str, Any]]] = {}
        """By id, with the traces as far as they are told."""
        self._gone = False
        self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._watch())]

    async def run(self, episode: dict[str, Any]) -> list[dict[str, Any]]:
        """The traces of an episode that was played to its end. Cancelled here, it is so there.

        Raises:
            EpisodeError: it was not.
        """
        if self._gone:
            raise ConnectionError(f"no server of verifiers at {self._address}")
        name = f"episode/{next(self._numbers)}".encode()
        future = asyncio.get_running_loop().create_future()
        traces: dict[str, Any] = {}
        self._asked[name] = future, traces
        try:
            await self._send(name, b"run", episode)
            reply = await future
        except asyncio.CancelledError:
            await self._send(name + b"/cancel", b"cancel", {"request_id": name.decode()})
            raise
        finally:
            del self._asked[name]
        if not reply["success"]:
            raise EpisodeError(str(reply["error"]))
        head = reply["head"]
        if not head["ok"]:
            errors = [*head["errors"], *(e for t in traces.values() for e in t.get("errors", ()))]
            said = "; ".join(f"{error['type']}: {error['message']}" for error in errors)
            raise EpisodeError(said or "the episode is not ok")
        return [traces[summary["id"]] for summary in reply["traces"]]

    async def _send(self, name: bytes, kind: bytes, data: dict[str, Any]) -> None:
        import msgpack

        await self._socket.send_multipart([name, kind, msgpack.packb(data)])

    async def _listen(self) -> None:
        import msgpack

        while True:
            name, kind, data = await self._socket.recv_multipart()
            future, traces = self._asked.get(name, (None, {}))
            if future is None or future.done():
                continue
            told = msgpack.unpackb(data, strict_map_key=False)
            if kind == b"delta":
                _grow(traces, told)
            else:
                future.set_result(told)

    async def _watch(self) -> None:
        await self._monitor.recv_multipart()
        self._gone = True
        for future, _ in self._asked.values():
            if not future.done():
                error = f"the server of verifiers at {self._address} is gone"
                future.set_exception(ConnectionError(error))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        self._zmq.term()  # waits for every socket's end


def _grow(traces: dict[str, Any], delta: dict[str, Any]) -> None:
    """Take over what is new of a trace: its nodes and errors, and fields that are sent whole."""
    if delta.get("discard"):
        traces.pop(delta["trace"], None)
        return
    trace = traces.setdefault(delta["trace"], {"id": delta["trace"], "nodes": [], "errors": []})
    trace["nodes"] += delta.get("nodes", ())
    trace["errors"] += delta.get("errors", ())
    trace.update(delta.get("set", {}))
