"""A conversation with an environment: what the policy did, and what came back."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.types.completions import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A turn of the policy, as an environment gets it."""

    text: str
    """Decoded, special tokens left out but for the tags of thoughts."""
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
