"""Several tasks as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlstep.checks import at_least, named, positive
from rlstep.curriculum.levels import LEVEL
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.types import Prompt

TASK = "task"
"""The entry of a prompt's meta that names its part of a mixture."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task of a mixture."""

    name: str
    """What `meta["task"]` of its prompts says, and their ids begin with."""
    task: Task
    """Where they come from."""
    weight: float = 1.0
    """Its share of the problems is its weight over the sum of the weights."""
    level: int | None = None
    """Of all its problems, in the place of their own; None leaves them theirs."""

    def __post_init__(self) -> None:
        named("part.name", self.name, "part, for instance 'logic'")
        positive("part.weight", self.weight)
        if self.level is not None:
            at_least("part.level", self.level, 0)

    def named(self, prompt: Prompt) -> Prompt:
        """A prompt of its task as one of the mixture."""
        level = {} if self.level is None else {LEVEL: self.level}
        meta = {**prompt.meta, **level, TASK: self.name}
        return replace(prompt, prompt_id=f"{self.name}/{prompt.prompt_id}", meta=meta)


@dataclass(frozen=True, kw_only=True)
class TaskMixture(Task):
    """Problems of several tasks, in the shares of their weights, for `ByTask` or judges.

    Each split has as many problems as the shares allow, the first of each part; the rest is counted
    ('over_weight'). All parts are read by one tokenizer. A task that is here several times, from
    easy to hard, is a task of levels.
    """

    parts: tuple[Part, ...]
    """What is mixed, each under a name of its own."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names:
            raise ValueError("task.parts is empty; it needs at least 1")
        if again := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"task.parts has {again[0]!r} twice; give each part its own name")

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Load every part, and cut each to its share.

        Raises:
            ValueError: a part's own.
        """
        loaded = [part.task.load(tokenizer, max_prompt_tokens) for part in self.parts]
        dropped = Counter[str]()
        for each in loaded:
            dropped.update(each.dropped)
        train = self._mixed([each.train for each in loaded], dropped)
        evaluation = self._mixed([each.evaluation for each in loaded], dropped)
        too_long = [length for each in loaded for length in each.too_long]
        return PromptSet(train=train, evaluation=evaluation, dropped=dropped, too_long=too_long)

    def _mixed(self, splits: Sequence[Sequence[Prompt]], dropped: Counter[str]) -> list[Prompt]:
        """One split of every part. A split that a part does not have is mixed of the others."""
        there = [(part, split) for part, split in zip(self.parts, splits, strict=True) if split]
        unit = min((len(split) / part.weight for part, split in there), default=0.0)
        mixed: list[Prompt] = []
        for part, split in there:
            kept = split[: max(1, round(unit * part.weight))]
            mixed += [part.named(prompt) for prompt in kept]
            if len(kept) < len(split):
                dropped["over_weight"] += len(split) - len(kept)
        return mixed
