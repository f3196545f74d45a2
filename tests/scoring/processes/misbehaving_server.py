"""A real HTTP server that does what a service must not, as the test tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[[asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]
"""Answers one request, given its decoded body."""


async def respond(
    writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", headers: str = ""
) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def says(text: str) -> Reply:
    """This body, whatever is asked."""
    return lambda writer, _: respond(writer, text.encode())


def status(line: str, headers: str = "") -> Reply:
    return lambda writer, _: respond(writer, b"no", line, headers)


async def scores(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """The length of each completion over 100: a service that works."""
    values = [len(item["completion"]) / 100 for item in body["items"]]
    await respond(writer, json.dumps({"scores": values}).encode())


async def hang(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """A byte at a time for ever, each within any pause between bytes that is allowed."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def truncate(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"scores": [0.')
    await writer.drain()


async def break_off(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """No word, and the connection ends."""


async def garbage(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(b"\x00\xff no HTTP at all\r\n\r\n")
    await writer.drain()


@dataclass
class Server:
    """Replies by turns, the last one for ever; one request a connection."""

    replies: Sequence[Reply]
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the requests, in order."""
    headers: list[str] = field(default_factory=list)
    port: int = 0
    """0 until it is started; then it is started on that one again."""
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/score"

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.headers.append(head)
            size = next(
                int(line.split(":")[1])
                for line in head.splitlines()
                if line.lower().startswith("content-length:")
            )
            body = json.loads(await reader.readexactly(size))
            turn = min(len(self.asked), len(self.replies) - 1)
            self.asked.append(body)
            await self.replies[turn](writer, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, which is its right
        finally:
            self._open.discard(task)
            writer.close()
