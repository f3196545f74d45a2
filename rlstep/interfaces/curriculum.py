"""Which prompts an iteration samples from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one iteration showed of one prompt."""

    iteration: int
    """From 0; of the batch that the group was in."""
    prompt_id: str
    samples: int
    """Rollouts that have a verdict; those that failed, and branches, are not among them."""
    correct: int
    """How many of them are right."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By source the mean over the rollouts that have a score of it, of step scores the mean over
    their steps; a source without any is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """All that a choice may depend on, beside the prompts."""

    iteration: int
    """From 0."""
    size: int
    """Prompts of the iteration."""
    further: int
    """How many may take the place of those whose groups have no signal."""
    seed: int
    """The run's."""
    measured: Sequence[Measurement]
    """By iteration, of those up to `iteration - 1 - max_policy_lag`; empty where `reads` is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """An iteration's prompts."""

    prompts: Sequence[Prompt]
    """At least `size`, none twice, by preference: the first `size` are sampled from, and the next
    ones, in this order, take the place of those whose groups have no signal."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What to report of the choice; 'level' becomes 'curriculum/level'."""


class Curriculum(ABC):
    """Which prompts, when: a pure function of the seed, the iteration and what was measured.

    It keeps nothing between two choices. What was measured is logged in the run's directory and
    read back, so a run that goes on chooses what it would have chosen.
    """

    @property
    def reads(self) -> frozenset[str]:
        """Sources of scores that it looks at; 'outcome' for verdicts. None: nothing is logged."""
        return frozenset()

    def check(self, prompts: Sequence[Prompt], draw: Draw) -> None:
        """Refuse a task that it cannot choose from; asked when the task is loaded.

        Args:
            prompts: all that there are for training.
            draw: of the first iteration.

        Raises:
            ValueError: naming the field, or the prompt and what it lacks, and a valid value.
        """
        wanted = draw.size + draw.further
        if wanted > len(prompts):
            raise ValueError(
                f"prompts_per_iteration {draw.size} + further_prompts {draw.further} are more than"
                f" the task's {len(prompts)} training problems; the largest valid"
                f" further_prompts is {max(0, len(prompts) - draw.size)}"
            )

    @abstractmethod
    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        """The prompts of one iteration.

        Args:
            prompts: all that there are for training, in the task's order.
        """
