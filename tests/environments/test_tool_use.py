"""Turns that call tools: what is answered, what is told of a broken call, and what a turn earns."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from rlstep.environments.plain_turns import PlainTurns
from rlstep.environments.tool_use import ToolUse
from rlstep.interfaces import CallFormat, Tool
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.conversation import Conversation
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.steps.turns import Turns
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_config, small_prompt
from rlstep.tools.calculator import Calculator
from rlstep.tools.call_formats import JsonCalls, LlamaCalls, MistralCalls, PythonCalls, XmlCalls
from rlstep.tools.retrieval import Retrieval
from rlstep.types import Action, Failure, History, Observation, Sampling, StepScores


@dataclass(frozen=True, kw_only=True)
class Repeat(Tool):
    """Says a text so many times; fails in ways of its own."""

    name: str = "repeat"
    description: str = "Repeats."
    parameters: ClassVar[Any] = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "times": {"type": "integer", "minimum": 1},
            "way": {"enum": ["up", "down"]},
        },
        "required": ["text"],
    }

    def call(self, arguments: Any) -> str:
        if arguments["text"] == "bug":
            raise KeyError("text")
        return arguments["text"] * arguments.get("times", 1)


@dataclass(frozen=True, kw_only=True)
class Clock(Repeat):
    name: str = "clock"
    deterministic: ClassVar[bool] = False


TOOLS = ToolUse(tools=(Calculator(), Repeat()))


def call(name: str, **arguments: Any) -> str:
    written = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{written}</tool_call>"


def said(text: str, environment: ToolUse = TOOLS) -> Observation:
    episode = environment.reset(small_prompt("p", answer="5"), 0)
    return episode.observe(Action(text=text, token_ids=()))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (call("calculator", expression="2+3"), "5"),
        (f"I reckon.{call('calculator', expression='2+3')}", "5"),
        (call("repeat", text="ab", times=2), "abab"),
        (call("repeat", text="ab", way="up"), "ab"),
        (f"<think>{call('repeat', text='no')}</think>{call('repeat', text='yes')}", "yes"),
        (f"<think>so</think>{call('repeat', text='yes')}", "yes"),
        (call("repeat", text=""), ""),
    ],
)
def test_a_call_is_answered(text: str, answer: str):
    counts = {"calls": 1, "broken_calls": 0}
    assert said(text) == Observation(text=answer, counts=counts)


BROKEN = {
    "<tool_call>{</tool_call>": "it is no JSON: Expecting property name enclosed in double quotes",
    "<tool_call>": "it is no JSON: Expecting value",
    "</tool_call>": "it does not begin with <tool_call>",
    call("calculater", expression="1"): "there is no tool 'calculater'; did you mean 'calculator'?",
    call("x"): "there is no tool 'x'; there is 'calculator', 'repeat'",
    call("y" * 999): f"there is no tool '{'y' * 80}'; there is 'calculator', 'repeat'",
    call("calculator"): "the arguments of calculator do not fit: 'expression' is a required",
    call(
        "calculator", expression=5
    ): "the arguments of calculator do not fit: expression: 5 is not",
    call(
        "calculator", expression="1", base=2
    ): "the arguments of calculator do not fit: Additional",
    call("calculator", expression="1/0"): "division by zero",
    call("calculator", expression="one"): "there are only numbers",
    call("repeat", text="a", times="2"): "the arguments of repeat do not fit: times: '2' is not of",
    call("repeat", text="a", times=0): "the arguments of repeat do not fit: times: 0 is less than",
    call("repeat", text="a", times=1.5): "the arguments of repeat do not fit: times: 1.5 is not of",
    call("repeat", text="a", times=True): "the arguments of repeat do not fit: times: True is not",
    call("repeat", text=None): "the arguments of repeat do not fit: text: None is not of type",
    call("repeat", text=["a"]): "the arguments of repeat do not fit: text: ['a'] is not of type",
    call("repeat", text="a", way="left"): "the arguments of repeat do not fit: way: 'left' is not",
    call("repeat", text="a") * 2: "one call a turn is answered, and these are 2",
    "<tool_call>3</tool_call>" * 3: "one call a turn is answered, and these are 3",
    f"<think>{call('repeat', text='a')}": "a call is said after </think>, and this thought never",
    f"<think>a</think>b<think>{call('repeat', text='a')}": "a call is said after </think>",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_call_is_told(text: str):
    told = said(text)
    assert told.text.startswith(f"error: {BROKEN[text]}") and len(told.text) < 320
    assert not told.done and told.counts["broken_calls"] == told.counts["calls"] >= 1


@pytest.mark.parametrize(
    "text", ["#5", "", "<think>#4</think>#5", "<think>never", f"<think>{call('x')}</think>#5"]
)
def test_a_turn_without_a_call_is_the_last(text: str):
    assert said(text) == Observation(done=True, counts={"calls": 0, "broken_calls": 0})


@pytest.mark.parametrize(
    ("written_by", "text"),
    [
        (JsonCalls(), call("repeat", text="7", times=2)),
        (XmlCalls(), "<parameter=text>7</parameter><parameter=times>2</parameter>"),
        (MistralCalls(), '[TOOL_CALLS]repeat[ARGS]{"text": "7", "times": 2}'),
        (LlamaCalls(), '{"name": "repeat", "parameters": {"text": "7", "times": 2}}'),
        (PythonCalls(), "[repeat(text='7', times=2)]"),
    ],
)
def test_every_format(written_by: CallFormat, text: str):
    if isinstance(written_by, XmlCalls):
        text = f"<tool_call><function=repeat>{text}</function></tool_call>"
    told = said(text, replace(TOOLS, format=written_by))
    assert (told.text, told.counts["broken_calls"]) == ("77", 0)
    spoiled = said(text.replace("2", "two"), replace(TOOLS, format=written_by))
    assert spoiled.text.startswith("error: ") and spoiled.counts["broken_calls"] == 1


def test_what_a_turn_earns():
    paid = replace(TOOLS, verifier=AnswerLine(), call_reward=-0.1, broken_reward=-0.5)
    right, wrong, broken = call("repeat", text="a"), "#4", call("x")
    assert [said(t, paid).reward for t in ("#5", wrong, right, broken)] == [1.0, 0.0, -0.1, -0.5]
    assert said("#5").reward == said(right).reward == said(broken).reward == 0.0
    assert said("#5", paid).success is None  # the run's verifier decides


def test_a_long_answer_is_cut_and_halves_of_characters_are_replaced():
    short = replace(TOOLS, longest=10)
    assert (
        said(call("repeat", text="ab", times=50), short).text
        == "ababababab\n[cut: it has 100 characters]"
    )
    assert said(call("repeat", text="a" * 10), short).text == "a" * 10
    half = '<tool_call>{"name": "repeat", "arguments": {"text": "a\\ud83d"}}</tool_call>'
    assert said(half).text == "a?"


def test_what_is_refused():
    for tools, why in (
        ((), "environment.tools is empty"),
        ((Repeat(), Repeat()), r"environment\.tools\.1\.name is 'repeat'; every tool has a name"),
        ((Repeat(name=" "),), r"environment\.tools\.0\.name is ' '"),
        ((Untyped(),), "Untyped.parameters must be of type 'object'"),
        ((NoSchema(),), "NoSchema.parameters is no JSON schema"),
        ((Retrieval(folder="/nowhere/at/all"),), r"retrieval\.folder is '/nowhere/at/all'"),
    ):
        with pytest.raises(ValueError, match=why):
            ToolUse(tools=tools).check(5.0)
    for field, value in (("longest", 0), ("call_reward", float("nan"))):
        with pytest.raises(ValueError, match=rf"environment\.{field} is {value}"):
            replace(TOOLS, **{field: value})  # type: ignore[arg-type]
    TOOLS.check(5.0)


@dataclass(frozen=True, kw_only=True)
class Untyped(Repeat):
    parameters: ClassVar[Any] = {}


@dataclass(frozen=True, kw_only=True)
class NoSchema(Repeat):
    parameters: ClassVar[Any] = {"type": "object", "required": "text"}


def test_what_answers_otherwise_every_time_cannot_be_gone_on_with():
    def configured(tools: ToolUse) -> Any:
        rollouts = Conversation(environment=tools, sampling=Sampling(max_tokens=64))
        return small_config(rollouts=rollouts, splitter=Turns(), labellers=(MonteCarlo(),))

    configured(TOOLS)
    assert TOOLS.replays
    with pytest.raises(ValueError, match=r"MonteCarlo would go on.*ToolUse cannot be replayed"):
        configured(ToolUse(tools=(Calculator(), Clock())))


# --- in its process, and in a conversation -------------------------------------------------------


async def test_in_its_process_a_bug_of_a_tool_is_a_failure_that_names_it():
    def history(*texts: str) -> History:
        actions = tuple(Action(text=text, token_ids=()) for text in texts)
        return History(episode_id="e", prompt=small_prompt("p"), seed=0, actions=actions)

    pool = EnvironmentPool(replace(TOOLS, verifier=AnswerLine()), deadline_s=300.0)
    good, bad = call("calculator", expression="2+3"), call("repeat", text="bug")
    try:
        told = [await pool.observe(history(*texts)) for texts in ((good,), (good, "#5"), (bad,))]
    finally:
        await pool.close()
    assert told[0] == Observation(text="5", counts={"calls": 1.0, "broken_calls": 0.0})
    assert isinstance(told[1], Observation) and (told[1].reward, told[1].done) == (1.0, True)
    assert isinstance(told[2], Failure) and told[2].reason == "crashed"
    assert "KeyError" in told[2].detail and "in call" in told[2].detail


def reckoning(prefix: str, child: int, seed: int) -> str:
    """A broken call, a call, and what came back; child 1 reckons by itself, and wrongly."""
    if child == 1 or prefix.endswith("5\n"):
        return "#5" if prefix.endswith("5\n") else "#6"
    return call("calculator", expression="2+3") if "error: " in prefix else call("calc")


async def test_a_conversation_counts_and_goes_on():
    strategy = Conversation(
        environment=replace(TOOLS, call_reward=-0.25),
        samples_per_prompt=1,
        sampling=Sampling(max_tokens=600),
        format=PlainTurns(),
    )
    scorer, generator = FakeScorer(environment=strategy.environment), FakeGenerator(reckoning)
    context = fake_context(generator, scorer, splitter=Turns(), conversing=strategy)
    [group] = [g async for g in strategy.collect([small_prompt("p", answer="5")], context)]
    [rollout] = group.rollouts
    assert rollout.outcome is not None and rollout.outcome.value == 1.0
    assert scores(rollout, "environment") == [0.0, -0.25, 0.0]
    assert scores(rollout, "environment/calls") == [1.0, 1.0, 0.0]
    assert scores(rollout, "environment/broken_calls") == [1.0, 0.0, 0.0]

    request = replace(generator.asked[0], request_id=f"{rollout.rollout_id}/mc", n=2)
    ask = Asking(generator.generate).ask
    made = await strategy.go_on(rollout, 1, request, ask, context)
    assert isinstance(made, list)
    for each in made:  # what the first turn was counted, it is counted again
        counted = [scores(each, f"environment/{name}") for name in ("calls", "broken_calls")]
        assert counted[1][0] == 1.0 and {len(c) for c in counted} == {len(each.steps)}


def scores(rollout: Any, source: str) -> list[float]:
    found = rollout.scores[source]
    assert isinstance(found, StepScores)
    return found.values.tolist()
