"""Which prompts each iteration samples from, and what was measured of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rlstep.config import Config
from rlstep.interfaces import Choice, Draw, Measurement, RolloutContext
from rlstep.measuring.measured import measurement
from rlstep.measuring.metrics import rollout_metrics
from rlstep.plugins import PlugInError
from rlstep.running.backlog import Admitted, Backlog
from rlstep.running.replacing import Collect, one_each, with_signal
from rlstep.types import Group, Prompt

if TYPE_CHECKING:
    from rlstep.reporting.measurements import MeasurementLog


class Selection:
    """The run's prompts, chosen for each iteration by its curriculum."""

    def __init__(
        self,
        config: Config,
        prompts: Sequence[Prompt],
        log: MeasurementLog | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        """
        Args:
            prompts: all that there are for training.
            log: what was measured so far, where later measurements go, too; None keeps none.
            backlog: what an earlier life of the run had admitted and not trained on.
        """
        self._config, self._prompts, self._log = config, prompts, log
        self._measured: list[Measurement] = list(log or ())
        self.backlog = backlog or Backlog()

    @property
    def replaced(self) -> list[Group]:
        """Groups without signal that others have replaced since the last iteration; not scored
        beyond their verdicts."""
        return self.backlog.replaced

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
        """A group for each of an iteration's prompts, see `replacing`. Of an iteration in the
        backlog only those that are missing."""
        its = self.backlog.admitted.get(iteration) or self._admit(iteration)
        rest = [prompt for prompt in its.prompts if prompt.prompt_id not in its.finished]
        collect = partial(self._config.rollouts.collect, context=context)
        name = type(self._config.rollouts).__name__
        if len(its.prompts) > its.size:
            # Groups with signal that are there already change nothing of what the others are: the
            # shortest start of the prompts that has enough is still that without them.
            known = partial(_known_first, its, collect)
            return with_signal(known, rest, its.missing, self.replaced, name)
        return one_each(collect, rest, name)

    def _admit(self, iteration: int) -> Admitted:
        choice, size = self.choose(iteration), self._config.prompts_per_iteration
        self.backlog.choices[iteration] = choice.metrics
        prompts = choice.prompts[: size + self._config.further_prompts]
        return self.backlog.admit(iteration, prompts, size)

    def measure(self, iteration: int, groups: Sequence[Group]) -> dict[str, float]:
        """Log what an iteration's groups, and those that they have replaced, show of their prompts.

        Returns:
            Metrics of the choice ('curriculum/') and of the groups that were replaced.
        """
        chosen = self.backlog.choices.pop(iteration, {})
        metrics = {f"curriculum/{k}": v for k, v in chosen.items()}
        if self._config.further_prompts or self.replaced:
            metrics |= rollout_metrics(self.replaced, prefix="replaced")
        if sources := self._config.curriculum.reads:
            every = [measurement(g, iteration, sources) for g in (*groups, *self.replaced)]
            self._measured += every
            if self._log is not None:
                self._log.add(iteration, every)
        self.replaced.clear()
        return metrics

    def trained(self) -> None:
        """The batch under way has been trained on."""
        self.backlog.trained(self._config.prompts_per_iteration)


async def _known_first(
    its: Admitted, collect: Collect, prompts: Sequence[Prompt]
) -> AsyncGenerator[Group, None]:
    """What `collect` yields, noted; what is known of these prompts is not sampled again."""
    ids = {prompt.prompt_id for prompt in prompts}
    for group in [group for name, group in its.held.items() if name in ids]:
        ids.discard(group.prompt.prompt_id)
        yield group
    if rest := [prompt for prompt in prompts if prompt.prompt_id in ids]:
        async for group in collect(rest):
            its.held[group.prompt.prompt_id] = group
            yield group


def draw_of(config: Config, iteration: int = 0, measured: Sequence[Measurement] = ()) -> Draw:
    """What a curriculum is handed; without the last two, before the first iteration."""
    return Draw(
        iteration=iteration,
        size=config.prompts_per_iteration,
        further=config.further_prompts,
        seed=config.seed,
        measured=measured,
    )
