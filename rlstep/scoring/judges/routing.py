"""Who decides over a rollout: a judge, by the prompt's metadata, or else the verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rlstep.checks import named
from rlstep.interfaces import Ask, AskContext, Judge, JudgeModel, PromptSet, ScoreRole, Verifier
from rlstep.plugins import crashed, of_a_role
from rlstep.types import Failure, History, Observation, Prompt, Rollout, Score


@dataclass(frozen=True, kw_only=True)
class Route:
    """Prompts by one entry of their metadata."""

    key: str = "scorer"
    """Of the prompt's meta: a column of the data, such as 'scorer', 'domain' or 'subject'."""
    values: tuple[str, ...]
    """What stands there."""

    def __post_init__(self) -> None:
        named("route.key", self.key)
        if not self.values:
            raise ValueError("route.values is (); name at least one value, for instance 'judge'")

    def matches(self, prompt: Prompt) -> bool:
        return str(prompt.meta.get(self.key)) in self.values


class RoutedScorer:
    """A scorer whose verdicts come from judges where one takes the prompt.

    Implements `interfaces.ScoreRole` around another one, so every rollout strategy, labeller and
    evaluation meets the same outcomes, whoever decided.
    """

    def __init__(self, scorer: ScoreRole, judges: Sequence[tuple[Judge, Ask]]) -> None:
        self._scorer = scorer
        self._judges = judges
        self._opened = AsyncExitStack()

    @classmethod
    async def start(
        cls, scorer: ScoreRole, judges: Sequence[Judge], context: AskContext
    ) -> RoutedScorer:
        """Open every judge's model. Judges with equal models share one, and so its limits."""
        async with AsyncExitStack() as stack:
            asks: dict[JudgeModel, Ask] = {}
            for judge in judges:
                if judge.model not in asks:
                    opened = judge.model.open(context)
                    asks[judge.model] = await stack.enter_async_context(opened)
            routed = cls(scorer, [(judge, asks[judge.model]) for judge in judges])
            routed._opened = stack.pop_all()
        return routed

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.verify`. The deciders work at the same time."""
        shares: dict[int | None, list[int]] = {}
        for position, rollout in enumerate(rollouts):
            shares.setdefault(self._decider(rollout.prompt), []).append(position)
        decided = await asyncio.gather(
            *(self._decide(who, [rollouts[i] for i in share]) for who, share in shares.items())
        )
        ordered = list(rollouts)
        for share, results in zip(shares.values(), decided, strict=True):
            for position, rollout in zip(share, results, strict=True):
                ordered[position] = rollout
        return ordered

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.score_steps`."""
        return await self._scorer.score_steps(rollouts)

    async def observe(self, history: History) -> Observation | Failure:
        """See `interfaces.ScoreRole.observe`."""
        return await self._scorer.observe(history)

    def leave(self, history: History) -> None:
        """See `interfaces.ScoreRole.leave`."""
        self._scorer.leave(history)

    async def close(self) -> None:
        """Close the judges' models. The scorer inside is its owner's to close."""
        await self._opened.aclose()

    def _decider(self, prompt: Prompt) -> int | None:
        """The position of the first judge that takes the prompt, None for the verifier."""
        takers = (i for i, (judge, _) in enumerate(self._judges) if judge.takes(prompt))
        return next(takers, None)

    async def _decide(self, who: int | None, rollouts: list[Rollout]) -> list[Rollout]:
        if who is None:
            return await self._scorer.verify(rollouts)
        judge, ask = self._judges[who]
        outcomes: Sequence[Score]
        try:
            outcomes = await judge.judge(rollouts, ask)
        except Exception as error:
            if of_a_role(error):
                raise
            outcomes = [crashed(error, judge)] * len(rollouts)
        return [r.with_scores(outcome=o) for r, o in zip(rollouts, outcomes, strict=True)]


def check_routes(prompts: PromptSet, judges: Sequence[Judge], verifier: Verifier) -> None:
    """Refuse problems over which nobody can decide.

    Args:
        verifier: of what no judge takes.

    Raises:
        ValueError: naming the prompt and what it lacks.
    """
    for prompt in (*prompts.train, *prompts.held_out):
        judge = next((judge for judge in judges if judge.takes(prompt)), None)
        if judge is not None:
            judge.check(prompt)
        elif not prompt.answer:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has no reference answer, and none of the"
                f" {len(judges)} judges takes it (its meta has {sorted(prompt.meta)}); give it an"
                " answer, or give the run a judge whose route matches it"
            )
        else:
            verifier.check_prompt(prompt)
