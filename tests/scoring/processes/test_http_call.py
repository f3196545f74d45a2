"""Calls to a real server on this machine that misbehaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.scoring.processes.http_call import (
    CircuitBreaker,
    HttpPolicy,
    HttpService,
    Unavailable,
    check_url,
)
from rlstep.types import Failure
from tests.idle_clock import IdleClock
from tests.scoring.processes.misbehaving_server import (
    Reply,
    Server,
    break_off,
    drip,
    garbage,
    hang,
    respond,
    says,
    status,
    truncate,
)

FAST = HttpPolicy(timeout_s=600.0, attempts=2, backoff_s=0.001, breaker_failures=100)
SHORT = replace(FAST, timeout_s=0.5)
"""For answers that trickle in, which the clock does not pass over."""
OK = says('{"scores": []}')


async def call(policy: HttpPolicy, *replies: Reply) -> tuple[Any, Server]:
    async with Server(replies) as server, HttpService(server.url, policy).open("") as post:
        return await post({"items": []}, Random(0)), server


@pytest.mark.parametrize(
    ("reply", "reason", "attempts"),
    [
        (hang, "timeout", 2),
        (drip, "timeout", 2),
        (truncate, "unreachable", 2),
        (break_off, "unreachable", 2),
        (garbage, "unreachable", 2),
        (status("500 Oh"), "http_500", 2),
        (status("503 Later"), "http_503", 2),
        (status("429 Slow"), "http_429", 2),
        (says("no JSON"), "bad_response", 2),
        (says(""), "bad_response", 2),
        (says("[" * 100_000), "bad_response", 2),
        (says("9" * 10_000), "bad_response", 2),
        # what another attempt would not change is asked once
        (status("400 No"), "http_400", 1),
        (status("401 Who"), "http_401", 1),
        (status("302 There", "Location: http://127.0.0.1:1/\r\n"), "http_302", 1),
        (says('"\udcff"'.encode("utf-8", "surrogatepass").decode("latin-1")), None, 1),
    ],
)
async def test_what_a_service_does_wrong(reply: Reply, reason: str | None, attempts: int):
    IdleClock()
    answer, server = await call(SHORT if reason == "timeout" else FAST, reply)
    assert len(server.asked) == attempts
    if reason is None:
        assert not isinstance(answer, Failure)
    else:
        assert isinstance(answer, Failure) and answer.reason == reason


async def test_another_attempt_helps():
    answer, server = await call(FAST, status("500 Oh"), OK)
    assert answer == {"scores": []} and len(server.asked) == 2


async def test_an_answer_larger_than_allowed_is_not_read():
    small = HttpPolicy(largest_answer=1000, attempts=2, backoff_s=0.0)
    answer, server = await call(small, says('"' + "x" * 2000 + '"'))
    assert answer == Failure(reason="bad_response", detail="larger than 1000 bytes")
    assert len(server.asked) == 1
    assert (await call(small, says('"' + "x" * 990 + '"')))[0] == "x" * 990


async def test_the_key_travels_in_the_header_and_not_to_where_a_redirect_points():
    async with Server([OK]) as elsewhere:
        there = status("307 There", f"Location: {elsewhere.url}\r\n")
        async with Server([there]) as server, HttpService(server.url, FAST).open("hunter2") as post:
            answer = await post({}, Random(0))
        assert isinstance(answer, Failure) and answer.reason == "http_307"
        assert "Authorization: Bearer hunter2\r\n" in server.headers[0]
        assert elsewhere.asked == []


async def test_nobody_listens():
    async with Server([OK]) as server:
        pass
    async with HttpService(server.url, FAST).open("") as post:
        answer = await post({}, Random(0))
    assert isinstance(answer, Failure) and answer.reason == "unreachable"


# --- pauses --------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_pauses_grow_up_to_their_bound_and_follow_the_seed(failed: int, seed: int):
    policy = HttpPolicy(backoff_s=0.5, longest_backoff_s=8.0)
    pause = policy.pause(failed, Random(seed))
    assert 0.0 <= pause <= min(8.0, 0.5 * 2 ** (failed - 1))
    assert pause == policy.pause(failed, Random(seed))


def test_pauses_differ():
    policy, random = HttpPolicy(), Random(0)
    assert len({policy.pause(1, random) for _ in range(10)}) == 10


# --- the circuit breaker -------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def attempt(breaker: CircuitBreaker, works: bool) -> str:
    """'made', 'failed' or 'refused'."""

    async def answer() -> str:
        if not works:
            raise Unavailable("http_500")
        return "made"

    try:
        found = await breaker.call(answer)
    except Unavailable:
        return "failed"
    return "refused" if isinstance(found, Failure) else found


async def test_the_circuit_opens_half_opens_and_closes():
    clock = Clock()
    breaker = CircuitBreaker(3, 10.0, clock=clock)
    assert [await attempt(breaker, False) for _ in range(2)] == ["failed"] * 2
    assert await attempt(breaker, True) == "made"  # two in a row are not three
    assert [await attempt(breaker, False) for _ in range(3)] == ["failed"] * 3
    assert await attempt(breaker, True) == "refused"
    clock.now = 9.9
    assert await attempt(breaker, True) == "refused"
    clock.now = 10.0
    assert await attempt(breaker, False) == "failed"  # half open: one attempt, and open again
    assert await attempt(breaker, True) == "refused"
    clock.now = 19.9
    assert await attempt(breaker, True) == "refused"
    clock.now = 20.0
    assert await attempt(breaker, True) == "made"
    assert [await attempt(breaker, False) for _ in range(2)] == ["failed"] * 2  # closed again
    assert await attempt(breaker, True) == "made"


@pytest.mark.parametrize("back", [True, False])
async def test_half_open_one_attempt_decides_for_all_who_ask_meanwhile(back: bool):
    clock = Clock()
    breaker = CircuitBreaker(1, 10.0, clock=clock)
    assert await attempt(breaker, False) == "failed"
    clock.now = 10.0
    begun, may_end, made = asyncio.Event(), asyncio.Event(), 0

    async def probe() -> str:
        begun.set()
        await may_end.wait()
        if not back:
            raise Unavailable("http_500")
        return "made"

    async def another() -> str:
        nonlocal made
        made += 1
        return "made"

    first = asyncio.create_task(breaker.call(probe))
    await begun.wait()
    others = [asyncio.create_task(breaker.call(another)) for _ in range(5)]
    await asyncio.sleep(0)  # lets them ask
    assert made == 0
    may_end.set()
    [answer] = await asyncio.gather(first, return_exceptions=True)
    answers = await asyncio.gather(*others)
    if back:
        assert answer == "made" and answers == ["made"] * 5
    else:
        assert isinstance(answer, Unavailable) and made == 0
        assert all(isinstance(a, Failure) and a.reason == "circuit_open" for a in answers)


async def test_a_row_of_failures_must_last_before_the_circuit_opens():
    clock = Clock()
    breaker = CircuitBreaker(2, 10.0, row_s=60.0, clock=clock)
    for clock.now in (0.0, 30.0, 59.0):
        assert await attempt(breaker, False) == "failed"
    assert await attempt(breaker, True) == "made"  # and a new row begins
    for clock.now in (70.0, 129.0, 130.0):
        assert await attempt(breaker, False) == "failed"
    assert await attempt(breaker, True) == "refused"


async def test_a_cancelled_probe_gives_its_place_back():
    clock = Clock()
    breaker = CircuitBreaker(1, 10.0, clock=clock)
    assert await attempt(breaker, False) == "failed"
    clock.now = 10.0
    begun = asyncio.Event()

    async def probe() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(breaker.call(probe))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await attempt(breaker, True) == "refused"
    clock.now = 20.0
    assert await attempt(breaker, True) == "made"


async def test_an_old_attempt_that_fails_late_opens_nothing_anew():
    clock = Clock()
    breaker = CircuitBreaker(1, 10.0, clock=clock)
    may_fail = asyncio.Event()

    async def old() -> None:
        await may_fail.wait()
        raise Unavailable("timeout")

    task = asyncio.create_task(breaker.call(old))
    await asyncio.sleep(0)  # lets it begin
    assert await attempt(breaker, False) == "failed"
    clock.now = 9.0
    may_fail.set()
    await asyncio.gather(task, return_exceptions=True)
    clock.now = 10.0
    assert await attempt(breaker, True) == "made"


async def test_the_pause_that_a_service_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch):
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    answer, server = await call(FAST, status("429 Slow", "Retry-After: 7\r\n"), OK)
    assert answer == {"scores": []} and len(server.asked) == 2
    assert [seconds for seconds in pauses if seconds] == [7.0]


async def test_what_is_no_answer_is_asked_for_again():
    async with Server([says('{"error": "busy"}'), OK]) as server:
        service = HttpService(server.url, FAST, lambda answer: answer["scores"])
        async with service.open("") as post:
            assert await post({}, Random(0)) == []
    assert len(server.asked) == 2


@pytest.mark.parametrize("line", ["429 Slow", "503 Later"])
async def test_a_pause_that_is_too_long_is_not_begun(line: str):
    answer, server = await call(FAST, status(line, "Retry-After: 3600\r\n"), OK)
    assert isinstance(answer, Failure) and answer.reason == f"http_{line[:3]}"
    assert len(server.asked) == 1


async def test_a_failure_tells_what_the_service_said_but_not_the_key():
    async def quoting(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await respond(writer, b"wrong key hunter2! " + b"x" * 1000, "401 Who")

    async with Server([quoting]) as server, HttpService(server.url, FAST).open("hunter2") as post:
        answer = await post({}, Random(0))
    assert answer.reason == "http_401" and len(answer.detail) == 200
    assert answer.detail.startswith("wrong key ***! xxx")


async def test_a_dead_service_is_soon_left_alone_and_found_again():
    policy = HttpPolicy(attempts=2, backoff_s=0.001, breaker_failures=3, cool_down_s=0.0)
    async with Server([OK]) as server, HttpService(server.url, policy).open("") as post:
        assert await post({}, Random(0)) == {"scores": []}
        await server.die()
        reasons = [(await post({}, Random(0))).reason for _ in range(2)]
        assert reasons == ["unreachable", "unreachable"]
        await server.start()
        assert await post({}, Random(0)) == {"scores": []}


async def test_an_open_circuit_asks_nobody():
    policy = HttpPolicy(attempts=2, backoff_s=0.001, breaker_failures=3, cool_down_s=1000.0)
    async with Server([status("500 Oh")]) as server:
        service = HttpService(server.url, policy)
        reasons = []
        for _ in range(4):  # over connections of its own each: the circuit is the service's
            async with service.open("") as post:
                reasons.append((await post({}, Random(0))).reason)
    # 2 attempts, then 1 that opens it: that call keeps its own reason
    assert reasons == ["http_500", "http_500", "circuit_open", "circuit_open"]
    assert len(server.asked) == 3


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "x is ''; it must be like http://"),
        ("localhost:8000", "it must be like http://"),
        ("ftp://host/", "it must be like http://"),
        ("http://", "it must be like http://"),
        ("http://host:99999/", "x is no URL"),
        ("http://[::1/", "x is no URL"),
    ],
)
def test_refused_urls(url: str, message: str):
    with pytest.raises(ValueError, match=message):
        check_url("x", url)


def test_a_url_with_a_password_is_refused_and_not_printed():
    with pytest.raises(ValueError, match="holds a user or a password") as caught:
        check_url("x", "http://me:hunter2@host/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timeout_s": 0.0}, "http.timeout_s is 0.0"),
        ({"attempts": 0}, "http.attempts is 0"),
        ({"breaker_failures": 0}, "http.breaker_failures is 0"),
        ({"backoff_s": -1.0}, "http.backoff_s is -1.0"),
        ({"backoff_s": 9.0}, "http.longest_backoff_s is 8.0; the smallest valid value is 9.0"),
        ({"deadline_s": -1.0}, "http.deadline_s is -1.0"),
        ({"breaker_s": -1.0}, "http.breaker_s is -1.0"),
        ({"cool_down_s": float("nan")}, "http.cool_down_s is nan"),
    ],
)
def test_refused_policies(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        HttpPolicy(**fields)
