"""The endpoint model against a real local server, on good days and bad ones."""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import Question
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.judges.endpoint import Endpoint
from rlstep.scoring.judges.judgment_text import UNPARSABLE
from rlstep.scoring.processes.http_call import HttpPolicy
from rlstep.types import Failure
from tests.idle_clock import IdleClock
from tests.scoring.judges.judge_kit import ask_context
from tests.scoring.judges.openai_server import (
    Asked,
    Respond,
    Server,
    answering,
    completion,
    dripping,
    failing,
    hanging,
    response,
    sending,
    serving,
)

KEY = "sk-very-secret-0123456789"
YES = answering("Verdict: YES")
QUICK = HttpPolicy(timeout_s=600.0, attempts=3, backoff_s=0.001)
ONE = [Question(question_id="q", text="Is it?")]


def endpoint(server: Server, **fields: Any) -> Endpoint:
    return Endpoint(**{"url": server.url, "model": "judge-7b", "http": QUICK, **fields})


async def ask(spec: Endpoint, questions: list[Question] = ONE, seed: int = 0) -> list[Any]:
    async with spec.open(ask_context(seed=seed)) as asking:
        return await asking(questions)


async def test_what_is_sent_and_what_comes_back():
    async with serving(YES) as server:
        spec = endpoint(server, url=f"{server.url}/", temperature=0.3, top_p=0.9, max_tokens=77)
        assert await ask(spec, seed=5) == ["Verdict: YES"]
    [asked] = server.asked
    assert asked.path == "/v1/chat/completions" and "authorization" not in asked.headers
    assert asked.body == {
        "model": "judge-7b",
        "messages": [{"role": "user", "content": "Is it?"}],
        "max_tokens": 77,
        "temperature": 0.3,
        "top_p": 0.9,
        "seed": request_seed(5, "q"),
    }


async def test_passwords_of_the_environment_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password elsewhere\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    async with serving(YES) as server:
        assert await ask(endpoint(server)) == ["Verdict: YES"]
        assert await ask(endpoint(server, key_variable="JUDGE_KEY")) == ["Verdict: YES"]
    without, with_key = server.asked
    assert "authorization" not in without.headers
    assert with_key.headers["authorization"] == f"Bearer {KEY}"


async def test_answers_keep_the_order_of_the_questions():
    turns = [asyncio.Event() for _ in range(4)]

    async def later_first(asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = int(asked.text)
        if number + 1 < len(turns):
            await turns[number + 1].wait()
        writer.write(response(200, completion(asked.text)))
        await writer.drain()
        turns[number].set()

    async with serving(later_first) as server:
        questions = [Question(question_id=f"q{i}", text=str(i)) for i in range(4)]
        assert await ask(endpoint(server), questions) == ["0", "1", "2", "3"]


async def test_no_questions():
    async with serving(YES) as server:
        assert await ask(endpoint(server), []) == [] and not server.asked


async def test_no_more_than_the_allowed_number_at_once():
    gate, full = asyncio.Event(), asyncio.Event()

    async def gated(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.text == "?":
            if server.open >= 3:
                full.set()
            await gate.wait()
        writer.write(response(200, completion("yes")))

    async with serving(gated) as server:
        spec = endpoint(server, concurrency=3)
        questions = [Question(question_id=f"q{i}", text="?") for i in range(12)]
        async with spec.open(ask_context()) as asking:  # the bound holds over all callers
            halves = asyncio.gather(asking(questions[:6]), asking(questions[6:]))
            await full.wait()
            for _ in range(5):  # whole exchanges of another's: a fourth would be here by then
                assert await ask(endpoint(server)) == ["yes"]
            assert server.open == 3
            gate.set()
            assert await halves == [["yes"] * 6] * 2
        assert len(server.asked) == 12 + 5


@pytest.mark.parametrize(
    ("bad", "asked"),
    [  # the rest is tests/scoring/processes/test_http_call.py
        pytest.param(failing(500), 3, id="500"),
        pytest.param(failing(429, Retry_After="Sat, 21 Nov 2026 17:00:00 GMT"), 3, id="429"),
        pytest.param(sending(b""), 3, id="hangs up"),
        pytest.param(failing(200, b'{"error": "overloaded"}'), 3, id="an error with 200"),
        pytest.param(sending(response(200, completion("x"))[:-9]), 3, id="cut body"),
    ],
)
async def test_what_may_pass_is_asked_again(bad: Respond, asked: int):
    async with serving(bad, bad, YES) as server:
        assert await ask(endpoint(server)) == ["Verdict: YES"]
        assert len(server.asked) == asked
        assert server.asked[0].body == server.asked[2].body


@pytest.mark.parametrize("slow", [hanging, dripping])
async def test_a_slow_try_is_given_up_and_made_again(slow: Respond):
    IdleClock()
    async with serving(slow, YES) as server:
        patient = replace(QUICK, timeout_s=1.0)
        assert await ask(endpoint(server, http=patient)) == ["Verdict: YES"]
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"<html>busy</html>",
        b'{"choices": []}',
        b'{"choices": {"0": 1}}',
        b'{"error": "overloaded"}',
        b'"text"',
        b"null",
    ],
)
async def test_what_is_no_completion_is_a_bad_response(body: bytes):
    async with serving(failing(200, body)) as server:
        [failure] = await ask(endpoint(server))
        assert isinstance(failure, Failure) and failure.reason == "bad_response"


