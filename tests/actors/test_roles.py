"""What a run's roles hand to strategies, before any of them is started."""

from __future__ import annotations

from typing import Any

import pytest

from rlstep.actors.roles import RunRoles
from rlstep.measuring.monitors import Monitors
from rlstep.testing.small import small_config
from rlstep.thoughts import ThoughtTags
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
