"""How much was sampled: what methods that sample differently are compared at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from rlstep.interfaces import GenerateRole
from rlstep.interfaces.roles import Answer
from rlstep.types import Failure, Request


class CountingGenerator:
    """The generators, with a count of the tokens that they sampled (a `GenerateRole` itself).

    Rollouts, continuations for labels, rectification and search all count, and so does what is
    thrown away after. A request that failed has given none.

    Args:
        generator: what answers.
        sampled: tokens that were counted before, in an earlier life of the run.
    """

    def __init__(self, generator: GenerateRole, sampled: int = 0) -> None:
        self._generator = generator
        self.sampled = sampled

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        async for request, answer in self._generator.generate(requests):
            if not isinstance(answer, Failure):
                self.sampled += sum(completion.length for completion in answer)
            yield request, answer