async def test_a_service_that_starts_anew_is_waited_for():
    """A row of failures far longer than the number of open questions, over in no time."""
    bad = [failing(500)] * 100
    async with serving(*bad, YES) as server:
        patient = replace(Endpoint(url=server.url, model="m").http, backoff_s=0.001)
        many = [Question(question_id=f"q{i}", text="?") for i in range(40)]
        assert await ask(endpoint(server, http=patient), many) == ["Verdict: YES"] * 40


async def test_a_dead_service_is_left_alone_by_all_that_ask():
    async with serving(failing(500)) as server:
        spec = endpoint(server, http=replace(QUICK, breaker_failures=4), concurrency=1)
        many = [Question(question_id=f"q{i}", text="?") for i in range(100)]
        answers = [failure.reason for failure in await ask(spec, many)]
        assert answers == ["http_500"] * 2 + ["circuit_open"] * 98
        assert (await ask(spec))[0].reason == "circuit_open"  # opened again, it still knows
        assert len(server.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_is_refused_is_not_asked_again(status: int):
    async with serving(failing(status, b"no such model"), YES) as server:
        [failure] = await ask(endpoint(server))
        assert failure == Failure(reason=f"http_{status}", detail="no such model")
        assert len(server.asked) == 1


async def test_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    async with serving(YES) as elsewhere, serving(failing(307, Location=elsewhere.url)) as server:
        [failure] = await ask(endpoint(server, key_variable="JUDGE_KEY"))
        assert failure.reason == "http_307" and not elsewhere.asked


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion("Verdict: YES", "length"), UNPARSABLE),
        (completion("Verdict: YES", "content_filter"), "not_finished"),
        (completion(None), "not_finished"),
    ],
)
async def test_an_answer_that_is_not_whole_is_none(body: bytes, reason: str):
    async with serving(failing(200, body), YES) as server:
        [failure] = await ask(endpoint(server))
        assert isinstance(failure, Failure) and failure.reason == reason
        assert len(server.asked) == 1


async def test_one_bad_question_leaves_the_others(caplog: pytest.LogCaptureFixture):
    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        good = asked.text != "1"
        writer.write(response(200, completion("yes")) if good else response(400, b"no"))

    async with serving(respond) as server:
        questions = [Question(question_id=f"q{i}", text=str(i)) for i in range(3)]
        with caplog.at_level(logging.WARNING):
            answers = await ask(endpoint(server), questions)
    assert [a if isinstance(a, str) else a.reason for a in answers] == [
        "yes",
        "http_400",
        "yes",
    ]
    assert "not answered, of 3: {'http_400': 1}" in caplog.text


async def test_the_key_is_sent_and_told_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    async with serving(failing(401, f"Incorrect key {KEY}".encode())) as server:
        spec = endpoint(server, key_variable="JUDGE_KEY")
        spec.check()
        with caplog.at_level(logging.DEBUG):
            [failure] = await ask(spec)
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert failure.detail == "Incorrect key ***"
    for told in (repr(spec), repr(failure), caplog.text, pickle.dumps(spec).decode("latin1")):
        assert KEY not in told


def test_a_missing_key_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    spec = Endpoint(url="http://localhost/v1", model="m", key_variable="JUDGE_KEY")
    with pytest.raises(ValueError, match="key_variable is 'JUDGE_KEY', and the environment has no"):
        spec.check()
    replace(spec, key_variable="").check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "localhost:8000"}, "endpoint.url is 'localhost:8000'; it must be like"),
        ({"url": "file:///etc/passwd"}, "endpoint.url is 'file:///etc/passwd'; it must be like"),
        ({"url": "http://h/v1?key=1"}, "without a query"),
        ({"concurrency": 0}, "endpoint.concurrency is 0; the smallest valid value is 1"),
        ({"temperature": 3.0}, "endpoint.temperature is 3.0; the largest valid value is 2.0"),
        ({"top_p": 0.0}, "endpoint.top_p is 0.0"),
        ({"max_tokens": 0}, "endpoint.max_tokens is 0"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Endpoint(**{"url": "http://localhost/v1", "model": "m", **fields})


def test_a_password_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="holds a user or a password") as caught:
        Endpoint(url=f"https://me:{KEY}@host/v1", model="m")
    assert KEY not in str(caught.value)
