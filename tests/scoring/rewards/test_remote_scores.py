"""Scores over HTTP, from a real server on this machine."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from rlstep.scoring.processes.http_call import HttpPolicy
from rlstep.scoring.rewards.remote_scores import RemoteScores
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import Failure, Rollout, RolloutScore
from tests.builders import make_prompt, make_rollout
from tests.idle_clock import IdleClock
from tests.scoring.processes.misbehaving_server import Server, hang, says, scores, status

FAST = HttpPolicy(timeout_s=600.0, attempts=2, backoff_s=0.001)


def rollouts(number: int) -> list[Rollout]:
    """The n-th has n + 1 tokens, so 2 (n + 1) characters."""
    return [make_rollout(f"r{n}", [[7]] * (n + 1), outcome=1.0) for n in range(number)]


async def label(labeller: RemoteScores, batch: list[Rollout]) -> list[Any]:
    made = await labeller.label(batch, fake_context(FakeGenerator(lambda *_: ""), FakeScorer()))
    assert [r.rollout_id for r in made] == [r.rollout_id for r in batch]
    assert all(r.outcome is not None for r in made)
    return [r.scores[labeller.source] for r in made]


def brief(found: list[Any]) -> list[Any]:
    return [s.reason if isinstance(s, Failure) else s.value for s in found]


async def test_scores_come_back_in_order_from_batches():
    async with Server([scores]) as server:
        found = await label(RemoteScores(url=server.url, batch=2, http=FAST), rollouts(5))
    assert found == [RolloutScore(value=2 * (n + 1) / 100) for n in range(5)]
    assert sorted(len(body["items"]) for body in server.asked) == [1, 2, 2]
    (first,) = [i for body in server.asked for i in body["items"] if i["id"] == "r0"]
    assert first == {
        "id": "r0", "prompt": "question", "completion": "7 ", "answer": "42", "meta": {}
    }  # fmt: skip


async def test_nothing_to_score():
    assert await label(RemoteScores(url="http://127.0.0.1:1/"), []) == []


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        # a whole batch, where no score can be told to be a rollout's
        ('{"scores": [0.5]}', ["bad_response"] * 2),
        ('{"scores": [0.5, 0.5, 0.5]}', ["bad_response"] * 2),
        ('{"scores": {"r0": 1, "r1": 1}}', ["bad_response"] * 2),
        ('{"rewards": [0.5, 0.5]}', ["bad_response"] * 2),
        ("[0.5, 0.5]", ["bad_response"] * 2),
        ("null", ["bad_response"] * 2),
        # one rollout alone
        ('{"scores": [NaN, 0.5]}', ["bad_response", 0.5]),
        ('{"scores": [Infinity, -Infinity]}', ["bad_response"] * 2),
        ('{"scores": [1.0001, 1]}', ["bad_response", 1.0]),
        ('{"scores": [1e308, 0]}', ["bad_response", 0.0]),
        (f'{{"scores": [1{"0" * 400}, 0]}}', ["bad_response", 0.0]),
        ('{"scores": [true, "0.5"]}', ["bad_response"] * 2),
        ('{"scores": [null, [0.5]]}', ["bad_response"] * 2),
    ],
)
async def test_answers_are_read_strictly(answer: str, reasons: list[Any]):
    async with Server([says(answer)]) as server:
        found = await label(RemoteScores(url=server.url, http=FAST), rollouts(2))
    assert brief(found) == reasons


async def test_one_batch_that_fails_costs_no_other():
    async def moody(writer: Any, body: dict[str, Any]) -> None:
        reply = status("500 Oh") if body["items"][0]["id"] == "r2" else scores
        await reply(writer, body)

    async with Server([moody]) as server:
        found = await label(RemoteScores(url=server.url, batch=1, http=FAST), rollouts(4))
    assert brief(found) == [0.02, 0.04, "http_500", 0.08]


async def test_a_service_that_hangs_is_left_alone_until_it_is_back():
    IdleClock()
    policy = HttpPolicy(timeout_s=60.0, attempts=1, breaker_failures=2, cool_down_s=0.0)
    async with Server([hang, hang, scores]) as server:
        labeller = RemoteScores(url=server.url, batch=1, concurrency=1, http=policy)
        assert brief(await label(labeller, rollouts(2))) == ["timeout"] * 2
        await server.die()
        assert brief(await label(labeller, rollouts(2))) == ["unreachable"] * 2
        await server.start()
        assert brief(await label(labeller, rollouts(2))) == [0.02, 0.04]


async def test_the_circuit_stays_open_from_batch_to_batch():
    policy = HttpPolicy(attempts=1, breaker_failures=2, cool_down_s=1000.0)
    async with Server([status("500 Oh")]) as server:
        labeller = RemoteScores(url=server.url, batch=1, concurrency=1, http=policy)
        first = await label(labeller, rollouts(3))
        second = await label(labeller, rollouts(2))
    assert brief(first) == ["http_500", "http_500", "circuit_open"]
    assert brief(second) == ["circuit_open"] * 2
    assert len(server.asked) == 2


async def test_text_that_is_no_unicode_can_be_sent():
    rollout = make_rollout("\ud800", [[7]], outcome=1.0)
    async with Server([scores]) as server:
        found = await label(RemoteScores(url=server.url, http=FAST), [rollout])
    assert brief(found) == [0.02] and server.asked[0]["items"][0]["id"] == "\ud800"


async def test_meta_is_sent_whole():
    meta = {"level": 3, "tags": ["a", {"b": None}], "hints": {"k": [1.5, True]}}
    rollout = make_rollout("r0", [[7]], outcome=1.0, prompt=replace(make_prompt(), meta=meta))
    async with Server([scores]) as server:
        await label(RemoteScores(url=server.url, http=FAST), [rollout])
    assert server.asked[0]["items"][0]["meta"] == meta


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (datetime(2026, 1, 2), "made is of type datetime"),
        (np.zeros(2), "made is of type ndarray"),
        ([{"deep": b"x"}], "made.0.deep is of type bytes"),
        ({(1, 2): 3}, "made has the key"),
        (LOOP, "made is nested too deeply, or holds itself"),
    ],
)
async def test_meta_that_is_no_json_is_refused_by_name_before_any_call(value: Any, problem: str):
    prompt = replace(make_prompt("p7"), meta={"level": 3, "made": value})
    batch = [*rollouts(1), make_rollout("r1", [[7]], outcome=1.0, prompt=prompt)]
    async with Server([scores]) as server:
        with pytest.raises(ValueError, match=f"prompt 'p7' has meta 'made'.*{problem}"):
            await label(RemoteScores(url=server.url, batch=1, http=FAST), batch)
    assert server.asked == []


async def test_the_key_comes_from_the_environment_and_is_kept_nowhere(
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(ValueError, match="key_variable is 'REWARD_KEY', which the environment"):
        RemoteScores(url="http://host/", key_variable="REWARD_KEY")
    monkeypatch.setenv("REWARD_KEY", "hunter2\n")
    async with Server([scores]) as server:
        labeller = RemoteScores(url=server.url, key_variable="REWARD_KEY", http=FAST)
        assert brief(await label(labeller, rollouts(1))) == [0.02]
    assert "Authorization: Bearer hunter2\r\n" in server.headers[0]
    assert "hunter2" not in json.dumps(server.asked)
    assert "hunter2" not in repr(labeller) and b"hunter2" not in pickle.dumps(labeller)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "host"}, "remote_scores.url is 'host'"),
        ({"source": ""}, "remote_scores.source is ''"),
        ({"batch": 0}, "remote_scores.batch is 0"),
        ({"concurrency": 0}, "remote_scores.concurrency is 0"),
        ({"smallest": 2.0}, "remote_scores.largest is 1.0; the smallest valid value is 2.0"),
        ({"largest": float("inf")}, r"range \[0.0, inf\]; it must be finite"),
    ],
)
def test_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RemoteScores(**{"url": "http://host/", **fields})
