"""What a run's roles hand to strategies, before any of them is started."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner_group import LearnerGroup, LearnerLost
from rlstep.actors.roles import RunRoles
from rlstep.config import GeneratorConfig
from rlstep.environments.tool_use import ToolUse
from rlstep.measuring.monitors import Monitors
from rlstep.rollouts.conversation import Conversation
from rlstep.steps.turns import Turns
from rlstep.testing.roles import TOKENIZER, FakeGenerator
from rlstep.testing.small import small_config
from rlstep.thoughts import ThoughtTags
from rlstep.tools.calculator import Calculator
from rlstep.tools.call_formats import MistralCalls
from rlstep.types import Sampling
from tests.real_tokenizers import byte_level_tokenizer, with_special


@pytest.mark.parametrize(
    ("tags", "shown"),
    [(ThoughtTags(), "<think>so"), (ThoughtTags(start="[T]", end="[/T]"), "<think>[T]so")],
)
def test_strategies_decode_with_the_tags_of_every_setting(tags: ThoughtTags, shown: str) -> None:
    """The splitter has the default's, the monitors have these."""
    tokenizer = with_special(byte_level_tokenizer(), "<think>", "[T]", "[O]")
    roles: Any = RunRoles(small_config(monitors=Monitors(thoughts=tags)), tokenizer)
    roles.generators = roles._routed = None  # which are there once it has started
    ids = tokenizer.encode("<think>[T]so[O]", add_special_tokens=False)
    assert roles.context(0, "eval").tokenizer.decode(ids, skip_special_tokens=True) == shown


def test_strategies_decode_with_the_tags_of_calls() -> None:
    tokenizer = with_special(byte_level_tokenizer(), "[TOOL_CALLS]", "[ARGS]", "[O]")
    talk = Conversation(
        environment=ToolUse(tools=(Calculator(),), format=MistralCalls()),
        sampling=Sampling(max_tokens=64),
    )
    roles: Any = RunRoles(small_config(rollouts=talk, splitter=Turns()), tokenizer)
    roles.generators = roles._routed = None
    ids = tokenizer.encode("[TOOL_CALLS]f[ARGS]{}[O]", add_special_tokens=False)
    reader = roles.context(0, "eval").tokenizer
    assert reader.decode(ids, skip_special_tokens=True) == "[TOOL_CALLS]f[ARGS]{}"


class Started(LearnerGroup):
    """Of `LearnerGroup` what is asked of one that takes another one's place."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [], 1.0)
        self.killed = False

    def kill(self) -> None:
        self.killed = True


async def test_no_learner_is_left_of_a_start_that_another_one_fails() -> None:
    """The policy's successor dies while it starts, the PRM's comes later: it holds a GPU that the
    next one needs, and is ended with the others."""
    roles: Any = RunRoles(small_config(), TOKENIZER)
    model = SimpleNamespace(source="prm")
    made: list[Started] = []

    def starts(name: str) -> Started:
        made.append(Started(name))
        roles._started.append(made[-1])
        return made[-1]

    async def policy() -> LearnerGroup:
        if len(made) == 2:
            raise LearnerLost("learner 'policy' rank 0: join")
        return starts("policy")

    async def step_model(*_: Any) -> Any:
        await asyncio.sleep(0.0)
        return SimpleNamespace(model=model, learner=starts("prm"))

    async def rejoin(*_: Any) -> None: ...

    roles._policy, roles._step_model, roles._options = policy, step_model, {"step_models": {}}
    roles.sync, roles.scorer = SimpleNamespace(rejoin=rejoin), SimpleNamespace()
    roles._counting = SimpleNamespace()
    roles.policy, roles.step_models = starts("policy"), [await step_model()]
    with pytest.raises(LearnerLost):
        await roles.learners_again(None, 0, 0)
    assert [each.killed for each in made] == [True, True, False]
    await roles.learners_again(None, 0, 0)
    assert [each.killed for each in made] == [True, True, True, False, False]
    assert roles._started == made[3:]


async def test_a_run_has_a_door_where_its_configuration_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLSTEP_DOOR_TOKEN", "a secret of this test")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for door_port, there in ((0, False), (port, True)):
        config = small_config(generator=replace(GeneratorConfig(context=128), door_port=door_port))
        roles: Any = RunRoles(config, TOKENIZER)
        roles.generators = FakeGenerator(lambda prefix, child, seed: "yes")
        await roles._open_door()
        assert len(roles._started) == there
        if there:
            url = f"http://127.0.0.1:{port}/inference/v1/generate"
            headers = {"Authorization": "Bearer a secret of this test"}
            async with (
                aiohttp.ClientSession(headers=headers) as http,
                http.post(url, json={"token_ids": [1]}) as answer,
            ):
                [choice] = (await answer.json())["choices"]
            assert TOKENIZER.decode(choice["token_ids"][:-1]) == "yes"
        await roles.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5.0)


async def test_no_generator_is_recovered_while_the_others_end() -> None:
    """A learner that has ended would be taken for a sync that fails."""
    roles: Any = RunRoles(small_config(), TOKENIZER)
    ended: list[str] = []

    class Generators(GeneratorGroup):
        async def settle(self) -> None:
            ended.append("recoveries")

        async def close(self) -> None:
            ended.append("generators")

    class Learner:
        async def close(self) -> None:
            ended.append("learner")

    roles._started = [Generators(GeneratorConfig(), "", {}), Learner()]
    await roles.close()
    assert ended == ["recoveries", "learner", "generators"]
