"""Step scores from a task that knows which steps are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.interfaces import Labeller, RolloutContext, StepOracle
from rlstep.types import Rollout, StepScores


@dataclass(frozen=True, kw_only=True)
class OracleSteps(Labeller):
    """Exact step scores: 1 for every step before the first error, 0 from it on.

    For tasks that can check a step as a proof assistant would, and as the upper bound that a
    learned scorer is held against.
    """

    source: ClassVar[str] = "oracle"

    task: StepOracle
    """The run's own task; its `first_error` is asked for every rollout."""

    def __post_init__(self) -> None:
        if not isinstance(self.task, StepOracle):
            raise ValueError(
                f"oracle_steps.task is {self.task!r}, which cannot tell right steps from wrong"
                " ones; it needs a task with a method first_error, such as Arithmetic or Logic"
            )

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return [rollout.with_scores(oracle=self._scores(rollout)) for rollout in rollouts]

    def _scores(self, rollout: Rollout) -> StepScores:
        steps = len(rollout.steps)
        error = self.task.first_error(rollout.prompt, [rollout.step_text(i) for i in range(steps)])
        right = np.arange(steps) < (steps if error is None else error)
        return StepScores(values=right.astype(np.float32), version=0)
