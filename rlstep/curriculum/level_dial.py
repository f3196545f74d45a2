"""A dial of difficulty that measured accuracy turns up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rlstep.checks import at_least, between
from rlstep.curriculum.levels import by_level
from rlstep.curriculum.shuffled import taken
from rlstep.interfaces import Choice, Curriculum, Draw, Measurement
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class LevelDial(Curriculum):
    """Problems of one level, and of the next one once that is solved often enough.

    In the manner of reasoning-gym's curricula (arXiv:2505.24760): from the lowest level on, the
    accuracy of the sampled rollouts over the last iterations decides. The highest level that the
    task has is the last. At a lag, batches that were chosen before a promotion come after it; they
    are of the level before, and count for nothing.
    """

    start: int = 0
    """The first level: the lowest that the task has from here on."""
    promote_at: float = 0.8
    """Accuracy, over the rollouts that have a verdict, from which on the next level comes."""
    iterations: int = 2
    """How many iterations of a level that accuracy is over, the last ones; as many it takes at
    least."""

    def __post_init__(self) -> None:
        at_least("curriculum.start", self.start, 0)
        between("curriculum.promote_at", self.promote_at, 0.0, 1.0)
        at_least("curriculum.iterations", self.iterations, 1)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"outcome"})

    def check(self, prompts: Sequence[Prompt], draw: Draw) -> None:
        super().check(prompts, draw)
        levels = by_level(prompts, "curriculum LevelDial")
        if self.start > max(levels):
            raise ValueError(
                f"curriculum.start is {self.start}, and the task has the levels {list(levels)};"
                f" the largest valid value is {max(levels)}"
            )
        for level, pool in levels.items():
            if level >= self.start and len(pool) < draw.size + draw.further:
                raise ValueError(
                    f"prompts_per_iteration {draw.size} + further_prompts {draw.further} are more"
                    f" than the {len(pool)} training problems of level {level}, and curriculum"
                    f" LevelDial samples from one level; the largest valid sum is {len(pool)}"
                )

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        levels = by_level(prompts, "curriculum LevelDial")
        level, since = self._reached(levels, draw.measured)
        # Its epochs begin with it.
        here = replace(draw, iteration=draw.iteration - since)
        return Choice(prompts=taken(levels[level], here), metrics={"level": float(level)})

    def _reached(
        self, levels: dict[int, list[Prompt]], measured: Sequence[Measurement]
    ) -> tuple[int, int]:
        """The level, and the first iteration that may have been of it."""
        level_of = {p.prompt_id: level for level, pool in levels.items() for p in pool}
        above = iter(level for level in levels if level >= self.start)
        level, since = next(above), 0
        counts: list[tuple[int, int]] = []
        for iteration, of in _by_iteration(measured):
            there = [m for m in of if level_of.get(m.prompt_id) == level and m.samples]
            if not there:
                continue
            counts.append((sum(m.correct for m in there), sum(m.samples for m in there)))
            last = counts[-self.iterations :]
            solved = sum(right for right, _ in last) >= self.promote_at * sum(n for _, n in last)
            if len(counts) >= self.iterations and solved and (up := next(above, None)) is not None:
                level, since, counts = up, iteration + 1, []
        return level, since


def _by_iteration(measured: Sequence[Measurement]) -> Iterator[tuple[int, list[Measurement]]]:
    for iteration, of in groupby(measured, key=lambda m: m.iteration):
        yield iteration, list(of)
