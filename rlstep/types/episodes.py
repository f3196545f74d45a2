"""A conversation with an environment: what the policy did, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlstep.types.completions import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A turn of the policy, as an environment gets it."""

    text: str
    """Decoded, special tokens left out but for the tags of thoughts and calls."""
    token_ids: tuple[int, ...]
    """All that was sampled, the token that ended the turn included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What an environment answers to an action."""

    text: str = ""
    """What the policy reads before its next turn, without any delimiters."""
    reward: float = 0.0
    """Of the action that was answered; finite."""
    done: bool = False
    """Whether this was the last turn. What is said then nobody reads."""
    success: bool | None = None
    """Whether the task is solved; None where this observation does not decide it."""
    counts: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What happened in the turn, by name, finite: {"calls": 1}. Nothing is trained on them by
    itself: they are the turn's scores of source 'environment/calls', and so a metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a turn asks of a tool."""

    name: str
    """The tool's, as it was written: there need not be such a tool."""
    arguments: Mapping[str, Any] = field(hash=False)
    """By name, as JSON has them."""
    texts: bool = False
    """All arguments are texts, as they were written: what they mean the tool's schema says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenCall:
    """What was meant as a call and cannot be read as one."""

    why: str
    """One line that the policy can read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Everything that an environment needs to be where it is after some actions."""

    episode_id: str
    """Unique within a run: the rollout_id."""
    prompt: Prompt
    seed: int
    """What the environment was reset with."""
    actions: tuple[Action, ...]
    """At least one: the last is the one to be answered."""
    affinity: str = ""
    """Episodes with the same one share a process, and there what is replayed for them; '' stands
    for the episode_id."""
