"""Independent completions of every prompt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rlstep.checks import at_least
from rlstep.interfaces import RolloutContext, RolloutStrategy
from rlstep.rollouts.requests import group_of, prompt_request
from rlstep.rollouts.verification import verified
from rlstep.types import Group, Prompt, Sampling


@dataclass(frozen=True, kw_only=True)
class Independent(RolloutStrategy):
    """`samples_per_prompt` completions of each prompt, drawn independently."""

    samples_per_prompt: int = 8
    """Completions of each prompt: the size of its group."""
    sampling: Sampling = Sampling()
    """Lengths, temperature and stops of the completions."""

    def __post_init__(self) -> None:
        at_least("rollouts.samples_per_prompt", self.samples_per_prompt, 1)
        if self.samples_per_prompt > 1 and not self.sampling.temperature:
            raise ValueError(
                f"rollouts.samples_per_prompt is {self.samples_per_prompt} at"
                " rollouts.sampling.temperature 0, where all of them would be the same; the largest"
                " valid value is 1, or draw at a temperature above 0"
            )

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async with aclosing(verified(self._sampled(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _sampled(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        requests = [
            prompt_request(prompt, self.samples_per_prompt, self.sampling, context)
            for prompt in prompts
        ]
        prompt_of = {r.request_id: p for r, p in zip(requests, prompts, strict=True)}
        async for request, answer in context.generator.generate(requests):
            yield group_of(prompt_of[request.request_id], request, answer, context)
