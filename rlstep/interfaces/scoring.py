"""What scores a rollout, beside models that are trained in the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rlstep.interfaces.rollouts import RolloutContext
from rlstep.types import OutcomeScore, Rollout


class Verifier(ABC):
    """Compares a completion's final answer with the reference. Runs in a killable subprocess."""

    def check(self, deadline_s: float) -> None:  # noqa: B027  # most verifiers need nothing
        """Refuse to work where it cannot: asked before a run, and in every process it runs in.

        Args:
            deadline_s: after so long the pool kills the process, and the item is a Failure.

        Raises:
            ValueError: what is missing, or the field and its nearest valid value.
        """

    @abstractmethod
    def verify(self, text: str, answer: str) -> OutcomeScore:
        """Score one completion's text. May hang or crash: the pool around it has a deadline."""


class Labeller(ABC):
    """Scores rollouts by other means than the verifier or a model that is trained in the run.

    Monte-Carlo step values train the step models; rewards for form, judges of steps and remote
    services score beside the verifier. A run's labellers are asked one after the other, so a later
    one may read what an earlier one found.
    """

    source: str
    """The name of its scores."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores that it needs, made before it: by the verifier ('outcome'), the rollout strategy or an
    earlier labeller; a run that does not produce them in time is refused."""

    @abstractmethod
    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, each with a Score of this source: StepScores (n = 0 where a
        step was not labelled), a RolloutScore, an OutcomeScore, or a Failure."""
