"""OpenEnv's messages, against a server of ours on loopback; test_open_env_real.py has the package's
own, whose words these are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from rlstep.environments.open_env import OpenEnv, OpenEnvError
from rlstep.scoring.processes.environment_pool import EnvironmentPool, _message
from rlstep.scoring.processes.environment_worker import Episodes
from rlstep.types import Action, Failure, History, Observation
from tests.builders import make_prompt

Told = list[tuple[str, Any]]
Session = Callable[[web.Request], Awaitable[web.WebSocketResponse]]


def counting(kind: str, data: dict[str, Any], state: dict[str, Any]) -> dict[str, Any] | str:
    """Adds what it is told to a number; done at ten, which pays 1, everything else a tenth."""
    if kind == "reset":
        state["at"] = data.get("start", 0)
        return {"observation": {"total": state["at"]}, "reward": None, "done": False}
    if not isinstance(data.get("add"), int | str) or not str(data["add"]).isdecimal():
        return "VALIDATION_ERROR"
    state["at"] += int(data["add"])
    done = state["at"] >= 10
    return {
        "observation": {"total": state["at"], "said": f"now {state['at']}"},
        "reward": 1.0 if state["at"] == 10 else 0.1,
        "done": done,
    }


@asynccontextmanager
async def served(answer: Callable[..., Any] = counting) -> AsyncIterator[tuple[str, Told]]:
    """An address, and every message that came to it."""
    told: Told = []

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        state: dict[str, Any] = {}
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            asked = json.loads(message.data)
            told.append((asked["type"], asked.get("data")))
            if asked["type"] == "close":
                break
            reply = answer(asked["type"], asked["data"], state)
            if reply is None:
                break
            if isinstance(reply, str):
                data: dict[str, Any] = {"code": reply, "message": "it does not fit\nat length"}
                if reply == "VALIDATION_ERROR":
                    data["errors"] = [
                        {"type": "missing", "loc": ["add"], "msg": "Field required", "input": {}},
                        {"type": "extra_forbidden", "loc": ["by", 0], "msg": "Not permitted"},
                    ]
                await socket.send_json({"type": "error", "data": data})
            else:
                await socket.send_str(json.dumps({"type": "observation", "data": reply}))
        await socket.close()
        return socket

    async with serving(session) as url:
        yield url, told


@asynccontextmanager
async def serving(session: Session) -> AsyncIterator[str]:
    """The address of a server whose every session is this."""
    app = web.Application()
    app.router.add_get("/ws", session)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [(_, port)] = [s.getsockname() for s in site._server.sockets]  # type: ignore[union-attr]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def history(name: str, *words: str) -> History:
    prompt = replace(make_prompt(), meta={"reset": {"start": 3}})
    actions = tuple(Action(text=word, token_ids=(1,)) for word in words)
    return History(episode_id=name, prompt=prompt, seed=5, actions=actions)


@asynccontextmanager
async def talking(answer: Callable[..., Any] = counting, **fields: Any) -> AsyncIterator[Any]:
    """(words) -> the observations of a conversation, as a process of the pool answers; and what the
    server was told."""
    async with served(answer) as (url, told):
        episodes = Episodes(OpenEnv(url=url, **fields))

        async def say(*words: str, name: str = "x") -> list[Observation | Failure]:
            found: list[Observation | Failure] = []
            for number in range(len(words)):
                call = _message(history(name, *words[: number + 1]))
                said = await asyncio.to_thread(episodes.answer, call)
                failed = "failure" in said
                found.append(
                    Failure(reason=said["failure"], detail=said["detail"])
                    if failed
                    else Observation(**said)
                )
            return found

        yield say, told
        await asyncio.to_thread(episodes.answer, {"episode": "x", "leave": True})
        await asyncio.to_thread(episodes.answer, {"episode": "another", "leave": True})


async def test_in_the_pool_conversations_are_sessions_of_their_own():
    async with served() as (url, told):
        pool = EnvironmentPool(OpenEnv(url=url, action="add", text="said"), deadline_s=20.0)
        try:
            for words, text in ((["1"], "now 4"), (["1", "2"], "now 6")):
                asked = [pool.observe(history(f"e{i}", *words)) for i in range(12)]
                assert {o.text for o in await asyncio.gather(*asked)} == {text}  # type: ignore[union-attr]
        finally:
            await pool.close()
        assert [kind for kind, _ in told].count("reset") == 12


async def test_a_turn_is_a_step_with_its_own_reward():
    async with talking(action="add", text="said", wins=1.0) as (say, told):
        assert await say(" 2\n", "5") == [
            Observation(text="now 5", reward=0.1),
            Observation(text="now 10", reward=1.0, done=True, success=True),
        ]
        assert told == [
            ("reset", {"start": 3}),
            ("step", {"add": "2"}),
            ("step", {"add": "5"}),
            ("close", None),
        ]
        [lost] = await say("9", name="another")
        assert lost == Observation(text="now 12", reward=0.1, done=True, success=False)


async def test_a_turn_can_be_the_whole_action_and_the_observation_be_read_whole():
    async with talking() as (say, _):
        [seen] = await say('{"add": 2}')
        assert json.loads(seen.text) == {"total": 5, "said": "now 5"} and seen.success is None


NO_OBJECT, NO_ACTION = "no JSON object", "add: Field required; by.0: Not permitted"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("2", NO_OBJECT),
        ("add 2", NO_OBJECT),
        ("[2]", NO_OBJECT),
        ("", NO_OBJECT),
        ("[" * 100_000, NO_OBJECT),
        ('{"add": NaN}', NO_OBJECT),
        (r'{"add": "\ud800"}', NO_OBJECT),
        ('{"add": "two"}', NO_ACTION),
        ('{"plus": 2}', NO_ACTION),
    ],
    ids=["number", "words", "list", "nothing", "deep", "nan", "surrogate", "type", "field"],
)
async def test_a_broken_action_is_told_the_policy_and_counted(said: str, why: str):
    async with talking(text="said") as (say, _):
        first, second = await say(said, '{"add": 2}')
        assert first == Observation(text=f"error: {why}", counts={"broken_actions": 1.0})
        assert second.text == "now 5"


@pytest.mark.parametrize(
    ("paid", "reward", "counts"),
    [(True, 1.0, {}), (False, 0.0, {}), (2, 2.0, {}), (None, 0.0, {"unpaid": 1.0})],
)
async def test_a_reward_is_a_number_a_boolean_or_none(paid: Any, reward: float, counts: Any):
    def answer(*_: Any) -> dict[str, Any]:
        return {"observation": {"said": ""}, "reward": paid, "done": True}

    async with talking(answer, action="add", text="said", wins=1.0) as (say, _):
        [seen] = await say("1")
        success = reward >= 1.0
        assert seen == Observation(reward=reward, done=True, success=success, counts=counts)


async def test_pings_are_answered_while_nobody_asks():
    """A server ends a session that leaves them unanswered, and a turn may take long to sample."""
    ponged, over = asyncio.Event(), asyncio.Event()

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        for _ in range(2):  # reset, and one step
            await socket.receive()
            data = {"observation": {"said": "yes"}}
            await socket.send_json({"type": "observation", "data": data})
        await socket.ping()
        assert (await socket.receive()).type is WSMsgType.PONG
        ponged.set()
        await over.wait()
        return socket

    async with serving(session) as url:
        episodes = Episodes(OpenEnv(url=url, action="add", text="said"))
        said = await asyncio.to_thread(episodes.answer, _message(history("x", "1")))
        assert said["text"] == "yes"
        await asyncio.wait_for(ponged.wait(), 60.0)
        over.set()
        await asyncio.to_thread(episodes.answer, {"episode": "x", "leave": True})


async def test_what_a_server_says_before_it_is_asked_is_why_it_refuses():
    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        data = {"code": "CAPACITY_REACHED", "message": "1 of 1"}
        await socket.send_json({"type": "error", "data": data})
        await socket.close()
        return socket

    async with serving(session) as url:
        with pytest.raises(OpenEnvError, match="CAPACITY_REACHED: 1 of 1"):
            await asyncio.to_thread(OpenEnv(url=url).reset, make_prompt(), 0)


async def test_a_session_is_left_once_the_server_has_let_go_of_it():
    """Or the next conversation is one too many for a server that allows one."""
    here: list[int] = []

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert not here
        here.append(1)
        async for message in socket:
            if message.json()["type"] == "close":
                break
            await socket.send_json({"type": "observation", "data": {"observation": {}}})
        told = asyncio.create_task(socket.receive())  # a closing frame is answered at once
        for _ in range(1000):  # an environment's own close
            await asyncio.sleep(0)
        here.clear()
        told.cancel()
        await socket.close()
        return socket

    async with serving(session) as url:
        for _ in range(10):
            episode = await asyncio.to_thread(OpenEnv(url=url).reset, make_prompt(), 0)
            await asyncio.to_thread(episode.close)
            assert not here


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (lambda *_: None, "crashed", "ended the session after 'reset'"),
        (lambda *_: "CAPACITY_REACHED", "crashed", "CAPACITY_REACHED: it does not fit"),
        (lambda kind, *_: {} if kind == "reset" else None, "crashed", "after 'step'"),
        (lambda *_: {"observation": {"other": 1}}, "crashed", "no 'said'; it has ['other']"),
        (
            lambda *_: {"observation": {"said": ""}, "reward": float("nan")},
            "bad_observation",
            "reward is nan",
        ),
        (
            lambda *_: {"observation": {"said": ""}, "reward": "1"},
            "bad_observation",
            "reward is 1 (str)",
        ),
        (lambda *_: {"observation": {"said": "x" * (2 << 20)}}, "crashed", "ended the session"),
        (lambda *_: {"observation": {"said": "x" * 200_000}}, "bad_observation", "characters"),
    ],
    ids=["disconnects", "full", "disconnects-late", "no-field", "nan", "text", "2MB", "200kB"],
)
async def test_what_a_server_does_wrong_is_a_failure_by_reason(
    answer: Callable[..., Any], reason: str, words: str
):
    async with talking(answer, action="add", text="said") as (say, _):
        [failed] = await say("1")
        assert isinstance(failed, Failure) and failed.reason == reason
        assert words in failed.detail


@pytest.mark.parametrize("kind", ["reset", "step"])
async def test_a_session_that_failed_is_closed(kind: str):
    def answer(asked: str, *_: Any) -> Any:
        return "EXECUTION_ERROR" if asked == kind else {}

    async with talking(answer, action="add") as (say, told):
        [failed] = await say("1")
        assert isinstance(failed, Failure) and "EXECUTION_ERROR" in failed.detail
        assert [asked for asked, _ in told][-2:] == [kind, "close"]


async def test_no_server_is_a_failure():
    async with talking(action="add") as (say, _):
        pass
    [failed] = await say("1")
    assert isinstance(failed, Failure) and failed.reason == "crashed" and "onnect" in failed.detail


def test_only_who_says_so_is_replayed_or_decides():
    plain, sure = OpenEnv(url="http://h:1"), OpenEnv(url="http://h:1", deterministic=True, wins=0.0)
    assert (plain.replays, plain.decides, sure.replays, sure.decides) == (False, False, True, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "ws://h:1"}, "environment.url is 'ws://h:1'; it must be like"),
        ({"url": "http://u:p@h:1"}, "environment.url holds a user or a password"),
        ({"url": "http://h:1", "wins": float("nan")}, "environment.wins is nan"),
    ],
)
def test_refused_fields(fields: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        OpenEnv(**fields)
