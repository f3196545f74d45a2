"""Rectification: new continuations from just before the first wrong step (Step-DPO)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rlstep.checks import at_least, between
from rlstep.interfaces import Conversing, Labeller, RolloutContext, RolloutStrategy
from rlstep.pairs.first_error import first_error
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.requests import Branch, branch, continued
from rlstep.types import Failure, Group, Prompt, Rollout, Sampling, Verdict


@dataclass(frozen=True, kw_only=True)
class Rectify(RolloutStrategy):
    """Sample, find the first wrong step of wrong rollouts, sample again from the prefix before it.

    The online form of Step-DPO's pipeline (Lai et al. 2024, arXiv:2406.18629, 3.2): the paper asks
    a larger model for the error; here the PRM or Monte-Carlo values of the policy itself find it.
    Localisation needs a whole batch, so groups are yielded together.
    """

    continues: ClassVar[bool] = True

    base: RolloutStrategy = Independent()
    """How the first samples are drawn."""
    source: str = "prm"
    """'prm', or 'monte_carlo' to label the wrong rollouts by continuations."""
    monte_carlo: Labeller = MonteCarlo(own_outcome=False)
    """How steps are labelled where source is 'monte_carlo'. Rollouts are looked at because they
    went wrong, so to count that as a continuation of every step would be biased; it is the label of
    the last step alone."""
    threshold: float = 0.5
    """A step that scores under it is wrong."""
    rectifications: int = 4
    """Continuations from before each located error."""
    max_errors: int = 2
    """Wrong rollouts of a prompt whose first error is looked for and rectified."""

    def __post_init__(self) -> None:
        at_least("rollouts.rectifications", self.rectifications, 1)
        at_least("rollouts.max_errors", self.max_errors, 1)
        between("rollouts.threshold", self.threshold, 0.0, 1.0)
        if self.monte_carlo.source != "monte_carlo":
            raise ValueError(
                f"rollouts.monte_carlo {type(self.monte_carlo).__name__} makes"
                f" {self.monte_carlo.source!r}; it must be a labeller that makes 'monte_carlo'"
            )
        if self.source not in ("prm", "monte_carlo"):
            raise ValueError(
                f"rollouts.source is {self.source!r}; it is one of 'prm', 'monte_carlo'"
            )

    @property
    def sampling(self) -> Sampling:  # type: ignore[override]  # the base strategy's field
        return self.base.sampling

    @property
    def conversing(self) -> Conversing | None:
        return self.base.conversing

    @property
    def sources(self) -> frozenset[str]:  # type: ignore[override]
        """Monte-Carlo labels of wrong rollouts; the PRM scores every rollout again later on."""
        return frozenset({self.source} - {"prm"}) | self.base.sources

    @property
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """The PRM's, where it finds the errors."""
        return frozenset({self.source} & {"prm"})

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        groups = [group async for group in self.base.collect(prompts, context)]
        groups.sort(key=lambda group: group.prompt.prompt_id)
        wrong = [r for group in groups for r in self._wrong(group)]
        scored = {r.rollout_id: r for r in await self._score(wrong, context)}
        origins = [
            branch(rollout, step, self.rectifications, "fix", self.sampling, context)
            for rollout, step in self._locate(list(scored.values()))
        ]
        branches, failures = await _sample(origins, context)
        for group in groups:
            prompt_id = group.prompt.prompt_id
            extra = sorted(branches.get(prompt_id, []), key=lambda rollout: rollout.rollout_id)
            yield replace(
                group,
                rollouts=(*(scored.get(r.rollout_id, r) for r in group.rollouts), *extra),
                failures=(*group.failures, *failures.get(prompt_id, [])),
            )

    async def _score(self, wrong: list[Rollout], context: RolloutContext) -> list[Rollout]:
        if self.source == "monte_carlo":
            labelled = await self.monte_carlo.label(wrong, context)
            return [_with_verdict(rollout) for rollout in labelled]
        return await context.scorer.score_steps(wrong)

    def _wrong(self, group: Group) -> list[Rollout]:
        return [rollout for rollout in group.rollouts if _is_wrong(rollout)][: self.max_errors]

    def _locate(self, rollouts: Sequence[Rollout]) -> list[tuple[Rollout, int]]:
        """(rollout, first wrong step), where the scores show one."""
        scored = ((rollout, rollout.step_scores(self.source)) for rollout in rollouts)
        found = ((r, first_error(s, self.threshold)) for r, s in scored if s is not None)
        return [(rollout, error) for rollout, error in found if error is not None]


def _with_verdict(rollout: Rollout) -> Rollout:
    """What follows the last step is the verdict, which is its label if it has none."""
    scores = rollout.step_scores("monte_carlo")
    if scores is None or scores.n is None or not len(scores.n) or scores.n[-1]:
        return rollout
    n = scores.n.copy()
    n[-1] = 1  # k and the value are 0 there: these rollouts are wrong
    return rollout.with_scores(monte_carlo=replace(scores, n=n))


def _is_wrong(rollout: Rollout) -> bool:
    return rollout.outcome is not None and rollout.outcome.verdict is not Verdict.CORRECT


async def _sample(
    origins: Sequence[Branch], context: RolloutContext
) -> tuple[dict[str, list[Rollout]], dict[str, list[Failure]]]:
    """Verified branches and failures, by prompt_id."""
    asking = Asking(context.generator.generate)
    tasks = [asyncio.create_task(continued(o, asking.ask, context)) for o in origins]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asking.close()
    made: dict[str, list[Rollout]] = {}
    failures: dict[str, list[Failure]] = {}
    for origin, answer in zip(origins, answers, strict=True):
        prompt_id = origin.parent.prompt.prompt_id
        if isinstance(answer, Failure):
            failures.setdefault(prompt_id, []).append(answer)
        else:
            made.setdefault(prompt_id, []).extend(answer)
    return made, failures
