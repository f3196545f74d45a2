"""Environments that misbehave, each in its own way, on the word that a turn says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.interfaces import Environment, Episode
from rlstep.types import Action, Observation, Prompt


@dataclass(frozen=True, kw_only=True)
class Awkward(Environment):
    """Counts the turns of an episode, and does what a turn says."""

    largest: int = 99

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        return _Counting(f"{prompt.answer}/{seed}")


@dataclass(frozen=True, kw_only=True)
class OnlyOnce(Awkward):
    """Cannot be replayed."""

    replays: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Copied(Awkward):
    """Can be copied."""

    copies: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Undecided(Awkward):
    """Leaves the outcome to the verifier."""

    decides: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Broken(Awkward):
    def check(self, deadline_s: float) -> None:
        raise ValueError("environment.largest is 99; the engine room is flooded")


@dataclass(frozen=True, kw_only=True)
class NeverReady(Awkward):
    def check(self, deadline_s: float) -> None:
        threading.Event().wait()


@dataclass
class _Counting(Episode):
    name: str
    turns: int = 0
    everywhere: ClassVar[int] = 0
    """Turns of all episodes of the process."""

    def observe(self, action: Action) -> Observation:
        self.turns += 1
        _Counting.everywhere += 1
        return self._answers().get(action.text, self._plain)(action)

    def _child(self, action: Action) -> Observation:
        """Leaves a process behind."""
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", self.name])
        os._exit(3)

    def _stuck(self, action: Action) -> Observation:
        """Whoever says this cannot be let go of."""
        self.close = threading.Event().wait  # type: ignore[method-assign]
        return Observation()

    def _plain(self, action: Action) -> Any:
        done = action.text == "stop"
        said = f"{self.name}:{self.turns}:{action.text}:{list(action.token_ids)}"
        return Observation(text=said, reward=self.turns / 2, done=done, success=done or None)

    def _answers(self) -> dict[str, Any]:
        return {
            "raise": lambda _: 1 // 0,
            "hang": lambda _: threading.Event().wait(),
            "exit": lambda _: sys.exit(3),
            "all": lambda _: Observation(text=str(_Counting.everywhere)),
            "slow": lambda _: threading.Event().wait(0.5) or Observation(),
            "end": lambda _: os._exit(3),
            "nan": lambda _: Observation(reward=float("nan")),
            "shape": lambda _: Observation(reward=[1.0, 2.0]),  # type: ignore[arg-type]
            "long": lambda _: Observation(text="x" * 10_000_000),
            "counts": lambda _: Observation(counts={"calls": float("inf")}),
            "listed": lambda _: Observation(counts=["calls"]),  # type: ignore[arg-type]
            "none": lambda _: None,
            "number": lambda _: Observation(text=7),  # type: ignore[arg-type]
            "done": lambda _: Observation(done="yes"),  # type: ignore[arg-type]
            "stuck": self._stuck,
            "child": self._child,
            "pid": lambda _: Observation(text=str(os.getpid())),
        }
