"""Judgments of both kinds on demand: some are told which side to argue for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import Answer, RolloutContext, RolloutStrategy
from rlstep.rollouts.requests import group_of, prompt_request, request_seed
from rlstep.rollouts.verification import verified
from rlstep.types import (
    Failure,
    Group,
    OutcomeScore,
    Prompt,
    Request,
    Rollout,
    Sampling,
    TokenIds,
    Verdict,
)


@dataclass(frozen=True, kw_only=True)
class Hinted(RolloutStrategy):
    """Completions of each prompt, and further ones that were told the verdict to come to.

    The hint-driven sampling of Con-J (Ye et al. 2024, arXiv:2410.03742): where a judge always says
    the same, a hint makes it argue for the other side too. Prompts carry, as `meta['hints']`, token
    ids of the same prompt with a hint, by the verdict hinted at (`tasks.BetterAnswer` makes them).

    What was written under a hint becomes a rollout of the prompt without it, with a 'hint' score:
    the verdict it was told, and whether that is the right one. It counts as a branch, so accuracy
    leaves it out. Its sampler's logprobs are those under the hint: for preference losses, which
    read none of them, not for policy gradients.
    """

    sources: ClassVar[frozenset[str]] = frozenset({"hint"})
    own_prompts: ClassVar[bool] = False

    samples_per_prompt: int = 8
    """Completions without a hint."""
    hinted: int = 1
    """Completions under each hint."""
    sampling: Sampling = Sampling()
    """Lengths, temperature and stops of all completions."""

    def __post_init__(self) -> None:
        at_least("rollouts.samples_per_prompt", self.samples_per_prompt, 1)
        at_least("rollouts.hinted", self.hinted, 1)

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async with aclosing(verified(self._sampled(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _sampled(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        """One group a prompt, once all its requests are answered."""
        wanted = {p.prompt_id: self._requests(p, context) for p in prompts}
        prompt_of = {
            request.request_id: prompt
            for prompt in prompts
            for request in wanted[prompt.prompt_id].values()
        }
        answers: dict[str, dict[str, Answer]] = {prompt.prompt_id: {} for prompt in prompts}
        every = [request for requests in wanted.values() for request in requests.values()]
        async for request, answer in context.generator.generate(every):
            prompt = prompt_of[request.request_id]
            found = answers[prompt.prompt_id]
            found[request.request_id] = (request, answer)
            if len(found) == len(wanted[prompt.prompt_id]):
                by_hint = {h: found[r.request_id] for h, r in wanted[prompt.prompt_id].items()}
                yield _group(prompt, by_hint, context)

    def _requests(self, prompt: Prompt, context: RolloutContext) -> dict[str, Request]:
        """By hint; '' is the one without."""
        hints: Mapping[str, TokenIds] | None = prompt.meta.get("hints")
        if not hints:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has no 'hints' in its meta; rollouts Hinted needs a"
                " task that makes them, such as BetterAnswer"
            )
        plain = prompt_request(prompt, self.samples_per_prompt, self.sampling, context)
        requests = {"": plain}
        for hint, token_ids in hints.items():
            name = f"{plain.request_id}/hint{hint}"
            requests[hint] = replace(
                plain,
                request_id=name,
                prefix_ids=token_ids,
                n=self.hinted,
                seed=request_seed(context.seed, name),
            )
        return requests


def _group(prompt: Prompt, answers: Mapping[str, Answer], context: RolloutContext) -> Group:
    """Rollouts without a hint first, then those of each hint."""
    rollouts: list[Rollout] = []
    failures: list[Failure] = []
    for hint, (request, answer) in answers.items():
        made = group_of(prompt, request, answer, context)
        plain = answers[""][0]
        rollouts += [_told(r, hint, plain) if hint else r for r in made.rollouts]
        failures += made.failures
    return Group(prompt=prompt, rollouts=tuple(rollouts), failures=tuple(failures))


def _told(rollout: Rollout, hint: str, plain: Request) -> Rollout:
    right = hint == rollout.prompt.answer
    score = OutcomeScore(
        value=float(right), verdict=Verdict.CORRECT if right else Verdict.WRONG, extracted=hint
    )
    return replace(rollout, parent=f"{plain.request_id}/0").with_scores(hint=score)
