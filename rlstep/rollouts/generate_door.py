"""A door to the generators for programs that sample for themselves: token ids in and out."""

from __future__ import annotations

import hmac
import itertools
import os
import socket
from typing import Any

import numpy as np
from aiohttp import web

from rlstep.checks import between
from rlstep.interfaces import GenerateRole
from rlstep.rollouts.requests import request_seed
from rlstep.types import Completion, Failure, Request, Sampling

TOKEN_VARIABLE = "RLSTEP_DOOR_TOKEN"
_SHORTEST_TOKEN = 16
_LARGEST = 16 << 20
"""Bytes of a request."""

_NUMBERS = ("max_tokens", "min_tokens", "temperature", "top_p", "top_k")
_ALWAYS = {
    "stream": (False,),
    "logprobs": (0, 1),
    "skip_special_tokens": (True, False),
    "detokenize": (True, False),
    "include_stop_str_in_output": (True,),
    "ignore_eos": (False,),
    "repetition_penalty": (1.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "min_p": (0.0,),
}
"""What vLLM has beside ours, at the values that change nothing of a completion."""
_UNREAD = ("routed_experts_prompt_start",)
"""From where on something is wanted that is never answered."""


class GenerateDoor:
    """POST /inference/v1/generate on the loopback, as vLLM (0.32) serves it, before the role.

    What comes through the door is a request of the role like any other: it is written with the
    weights that the role serves, waits while they change and goes on with the new ones, survives a
    lost replica, and says which version wrote which token ('weight_versions').

    A request is a JSON object with the prefix ('token_ids') and 'sampling_params'. What the role
    cannot do is refused by name. 'max_tokens' is the rest of the context where it is not said, and
    'seed' is drawn. Requests with the same X-Session-ID find each other's prefix cache. A choice
    has 'token_ids', 'finish_reason', 'stop_reason' and for each token an entry of
    'logprobs.content': 'token_id', as vLLM 0.32 has it, the same as 'token' ('token_id:5'), as
    renderers 0.1 reads it, and 'logprob', in nats.

    Every request carries `Authorization: Bearer TOKEN`, or is refused (401). What the role fails is
    no completion: 400 for a prefix that it rejects, 503 for anything else. A client that leaves
    ends its request.

    Args:
        generator: the role; it is asked in the event loop that opened the door.
        token: what clients must know.
        context: most tokens of a prefix and its completion together.
        seed: the run's.
        port: on 127.0.0.1; 0 takes a free one.
    """

    def __init__(
        self, generator: GenerateRole, token: str, *, context: int, seed: int, port: int = 0
    ) -> None:
        self._generator = generator
        self._token = token
        self._context = context
        self._seed = seed
        self._port = port
        self._numbers = itertools.count()

    async def open(self) -> str:
        """Its address, 'http://127.0.0.1:8100'.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/inference/v1/generate", self._serve)
        listening = socket.create_server(("127.0.0.1", self._port))
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        host, port = listening.getsockname()
        return f"http://{host}:{port}"

    async def close(self) -> None:
        """What is still asked is not answered any more."""
        await self._runner.cleanup()

    async def _serve(self, http: web.Request) -> web.Response:
        offered = http.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(offered, f"Bearer {self._token}".encode()):
            return _refused(401, "the door's token is missing, or another one")
        try:
            request = self._request(await http.json(), http.headers.get("X-Session-ID", ""))
        except (TypeError, ValueError, RecursionError) as error:
            return _refused(400, str(error))
        [(_, answer)] = [item async for item in self._generator.generate([request])]
        if isinstance(answer, Failure):
            status = 400 if answer.reason == "rejected" else 503
            return _refused(status, f"{answer.reason}: {answer.detail}")
        choices = [_choice(index, completion) for index, completion in enumerate(answer)]
        return web.json_response({"request_id": request.request_id, "choices": choices})

    def _request(self, body: Any, session: str) -> Request:
        """Raises: TypeError, ValueError: naming the field."""
        ids, asked = _object("the request", body).get("token_ids"), body.get("sampling_params", {})
        if not isinstance(ids, list) or not ids:
            raise ValueError("token_ids must be a list of at least one token id")
        for number in ids:
            _whole("token_ids", number, 0, 2**31 - 1)
        _only("stream", body.get("stream"))
        if (left := self._context - len(ids)) < 1:
            raise ValueError(
                f"token_ids has {len(ids)} tokens, and the context length is {self._context}, of"
                " which at least one token is sampled"
            )
        given = {k: v for k, v in _object("sampling_params", asked).items() if v is not None}
        name = f"door/{next(self._numbers)}"
        return Request(
            request_id=name,
            prefix_ids=np.array(ids, dtype=np.int32),
            n=_whole("sampling_params.n", given.pop("n", 1), 1, 1024),
            seed=_whole(
                "sampling_params.seed",
                given.pop("seed", request_seed(self._seed, name)),
                0,
                2**63 - 1025,  # a child's is its own
            ),
            sampling=_sampling(given, left),
            affinity=session,
        )


def door_token(port: int) -> str:
    """The token of a run's door, from the environment.

    Raises:
        ValueError: there is none, or it can be guessed; says which variable to set.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(
            f"generator.door_port is {port}, and {TOKEN_VARIABLE} in the environment has"
            f" {len(token)} characters; set it to a secret of at least {_SHORTEST_TOKEN}, or"
            " generator.door_port to 0"
        )
    return token


def check_door(port: int) -> None:
    """Refuse a door that could not be opened here.

    Raises:
        ValueError: no token, or the port is taken.
    """
    door_token(port)
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ValueError(
            f"generator.door_port is {port}, which cannot be had on 127.0.0.1:"
            f" {error.strerror}; choose another one"
        ) from error


def _sampling(given: dict[str, Any], left: int) -> Sampling:
    fields: dict[str, Any] = {"max_tokens": left}
    for name, value in given.items():
        if name in _NUMBERS:
            fields[name] = max(value, 0) if name == "top_k" else value  # vLLM's -1 takes all, too
        elif name == "stop":
            fields[name] = (value,) if isinstance(value, str) else _tuple(name, value, str)
        elif name == "stop_token_ids":
            fields[name] = _tuple(name, value, int)
        elif name in _ALWAYS:
            _only(name, value)
        elif name not in _UNREAD:
            known = sorted((*_NUMBERS, "stop", "stop_token_ids", "n", "seed", *_ALWAYS))
            raise ValueError(f"sampling_params.{name} is not known; known are {', '.join(known)}")
    for name in ("max_tokens", "min_tokens", "top_k"):
        if type(fields.get(name, 0)) is not int:
            raise TypeError(f"sampling_params.{name} is {fields[name]!r}; it must be whole")
    fields["max_tokens"] = min(fields["max_tokens"], left)
    return Sampling(**fields)


def _choice(index: int, completion: Completion) -> dict[str, Any]:
    ids, logprobs = completion.token_ids.tolist(), completion.logprobs.tolist()
    return {
        "index": index,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "token_ids": ids,
        "logprobs": {
            "content": [
                {"token_id": number, "token": f"token_id:{number}", "logprob": logprob}
                for number, logprob in zip(ids, logprobs, strict=True)
            ]
        },
        "weight_versions": [
            {"version": str(span.version), "start": span.start, "end": span.end}
            for span in completion.versions
        ],
    }


def _refused(status: int, why: str) -> web.Response:
    error = {"message": why, "type": "invalid_request_error" if status < 500 else "server_error"}
    return web.json_response({"error": {**error, "code": status}}, status=status)


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {type(value).__name__}; it must be a JSON object")
    return value


def _whole(name: str, value: Any, smallest: int, largest: int) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} is {value!r}; it must be a whole number")
    between(name, value, smallest, largest)
    return value


def _tuple(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    if not isinstance(value, list) or any(type(each) is not kind for each in value):
        raise TypeError(
            f"sampling_params.{name} is {value!r}; it must be a list of {kind.__name__}"
        )
    return tuple(value)


def _only(name: str, value: Any) -> None:
    if value is not None and value not in _ALWAYS[name]:
        raise ValueError(f"{name} is {value!r}; the door only knows {_ALWAYS[name][-1]!r}")
