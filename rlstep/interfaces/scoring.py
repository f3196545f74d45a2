"""What scores a rollout, beside models that are trained in the run."""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from rlstep.interfaces.rollouts import RolloutContext
from rlstep.types import OutcomeScore, Prompt, Rollout

Item: TypeAlias = tuple[str, str] | tuple[str, str, Mapping[str, Any]]
"""Text, reference answer and, where `verify` asks for more, that by name."""
_ON_REQUEST = ("row", "finish_reason")


class Verifier(ABC):
    """Compares a completion's final answer with the reference. Runs in a killable subprocess.

    `verify(self, text, answer)` is enough. It may name further parameters, and is handed these:

        row: Mapping[str, Any], the prompt's meta; in tasks that read data the source row. It goes
            to another process as JSON, so that a run whose task keeps anything else there is
            refused, and tuples arrive as lists.
        finish_reason: str, 'stop', or 'length' for a text that was cut off at max_tokens.

    What it does not name is not sent. A file or table that it needs is read once a process by a
    `functools.cached_property`.

    Raises:
        ValueError: when the class is made, for a parameter of another name.
    """

    asks: ClassVar[frozenset[str]] = frozenset()
    """Which of 'row' and 'finish_reason' `verify` names; found, not set."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        beside = list(inspect.signature(cls.verify).parameters.values())[3:]
        for p in beside:
            if p.name not in _ON_REQUEST and p.kind not in variable and p.default is p.empty:
                nearest = difflib.get_close_matches(p.name, _ON_REQUEST, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"{cls.__qualname__}.verify takes {p.name!r}; beside text and answer there are"
                    f" {' and '.join(_ON_REQUEST)} (nearest: {nearest!r})"
                )
        cls.asks = frozenset(p.name for p in beside).intersection(_ON_REQUEST)

    def item(self, rollout: Rollout) -> tuple[str, str, Mapping[str, Any]]:
        """What `verify` is called with for a rollout: text, answer and what it asks for by name. Of
        a conversation the text is the last turn's: what a tool printed is no answer."""
        every = {"row": rollout.prompt.meta, "finish_reason": rollout.completion.finish_reason}
        asked = {name: every[name] for name in _ON_REQUEST if name in self.asks}
        return rollout.last_text, rollout.prompt.answer, asked

    def check(self, deadline_s: float) -> None:  # noqa: B027  # most verifiers need nothing
        """Refuse to work where it cannot: asked before a run, and in every process it runs in.

        Args:
            deadline_s: after so long the pool kills the process, and the item is a Failure.

        Raises:
            ValueError: what is missing, or the field and its nearest valid value.
        """

    def check_prompt(self, prompt: Prompt) -> None:  # noqa: B027  # most take any
        """Refuse a problem that it cannot decide over: asked when the task is loaded, for every
        prompt that no judge takes.

        Raises:
            ValueError: the prompt lacks what its verdict is based on; names the field.
        """

    @abstractmethod
    def verify(self, text: str, answer: str, *args: Any, **asked: Any) -> OutcomeScore:
        """Score one completion's text; see the class for what else may be asked for.

        May hang or crash: the pool around it has a deadline.
        """


class Labeller(ABC):
    """Scores rollouts by other means than the verifier or a model that is trained in the run.

    Monte-Carlo step values train the step models; rewards for form, judges of steps and remote
    services score beside the verifier. A run's labellers are asked one after the other, so a later
    one may read what an earlier one found.
    """

    source: str
    """The name of its scores."""
    continues: ClassVar[bool] = False
    """Whether it goes on from the middle of rollouts; see `Environment.replays`."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores that it needs, made before it: by the verifier ('outcome'), the rollout strategy or an
    earlier labeller; a run that does not produce them in time is refused."""

    @abstractmethod
    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, each with a Score of this source: StepScores (n = 0 where a
        step was not labelled), a RolloutScore, an OutcomeScore, or a Failure."""
