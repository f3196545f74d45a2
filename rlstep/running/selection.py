"""Which prompts each iteration samples from, and what was measured of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rlstep.config import Config
from rlstep.interfaces import Choice, Draw, Measurement, RolloutContext
from rlstep.measuring.measured import measurement
from rlstep.measuring.metrics import rollout_metrics
from rlstep.plugins import PlugInError
from rlstep.running.replacing import one_each, with_signal
from rlstep.types import Group, Prompt

if TYPE_CHECKING:
    from rlstep.reporting.measurements import MeasurementLog


class Selection:
    """The run's prompts, chosen for each iteration by its curriculum."""

    def __init__(
        self, config: Config, prompts: Sequence[Prompt], log: MeasurementLog | None = None
    ) -> None:
        """
        Args:
            prompts: all that there are for training.
            log: what was measured so far, where later measurements go, too; None keeps none.
        """
        self._config, self._prompts, self._log = config, prompts, log
        self._measured: list[Measurement] = list(log or ())
        self._metrics: dict[int, Mapping[str, float]] = {}
        self.replaced: list[Group] = []
        """Groups without signal that others have replaced since the last iteration; not scored
        beyond their verdicts."""

    def choose(self, iteration: int) -> Choice:
        """An iteration's prompts, by what was measured `max_policy_lag` iterations ago and before.

        Raises:
            PlugInError: the curriculum chose too few, or one twice.
        """
        config, curriculum = self._config, self._config.curriculum
        last = iteration - 1 - config.max_policy_lag
        draw = draw_of(config, iteration, [m for m in self._measured if m.iteration <= last])
        choice = curriculum.choose(self._prompts, draw)
        distinct = len({prompt.prompt_id for prompt in choice.prompts})
        if distinct < max(draw.size, len(choice.prompts)):
            raise PlugInError(
                f"curriculum {type(curriculum).__name__} chose {len(choice.prompts)} prompts for"
                f" iteration {iteration}, {distinct} of them distinct; it owes at least {draw.size}"
            )
        return choice

    def collect(self, iteration: int, context: RolloutContext) -> AsyncIterator[Group]:
        """A group for each of an iteration's prompts, see `replacing`."""
        config, choice = self._config, self.choose(iteration)
        self._metrics[iteration] = choice.metrics
        collect = partial(config.rollouts.collect, context=context)
        name, size = type(config.rollouts).__name__, config.prompts_per_iteration
        if config.further_prompts:
            prompts = choice.prompts[: size + config.further_prompts]
            return with_signal(collect, prompts, size, self.replaced, name)
        return one_each(collect, choice.prompts[:size], name)

    def measure(self, iteration: int, groups: Sequence[Group]) -> dict[str, float]:
        """Log what an iteration's groups, and those that they have replaced, show of their prompts.

        Returns:
            Metrics of the choice ('curriculum/') and of the groups that were replaced.
        """
        metrics = {f"curriculum/{k}": v for k, v in self._metrics.pop(iteration, {}).items()}
        if self._config.further_prompts:
            metrics |= rollout_metrics(self.replaced, prefix="replaced")
        if sources := self._config.curriculum.reads:
            every = [measurement(g, iteration, sources) for g in (*groups, *self.replaced)]
            self._measured += every
            if self._log is not None:
                self._log.add(iteration, every)
        self.replaced.clear()
        return metrics


def draw_of(config: Config, iteration: int = 0, measured: Sequence[Measurement] = ()) -> Draw:
    """What a curriculum is handed; without the last two, before the first iteration."""
    return Draw(
        iteration=iteration,
        size=config.prompts_per_iteration,
        further=config.further_prompts,
        seed=config.seed,
        measured=measured,
    )
