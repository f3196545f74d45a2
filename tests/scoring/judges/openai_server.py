"""A real HTTP server on this machine with the OpenAI response shape, and with bad days."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any
    reader: asyncio.StreamReader
    """Ends when the other side leaves."""

    @property
    def text(self) -> str:
        """What the user says."""
        return self.body["messages"][0]["content"]


Respond = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def completion(text: str | None, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return json.dumps({"id": "c", "choices": [{**choice, "finish_reason": finish}]}).encode()


def response(status: int, body: bytes, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answering(text: str | None, finish: str = "stop") -> Respond:
    return sending(response(200, completion(text, finish)))


def failing(status: int, body: bytes = b"no", **headers: str) -> Respond:
    return sending(response(status, body, **headers))


def sending(data: bytes) -> Respond:
    """These bytes, and the end of the connection."""

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return respond


async def hanging(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Nothing, until the other side leaves."""
    await asked.reader.read()


async def dripping(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A good answer, a byte at a time: never silent for long, never done in time."""
    for byte in response(200, completion("Verdict: YES")):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


@dataclass
class Server:
    """Answers the first request by the first response, and so on; the last one goes on for ever."""

    responses: list[Respond]
    asked: list[Asked] = field(default_factory=list)
    open: int = 0
    """Requests that are being answered."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()  # the other side left
            return
        respond = self.responses[min(len(self.asked), len(self.responses) - 1)]
        self.asked.append(asked)
        self.open += 1
        try:
            await respond(asked, writer)
            await writer.drain()
        except ConnectionError:
            return  # the other side left
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return Asked(start.split(" ")[1], headers, json.loads(body), reader)


@asynccontextmanager
async def serving(*responses: Respond) -> AsyncIterator[Server]:
    server = Server(list(responses))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()
