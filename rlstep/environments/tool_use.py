"""Conversations in which the policy may call tools."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import CallFormat, Environment, Episode, Tool, Verifier
from rlstep.thoughts import ThoughtTags
from rlstep.tools import answering
from rlstep.tools.call_formats import JsonCalls
from rlstep.types import Action, BrokenCall, Call, Observation, Prompt


@dataclass(frozen=True, kw_only=True)
class ToolUse(Environment):
    """Answers calls, one a turn; a turn without a call is the last, and holds the answer.

    What cannot be answered is told the policy, as 'error: ...', and it may try again: a call that
    cannot be read, a tool that is not there, arguments that do not fit, several calls in a turn, a
    call in a thought that never ended. (What a thought that did end says is no call.) Every turn
    counts its 'calls' and its 'broken_calls'.

    The run's verifier reads the last turn, and so decides. What a turn earns beside that are the
    rewards below.
    """

    copies: ClassVar[bool] = True
    decides: ClassVar[bool] = False

    tools: tuple[Tool, ...]
    """What can be called."""
    format: CallFormat = JsonCalls()
    """How calls are written."""
    verifier: Verifier | None = None
    """Whose value is the last turn's reward; None: it has none. The run's own, say, where the
    turns' rewards are to hold everything."""
    call_reward: float = 0.0
    """Of a turn with a call; below 0 it is a cost."""
    broken_reward: float = 0.0
    """Of a turn whose call was not answered, in its place."""
    longest: int = 4000
    """Characters of an answer; what is longer is cut, and says so."""
    thoughts: ThoughtTags = ThoughtTags()
    """What stands in a thought is not said."""

    def __post_init__(self) -> None:
        at_least("environment.longest", self.longest, 1)
        for name in ("call_reward", "broken_reward"):
            if not isfinite(value := getattr(self, name)):
                raise ValueError(f"environment.{name} is {value}; it must be a finite number")

    @property
    def replays(self) -> bool:  # type: ignore[override]  # it depends on the tools
        return all(tool.deterministic for tool in self.tools)

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        """`seed` is not used: tools are asked by their arguments alone."""
        return _Using(self, prompt)

    def check(self, deadline_s: float) -> None:
        """Raises: ValueError: says which tool cannot work, or which two have one name."""
        answering.check(self.tools, deadline_s)
        if self.verifier is not None:
            self.verifier.check(deadline_s)


@dataclass
class _Using(Episode):
    """Keeps nothing between two turns."""

    environment: ToolUse
    prompt: Prompt

    def __deepcopy__(self, memo: object) -> _Using:
        return self

    def observe(self, action: Action) -> Observation:
        calls, fault = self._read(action.text)
        if not calls:
            reward = self._reward(action.text)
            return Observation(reward=reward, done=True, counts={"calls": 0, "broken_calls": 0})
        answer = fault or answering.answered(calls[0], self.environment.tools)
        if isinstance(answer, BrokenCall):
            return Observation(
                text=self._shown(f"error: {answer.why}"),
                reward=self.environment.broken_reward,
                counts={"calls": len(calls), "broken_calls": len(calls)},
            )
        return Observation(
            text=self._shown(answer),
            reward=self.environment.call_reward,
            counts={"calls": 1, "broken_calls": 0},
        )

    def _read(self, text: str) -> tuple[list[Call | BrokenCall], BrokenCall | None]:
        """The calls of a turn, and why none of them is answered."""
        read, thoughts = self.environment.format.read, self.environment.thoughts
        said = thoughts.after(text)
        if said is None:
            return read(text.rpartition(thoughts.start)[2]), BrokenCall(
                why=f"a call is said after {thoughts.end}, and this thought never ended"
            )
        calls = read(said)
        several = BrokenCall(why=f"one call a turn is answered, and these are {len(calls)}")
        return calls, several if len(calls) > 1 else None

    def _reward(self, text: str) -> float:
        verifier = self.environment.verifier
        if verifier is None:
            return 0.0
        every: dict[str, Any] = {"row": self.prompt.meta, "finish_reason": "stop"}
        asked = {name: every[name] for name in verifier.asks}
        return verifier.verify(text, self.prompt.answer, **asked).value

    def _shown(self, text: str) -> str:
        """Cut, and without halves of characters, which no tokenizer takes."""
        whole = text.encode("utf-8", "replace").decode()
        if len(whole) <= self.environment.longest:
            return whole
        return f"{whole[: self.environment.longest]}\n[cut: it has {len(whole)} characters]"
