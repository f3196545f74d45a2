"""Environments of an OpenEnv server, over its WebSocket (openenv 0.10)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import aiohttp

from rlstep.interfaces import Environment, Episode
from rlstep.scoring.processes.http_call import check_url
from rlstep.types import Action, Observation, Prompt

_LARGEST = 1 << 20
"""Bytes of a message; a longer one ends the conversation as a failure."""
_LEAVE_S = 2.0
"""How long a server may take to end a session that is left, and to say so."""
_T = TypeVar("_T")


class OpenEnvError(Exception):
    """The server refused a message; says its code and its words."""


@dataclass(frozen=True, kw_only=True)
class OpenEnv(Environment):
    """A turn is a step of the server's environment, and the step's own reward the turn's.

    The conversation is a session of the server: {"type": "reset", "data": ...} and then one
    {"type": "step", "data": ...} a turn, each answered by an observation, a reward and whether it
    is done. No package of the environment is needed here, and none of its code runs. The server
    must allow as many sessions as conversations are under way
    (`create_app(..., max_concurrent_envs=...)`, 1 if it does not say); one too many is refused by
    it, and is a Failure. Its pings are answered however long the policy takes for a turn.

    A step without a reward pays 0, and is counted ('unpaid'): that is also what such a server makes
    of a reward that is no finite number.

    A reset is sent the prompt's meta `reset`, an object of what the environment's own `reset`
    takes (`{"seed": 3}`, `{"split": "train", "index": 7}`; the server drops what it does not take,
    and says nothing): the policy has read the prompt by then, and what the reset shows is not read
    again.
    """

    url: str
    """Of the server, as for its own client: http://host:8000."""
    action: str = ""
    """The field of the action that a turn's text is, without the spaces around it; '' if the turn
    is to be the whole action, a JSON object. What is none, or has not the fields of an action, is
    told the policy as 'error: ...' and counted ('broken_actions'), and it may try again; an action
    that a validator of the environment's own refuses ends the session (openenv 0.10), which is a
    Failure."""
    text: str = ""
    """The field of the observation that the policy reads; '' gives it the whole observation, as
    JSON."""
    deterministic: bool = False
    """Whether the same reset and actions lead to the same observations, which the server cannot
    say; see `Environment.replays`."""
    wins: float | None = None
    """A conversation that is done with this reward or more in its last turn is right, any other is
    wrong; None leaves that to the run's verifier, which reads the last turn."""

    def __post_init__(self) -> None:
        check_url("environment.url", self.url)
        if self.wins is not None and not isfinite(self.wins):
            raise ValueError(f"environment.wins is {self.wins}; it must be a finite number or None")

    @property
    def replays(self) -> bool:  # type: ignore[override]  # the server knows, and does not say
        return self.deterministic

    @property
    def decides(self) -> bool:  # type: ignore[override]
        return self.wins is not None

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        """`seed` is not used: what is random about an episode is the prompt's meta `reset`.

        Raises:
            ValueError: `reset` is no object.
            OSError: the server cannot be reached.
            OpenEnvError: it refuses.
        """
        arguments = prompt.meta.get("reset", {})
        if not isinstance(arguments, dict):
            raise ValueError(f"meta 'reset' is {arguments!r}; it must be an object")
        return _Session(self, arguments)


class _Session(Episode):
    """One WebSocket. Its calls come one after the other, from whichever thread."""

    def __init__(self, environment: OpenEnv, arguments: dict[str, Any]) -> None:
        self._environment = environment
        try:
            _run(self._open(arguments))
        except BaseException:
            self.close()
            raise

    def observe(self, action: Action) -> Observation:
        asked = self._environment
        said = action.text.strip()
        data = {asked.action: said} if asked.action else _parsed(said)
        if data is None:
            return _broken("no JSON object")
        try:
            seen = _run(self._ask("step", data))
        except _Refused as error:
            return _broken(str(error))
        paid, done = seen.get("reward"), seen.get("done", False)
        # The wire has booleans for rewards, too. What else it may be is the pool's to refuse.
        reward = float(paid or 0) if paid is None or isinstance(paid, bool) else paid
        return Observation(
            text=self._text(seen.get("observation", {})),
            reward=reward,
            done=done,
            success=reward >= asked.wins if done and asked.wins is not None else None,
            counts={"unpaid": 1.0} if paid is None else {},
        )

    def _text(self, observation: dict[str, Any]) -> str:
        name = self._environment.text
        if not name:
            return json.dumps(observation, ensure_ascii=False)
        if name not in observation:
            raise KeyError(f"the observation has no {name!r}; it has {sorted(observation)}")
        shown = observation[name]
        return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)

    def close(self) -> None:
        _run(self._leave())

    _http: aiohttp.ClientSession | None = None
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _next: asyncio.Task[aiohttp.WSMessage]
    """What the server says next. That somebody waits for it is also what answers its pings; what
    ended the session stays the answer to all that is asked later."""

    async def _open(self, arguments: dict[str, Any]) -> None:
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(
            f"{self._environment.url.rstrip('/')}/ws",
            max_msg_size=_LARGEST,
            timeout=aiohttp.ClientWSTimeout(ws_close=_LEAVE_S),  # type: ignore[call-arg]  # attrs
        )
        self._next = asyncio.create_task(self._socket.receive())
        try:
            await self._ask("reset", arguments)
        except _Refused as error:
            raise OpenEnvError(f"VALIDATION_ERROR: {error}") from error

    async def _ask(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Raises: _Refused, OpenEnvError, ConnectionError."""
        assert self._socket is not None
        with suppress(ConnectionError):  # it ended the session, and has said why
            await self._socket.send_json({"type": kind, "data": data})
        message = await self._next
        if message.type is not aiohttp.WSMsgType.TEXT:
            what = message.extra or message.data
            raise ConnectionError(f"the server ended the session after {kind!r}: {what}")
        self._next = asyncio.create_task(self._socket.receive())
        answer = json.loads(message.data)
        if answer["type"] != "error":
            return answer["data"]
        told = answer["data"]
        if told.get("code") == "VALIDATION_ERROR":
            raise _Refused(_reasons(told))
        raise OpenEnvError(f"{told.get('code')}: {told.get('message')}")

    async def _leave(self) -> None:
        if self._socket is not None:
            with suppress(ConnectionError):  # it is over already
                await self._socket.send_json({"type": "close"})
            # Until it has let go of the session another one may be one too many.
            await asyncio.wait({self._next}, timeout=_LEAVE_S)
            await self._socket.close()
            await asyncio.wait({self._next})
        if self._http is not None:
            await self._http.close()


class _Refused(Exception):
    """An action is none of the environment's; says why."""


_THREAD = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """In the loop of all sessions of this process, which runs while nobody asks, too: a server ends
    a session that leaves its pings unanswered."""
    global _loop
    with _THREAD:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="openenv", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(work, _loop).result()


def _parsed(text: str) -> dict[str, Any] | None:
    """A JSON object, unless there is something in it that is no JSON, or no text."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reasons(told: dict[str, Any]) -> str:
    """What is wrong with an action, by its fields, in one line."""
    faults = [
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in told.get("errors", ())
    ]
    return "; ".join(faults or [str(told.get("message"))]).partition("\n")[0]


def _broken(why: str) -> Observation:
    return Observation(text=f"error: {why}", counts={"broken_actions": 1.0})
