"""The process in which episodes run, started by `EnvironmentPool` and killed by it at will.

    python -m rlstep.scoring.processes.environment_worker SOCKET_FD PARENT_PID THREADS MEMORY_MB

Both directions are JSON lines. In: calls, each with a number, the first with the environment's
spec, the others with the episode's id and either its history or {"leave": true}. Calls are begun
with in their order, THREADS at a time. Out: the answer of each, as soon as it is known: the
observation, {"failure", "detail"}, or nothing where nothing is asked. What is known by the time of
sending is sent together.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import queue
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from rlstep.interfaces import Environment, Episode
from rlstep.plugins import described, owner_of
from rlstep.scoring.processes.confined import confine, decode
from rlstep.types import Action, Observation, Prompt

LONGEST = 100_000
"""Characters of an observation; a longer one is a failure."""
MOST_KEPT = 256
"""Histories that are kept to be copied."""


class Episodes:
    """Every episode of this process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._live: dict[str, tuple[Episode, int]] = {}
        """By id, with the number of its actions."""
        self._played_once: OrderedDict[str, Future[Episode]] = OrderedDict()
        """Where several go on from, those that were asked for last at the end. Copied, never
        spoken to."""
        self._looking = threading.Lock()

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """What a call is answered; calls of one episode come one after the other."""
        try:
            if "leave" in call:
                self._close(call["episode"])
                return {}
            return self._observe(call["episode"], call)
        except (Exception, SystemExit) as error:
            with contextlib.suppress(Exception):  # what was raised first is what is told
                self._close(call["episode"])
            owner = owner_of(error) or self._environment
            return {"failure": "crashed", "detail": described(error, owner)}

    def _observe(self, name: str, call: dict[str, Any]) -> dict[str, Any]:
        actions = call["actions"]
        before = len(actions) - 1
        if self._live.get(name, (None, 0))[1] != before:
            self._close(name)
        if name not in self._live:
            if before and not self._environment.replays:
                return {"failure": "environment_lost", "detail": "its process was replaced"}
            copied = before and self._environment.copies
            episode = self._branch(call, before) if copied else self._played(call, before)
            self._live[name] = (episode, before)
        episode, _ = self._live[name]
        observation = _observed(episode, actions[before])
        self._live[name] = (episode, before + 1)
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
            "counts": {name: float(number) for name, number in observation.counts.items()},
        }

    def _played(self, call: dict[str, Any], actions: int) -> Episode:
        """A new episode after the first of its actions."""
        episode = self._environment.reset(_prompt(call["prompt"]), call["seed"])
        for action in call["actions"][:actions]:
            _observed(episode, action)
        return episode

    def _branch(self, call: dict[str, Any], actions: int) -> Episode:
        """The same as a copy: of all that go on from a history the first one plays it, from where
        the history without its last action is there already. What it raises they all do."""
        key, shorter = _key(call, actions), _key(call, actions - 1)
        with self._looking:
            known = self._played_once.get(key)
            point = self._played_once[key] = known or Future()
            self._played_once.move_to_end(key)
            start = self._played_once.get(shorter)
            if len(self._played_once) > MOST_KEPT:
                self._played_once.popitem(last=False)
        if known is None:
            try:
                if start is not None and start.done():
                    episode = copy.deepcopy(start.result())
                    _observed(episode, call["actions"][actions - 1])
                else:
                    episode = self._played(call, actions)
                point.set_result(episode)
            except BaseException as error:
                self._played_once.pop(key, None)
                point.set_exception(error)
        return copy.deepcopy(point.result())

    def _close(self, name: str) -> None:
        episode, _ = self._live.pop(name, (None, 0))
        if episode is not None:
            episode.close()


def _observed(episode: Episode, action: list[Any]) -> Any:
    text, ids = action
    return episode.observe(Action(text=text, token_ids=tuple(ids)))


def _key(call: dict[str, Any], actions: int) -> str:
    """Of the history of the first of a call's actions."""
    return json.dumps([call["prompt"]["prompt_id"], call["seed"], call["actions"][:actions]])


def _prompt(given: dict[str, Any]) -> Prompt:
    return Prompt(**{**given, "token_ids": np.array(given["token_ids"], dtype=np.int32)})


def _fault(observation: Any) -> str:
    """What is wrong with an observation, '' if nothing is."""
    if not isinstance(observation, Observation):
        return f"observe returned {type(observation).__name__}, not Observation"
    text = observation.text
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, not a string"
    if len(text) > LONGEST:
        return f"text has {len(text)} characters; the most are {LONGEST}"
    if not isinstance(observation.counts, Mapping):
        return f"counts is {type(observation.counts).__name__}, not numbers by name"
    numbers = {"reward": observation.reward}
    numbers |= {f"counts[{name!r}]": number for name, number in observation.counts.items()}
    for name, number in numbers.items():
        known = isinstance(number, int | float | np.number) and not isinstance(number, bool)
        if not known or not math.isfinite(number):
            return f"{name} is {str(number)[:60]} ({type(number).__name__}), not a finite number"
    if not isinstance(observation.done, bool):
        return f"done is {type(observation.done).__name__}, not True or False"
    if not (observation.success is None or isinstance(observation.success, bool)):
        return f"success is {type(observation.success).__name__}, not True, False or None"
    return ""


def main(arguments: list[str]) -> None:
    descriptor, parent, threads, memory_mb = map(int, arguments)
    confine(parent, memory_mb)
    connection = socket.socket(fileno=descriptor)
    lines = connection.makefile("rb", buffering=1 << 18)
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send() -> None:
        """Send what is answered, together with all that was answered meanwhile."""
        with contextlib.suppress(ConnectionError):  # the pool is gone
            while True:
                told = [answers.get()]
                while not answers.empty():
                    told.append(answers.get_nowait())
                connection.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in told))

    first = json.loads(lines.readline())
    try:
        environment = decode(json.loads(first["environment"]))
        environment.check(first["deadline_s"])
    except Exception as error:
        answers.put({"call": first["call"], "failure": f"{type(error).__name__}: {error}"})
        send()
        return
    answers.put({"call": first["call"]})
    episodes = Episodes(environment)

    def serve() -> None:
        while True:
            call = calls.get()
            answers.put({"call": call["call"], **episodes.answer(call)})

    for work in (send, *[serve] * threads):
        threading.Thread(target=work, daemon=True).start()
    with contextlib.suppress(ConnectionError):
        for line in lines:
            calls.put(json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1:])
