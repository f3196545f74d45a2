"""A real browser without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DEADLINE_S = 120.0
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --remote-debugging-port=0 --hide-scrollbars --disable-dev-shm-usage"
)


class Page:
    """One page, and everything that it complained about or asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number, self._session = socket, 0, ""
        self.complaints: list[str] = []
        """Exceptions, and what the console or the browser's log got as a warning or an error."""
        self.requests: list[str] = []
        self._events: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(
            message | ({"sessionId": self._session} if self._session else {})
        )
        while True:
            answer = await self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def open(self, file: Path, width: int, *, dark: bool = False) -> None:
        """Load a file in a window of this width, in CSS pixels, and wait until it is loaded."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        await self.call("Page.navigate", url=file.as_uri())
        while "Page.loadEventFired" not in self._events:
            await self._receive()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Of the whole page, or of what the window shows."""
        taken = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(b64decode(taken["data"]))

    async def _receive(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self._socket.receive(), DEADLINE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, f"the browser went away: {message}"
        event = json.loads(message.data)
        self._note(event.get("method", ""), event.get("params", {}))
        return event

    def _note(self, method: str, event: dict[str, Any]) -> None:
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(event["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{event['entry']['level']}: {event['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{event['type']}: {event['args']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])


@asynccontextmanager
async def browser_page(profile: Path) -> AsyncIterator[Page]:
    """A page of a fresh browser, gone with the block.

    Args:
        profile: an empty folder that the browser may fill.
    """
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS.split(), f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        address = await asyncio.wait_for(_address(process), DEADLINE_S)
        assert process.stderr is not None
        drained = asyncio.create_task(_drain(process.stderr))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            page = Page(socket)
            await page.attach()
            yield page
            page._session = ""
            await page.call("Browser.close")
            await drained
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where the browser listens, which it says on its error output."""
    assert process.stderr is not None
    said = []
    while line := (await process.stderr.readline()).decode(errors="replace"):
        said.append(line.strip())
        if line.startswith("DevTools listening on "):
            return line.strip().removeprefix("DevTools listening on ")
    raise RuntimeError(f"the browser ended before it listened: {said}")


async def _drain(stream: asyncio.StreamReader) -> None:
    """What nobody reads would fill the pipe and stop the browser."""
    while await stream.read(1 << 16):
        pass
