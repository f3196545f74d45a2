"""The process in which episodes run, started by `EnvironmentPool` and killed by it at will.

    python -m rlstep.scoring.processes.environment_worker SOCKET_FD PARENT_PID THREADS MEMORY_MB

Both directions are JSON lines. In: first the environment's spec, then calls, each with a number,
the episode's id and either its history or {"leave": true}. Out: first {} once the environment is
there, then one answer a call, as soon as it is known: the observation, or {"failure", "detail"}.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from rlstep.interfaces import Environment, Episode
from rlstep.plugins import described
from rlstep.scoring.processes.confined import confine, decode
from rlstep.types import Action, Observation, Prompt

LONGEST = 100_000
"""Characters of an observation; a longer one is a failure."""


class Episodes:
    """Every episode of this process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._live: dict[str, tuple[Episode, int]] = {}
        """By id, with the number of its actions."""

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """What a call is answered; calls of one episode come one after the other."""
        try:
            if "leave" in call:
                self._close(call["episode"])
                return {}
            return self._observe(call["episode"], call)
        except Exception as error:
            self._live.pop(call["episode"], None)
            return {"failure": "crashed", "detail": described(error, self._environment)}

    def _observe(self, name: str, call: dict[str, Any]) -> dict[str, Any]:
        actions = call["actions"]
        if self._live.get(name, (None, 0))[1] != len(actions) - 1:
            self._close(name)
        if name not in self._live:
            if len(actions) > 1 and not self._environment.replays:
                return {"failure": "environment_lost", "detail": "its process was replaced"}
            episode = self._environment.reset(_prompt(call["prompt"]), call["seed"])
            self._live[name] = (episode, 0)
        episode, taken = self._live[name]
        observation = None
        for text, ids in actions[taken:]:
            observation = episode.observe(Action(text=text, token_ids=tuple(ids)))
        self._live[name] = (episode, len(actions))
        if fault := _fault(observation):
            self._close(name)
            return {"failure": "bad_observation", "detail": fault}
        assert isinstance(observation, Observation)
        if observation.done:
            self._close(name)
        return {
            "text": observation.text,
            "reward": float(observation.reward),
            "done": observation.done,
            "success": observation.success,
        }

    def _close(self, name: str) -> None:
        episode, _ = self._live.pop(name, (None, 0))
        if episode is not None:
            episode.close()


def _prompt(given: dict[str, Any]) -> Prompt:
    return Prompt(**{**given, "token_ids": np.array(given["token_ids"], dtype=np.int32)})


def _fault(observation: Any) -> str:
    """What is wrong with an observation, '' if nothing is."""
    if not isinstance(observation, Observation):
        return f"observe returned {type(observation).__name__}, not Observation"
    text, reward = observation.text, observation.reward
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, not a string"
    if len(text) > LONGEST:
        return f"text has {len(text)} characters; the most are {LONGEST}"
    number = isinstance(reward, int | float | np.number) and not isinstance(reward, bool)
    if not number or not math.isfinite(reward):
        return f"reward is {str(reward)[:60]} ({type(reward).__name__}), not a finite number"
    if not isinstance(observation.done, bool):
        return f"done is {type(observation.done).__name__}, not True or False"
    if not (observation.success is None or isinstance(observation.success, bool)):
        return f"success is {type(observation.success).__name__}, not True, False or None"
    return ""


def main(arguments: list[str]) -> None:
    descriptor, parent, threads, memory_mb = map(int, arguments)
    confine(parent, memory_mb)
    connection = socket.socket(fileno=descriptor)
    lines, sending = connection.makefile("rb"), threading.Lock()

    def reply(message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with sending, contextlib.suppress(ConnectionError):  # the pool is gone
            connection.sendall(line)

    try:
        environment = decode(json.loads(lines.readline()))
        environment.check()
    except Exception as error:
        reply({"failure": f"{type(error).__name__}: {error}"})
        return
    reply({})
    episodes = Episodes(environment)

    def serve(call: dict[str, Any]) -> None:
        reply({"call": call["call"], **episodes.answer(call)})

    with ThreadPoolExecutor(threads) as pool, contextlib.suppress(ConnectionError):
        for line in lines:
            pool.submit(serve, json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1:])
