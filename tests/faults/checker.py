"""Whether a history keeps the invariants. It is written from these alone, and imports nothing.

    I1 what is trained on was written by versions within the lag, each token by one of them
    I2 whoever answers has exactly the weights that it says, which have come before
    I4 what is admitted is trained on once, or dropped with a reason; what is asked is answered once
    I8 versions go up by one
    R  an engine is replaced for a fault of its own, or because a transfer failed
    L  the run comes to its end

Events: see `world.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Event = dict[str, Any]


def violations(events: Sequence[Event], *, lag: int, iterations: int) -> list[str]:
    """What is wrong, a line each; none where all invariants hold."""
    return [
        *_weights(events),
        *_answers(events),
        *_trained(events, lag, iterations),
        *_versions(events),
        *_replaced(events),
        *_ended(events, iterations),
    ]


def _of(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def _weights(events: Sequence[Event]) -> list[str]:
    """I2."""
    loaded: dict[str, float] = {}
    for event in _of(events, "loaded"):
        loaded.setdefault(event["engine"], event["at"])
    found = [
        f"I2: {event['request']} is from {event['engine']}, before its first weights came"
        for event in _delivered(events)
        if event["at"] < loaded.get(event["engine"], float("inf"))
    ]
    return found + [
        f"I2: {event['request']} has a token of version {label} by the weights of {content}"
        for event in _delivered(events)
        for label, content in sorted(set(map(tuple, event["tokens"])))
        if label != content
    ]


def _delivered(events: Sequence[Event]) -> list[Event]:
    """What engines wrote, of what came to whoever asked for it."""
    heard = {event["answer"] for event in _of(events, "answered")}
    return [event for event in _of(events, "wrote") if event["answer"] in heard]


def _answers(events: Sequence[Event]) -> list[str]:
    """I4 of requests; and nobody is heard after its end."""
    asked = Counter(request for event in _of(events, "asked") for request in event["requests"])
    answered = Counter(event["request"] for event in _of(events, "answered"))
    cut = set(_cut(events))
    found = [f"I4: {request} was asked {n} times" for request, n in asked.items() if n > 1]
    found += [f"I4: {request} was answered {n} times" for request, n in answered.items() if n > 1]
    found += [f"I4: {request} was never answered" for request in asked - answered - Counter(cut)]
    ended = {event["engine"]: event["at"] for event in _of(events, "ended")}
    heard = {event["answer"]: event["at"] for event in _of(events, "answered")}
    for event in _delivered(events):
        name, engine = event["request"], event["engine"]
        if heard[event["answer"]] > ended.get(engine, float("inf")):
            found.append(f"I4: {name} was heard of {engine} after its end")
    return found


def _cut(events: Sequence[Event]) -> list[str]:
    """Requests of whom the run has taken leave."""
    return [request for event in _of(events, "left") for request in event["requests"]]


def _trained(events: Sequence[Event], lag: int, iterations: int) -> list[str]:
    """I1 and I4 of prompts."""
    found, times = [], Counter[str]()
    for event in _of(events, "trained"):
        times.update(event["prompts"])
        for rollout, versions in event["rollouts"].items():
            if not event["version"] - lag <= min(versions) <= max(versions) <= event["version"]:
                found.append(f"I1: {rollout} of {versions}, trained on at {event['version']}")
            if versions != sorted(set(versions)):
                found.append(f"I1: {rollout} of versions {versions}, which go up and down")
        for prompt, (made, dropped) in event["kept"].items():
            if made + dropped != event["samples"]:
                found.append(f"I4: {prompt}: {made} trained on, {dropped} dropped with a reason")
    found += [f"I4: prompt {p} was trained on {n} times" for p, n in times.items() if n > 1]
    admitted = {prompt for event in _of(events, "chosen") for prompt in event["prompts"]}
    if len(_of(events, "trained")) == iterations:
        found += [f"I4: prompt {p} was never trained on" for p in sorted(admitted - set(times))]
    return found


def _versions(events: Sequence[Event]) -> list[str]:
    """I8."""
    found = [event["version"] for event in _of(events, "trained")]
    return [] if found == list(range(len(found))) else [f"I8: trained on at versions {found}"]


def _replaced(events: Sequence[Event]) -> list[str]:
    """R."""
    born: dict[int, Event] = {}
    found = []
    for event in _of(events, "made"):
        if (before := born.get(event["replica"])) is not None:
            since = [
                f
                for f in (*_of(events, "fault"), *_of(events, "hit"))
                if f["at"] >= before["at"] and (f["replica"] == event["replica"] or f["transfer"])
            ]
            if not since:
                found.append(f"R: {event['engine']} replaces one that nothing was done to")
        born[event["replica"]] = event
    return found


def _ended(events: Sequence[Event], iterations: int) -> list[str]:
    """L."""
    (end,) = _of(events, "end") or [{"error": "no end"}]
    done = len(_of(events, "trained"))
    if end["error"] or done != iterations:
        return [f"L: {done} of {iterations} iterations, {end['error'] or 'and no error'}"]
    return []
