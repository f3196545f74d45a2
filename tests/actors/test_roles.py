"""What a run's roles hand to strategies, before any of them is started."""

from __future__ import annotations

from typing import Any

import pytest

from rlstep.actors.roles import RunRoles
from rlstep.environments.tool_use import ToolUse
from rlstep.measuring.monitors import Monitors
from rlstep.rollouts.conversation import Conversation
from rlstep.steps.turns import Turns
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
    assert roles.context(0).tokenizer.decode(ids, skip_special_tokens=True) == shown


def test_strategies_decode_with_the_tags_of_calls() -> None:
    tokenizer = with_special(byte_level_tokenizer(), "[TOOL_CALLS]", "[ARGS]", "[O]")
    talk = Conversation(
        environment=ToolUse(tools=(Calculator(),), format=MistralCalls()),
        sampling=Sampling(max_tokens=64),
    )
    roles: Any = RunRoles(small_config(rollouts=talk, splitter=Turns()), tokenizer)
    roles.generators = roles._routed = None
    ids = tokenizer.encode("[TOOL_CALLS]f[ARGS]{}[O]", add_special_tokens=False)
    reader = roles.context(0).tokenizer
    assert reader.decode(ids, skip_special_tokens=True) == "[TOOL_CALLS]f[ARGS]{}"
