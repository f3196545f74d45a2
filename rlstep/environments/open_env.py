"""Environments of an OpenEnv server, over its WebSocket (openenv 0.10)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import aiohttp

from rlstep.interfaces import Environment, Episode
from rlstep.scoring.processes.http_call import check_url
from rlstep.types import Action, Observation, Prompt

_LARGEST = 1 << 20
"""Bytes of a message; a longer one ends the conversation as a failure."""
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
    it, and is a Failure.

    A reset is sent the prompt's meta `reset`, an object of what the environment's own `reset`
    takes (`{"seed": 3}`, `{"split": "train", "index": 7}`): the policy has read the prompt by then,
    and what the reset shows is not read again.
    """

    url: str
    """Of the server, as for its own client: http://host:8000."""
    action: str = ""
    """The field of the action that a turn's text is, without the spaces around it; '' if the turn
    is to be the whole action, a JSON object. What is none, or has not the fields of an action, is
    told the policy as 'error: ...' and counted ('broken_actions'), and it may try again."""
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
        self._loop = asyncio.new_event_loop()
        try:
            self._run(self._open(arguments))
        except BaseException:
            self.close()
            raise

    def observe(self, action: Action) -> Observation:
        asked = self._environment
        said = action.text.strip()
        data: Any = {asked.action: said} if asked.action else _parsed(said)
        if not isinstance(data, dict):
            return _broken("no JSON object")
        try:
            seen = self._run(self._ask("step", data))
        except OpenEnvError as error:
            if str(error).startswith("VALIDATION_ERROR"):
                return _broken(str(error).partition("\n")[0])
            raise
        reward, done = seen.get("reward"), seen.get("done", False)
        reward = 0.0 if reward is None else reward
        return Observation(
            text=self._text(seen.get("observation", {})),
            reward=reward,
            done=done,
            success=reward >= asked.wins if done and asked.wins is not None else None,
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
        if not self._loop.is_closed():
            self._run(self._leave())
            self._loop.close()

    _http: aiohttp.ClientSession | None = None
    _socket: aiohttp.ClientWebSocketResponse | None = None

    async def _open(self, arguments: dict[str, Any]) -> None:
        self._http = aiohttp.ClientSession()
        address = f"{self._environment.url.rstrip('/')}/ws"
        self._socket = await self._http.ws_connect(address, max_msg_size=_LARGEST)
        await self._ask("reset", arguments)

    async def _ask(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        assert self._socket is not None
        await self._socket.send_json({"type": kind, "data": data})
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            what = message.extra or message.data
            raise ConnectionError(f"the server ended the session after {kind!r}: {what}")
        answer = json.loads(message.data)
        if answer["type"] == "error":
            told = answer["data"]
            raise OpenEnvError(f"{told.get('code')}: {told.get('message')}")
        return answer["data"]

    async def _leave(self) -> None:
        if self._socket is not None:
            if not self._socket.closed:
                await self._socket.send_json({"type": "close"})
            await self._socket.close()
        if self._http is not None:
            await self._http.close()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(work)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _broken(why: str) -> Observation:
    return Observation(text=f"error: {why}", counts={"broken_actions": 1.0})
