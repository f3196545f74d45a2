"""The problems that the policy finds hard for their domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from rlstep.checks import at_least, between, named
from rlstep.curriculum.shuffled import batch_of_prompts, taken
from rlstep.interfaces import Choice, Curriculum, Draw
from rlstep.measuring.ties import tied
from rlstep.types import Prompt

_TIES = 2
"""Keeps the random order of ties apart from other draws."""


@dataclass(frozen=True, kw_only=True)
class PrePpo(Curriculum):
    """Pre-PPO prompt selection (arXiv:2503.22230): the hardest share, merged with the rest.

    Three phases. For `early` iterations only domains that a verifier can check, where some are
    named. Then one epoch of all prompts, by which each is measured. From then on a share `hard` of
    every batch is of those kept, the rest of all others.

    A prompt's score is its mean over the newest rollouts that were measured: of the current policy
    rather than of an older one. Scores are standardised inside each domain,

        z = (score - mean of the domain) / standard deviation of the domain,

    over the domain's measured prompts, and the prompts of the lowest z are kept, so that a domain
    of low raw scores is not kept whole. In a domain whose scores are all equal every z is 0. Ties
    are broken at random by the seed, the same way in every iteration.
    """

    source: str = "outcome"
    """Of the scores: verdicts, or a reward or step model's; higher is better."""
    domain: str = "task"
    """The entry of a prompt's meta that names its domain, as `TaskMixture` writes it."""
    share: float = 0.1
    """Of all prompts, that is kept."""
    hard: float = 0.5
    """Of a batch, that is drawn from those kept; 1 leaves out the others."""
    first: tuple[str, ...] = ()
    """Domains that come alone in the first iterations."""
    early: int = 0
    """How many iterations those are."""

    def __post_init__(self) -> None:
        named("curriculum.source", self.source, "scores, for instance 'outcome'")
        named("curriculum.domain", self.domain, "entry of meta, for instance 'task'")
        between("curriculum.share", self.share, 0.0, 1.0)
        between("curriculum.hard", self.hard, 0.0, 1.0)
        at_least("curriculum.early", self.early, 0)
        if bool(self.first) != bool(self.early):
            raise ValueError(
                f"curriculum.first is {self.first} and curriculum.early {self.early}; give both, or"
                " () and 0"
            )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({self.source})

    def check(self, prompts: Sequence[Prompt], draw: Draw) -> None:
        super().check(prompts, draw)
        domains: dict[str, int] = {}
        for prompt in prompts:
            if self.domain not in prompt.meta:
                raise ValueError(
                    f"curriculum.domain is {self.domain!r}, and prompt {prompt.prompt_id!r} has no"
                    f" such entry in its meta; it has {sorted(prompt.meta)}"
                )
            name = str(prompt.meta[self.domain])
            domains[name] = domains.get(name, 0) + 1
        if lost := sorted(set(self.first) - domains.keys()):
            raise ValueError(
                f"curriculum.first has {lost[0]!r}, and there are the domains {sorted(domains)}"
            )
        early = sum(domains[name] for name in self.first)
        if self.early and early < draw.size + draw.further:
            raise ValueError(
                f"curriculum.first {self.first} has {early} training problems, fewer than"
                f" prompts_per_iteration {draw.size} + further_prompts {draw.further}"
            )
        self._check_sizes(len(prompts), draw)

    def _check_sizes(self, number: int, draw: Draw) -> None:
        kept, hard = self._kept(number), self._hard(draw)
        wanted, others = hard + draw.further, draw.size - hard
        if kept < wanted:
            raise ValueError(
                f"curriculum.share is {self.share}, which keeps {kept} of {number} training"
                f" problems, and a batch takes {wanted} of them; the smallest valid value is"
                f" {ceil(1000 * wanted / number) / 1000}"
            )
        if number - kept < others:
            raise ValueError(
                f"curriculum.share is {self.share}, which leaves {number - kept} of {number}"
                f" training problems, and a batch takes {others} of them; raise curriculum.hard, or"
                f" give at most {(number - others) * 1000 // number / 1000}"
            )

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        if draw.iteration < self.early:
            pool = [p for p in prompts if str(p.meta[self.domain]) in self.first]
            return Choice(prompts=taken(pool, draw))
        after = replace(draw, iteration=draw.iteration - self.early)
        if after.iteration < ceil(len(prompts) / draw.size):
            return Choice(prompts=taken(prompts, after))
        scores = {
            m.prompt_id: m.scores[self.source] for m in draw.measured if self.source in m.scores
        }
        hardest = self.ranked(prompts, scores, draw.seed)[: self._kept(len(prompts))]
        kept = {prompt.prompt_id for prompt in hardest}
        others = [prompt for prompt in prompts if prompt.prompt_id not in kept]
        return self._merged(hardest, others, after)

    def ranked(
        self, prompts: Sequence[Prompt], scores: Mapping[str, float], seed: int
    ) -> list[Prompt]:
        """The prompts that have a score, by prompt_id, the hardest for its domain first."""
        order = np.random.default_rng([seed, _TIES]).permutation(len(prompts))
        there = [prompts[i] for i in order if prompts[i].prompt_id in scores]
        values = np.array([scores[prompt.prompt_id] for prompt in there], dtype=np.float64)
        domains = np.array([str(prompt.meta[self.domain]) for prompt in there])
        standard = np.zeros(len(there))
        for domain in np.unique(domains):
            inside = domains == domain
            if not tied(values[inside]):
                centred = values[inside] - values[inside].mean()
                standard[inside] = centred / values[inside].std()
        return [there[i] for i in np.argsort(standard, kind="stable")]

    def _merged(self, hardest: list[Prompt], others: list[Prompt], draw: Draw) -> Choice:
        """Of both as many as belong into a batch; prompts that could not be measured are among the
        others, and where they are many these take the places of those kept."""
        hard = min(self._hard(draw), len(hardest))
        first = taken(hardest, replace(draw, size=hard)) if hard else []
        rest = draw.size - hard
        second = batch_of_prompts(others, draw.iteration, rest, draw.seed) if rest else []
        batch = [*first[:hard], *second, *first[hard:]]
        return Choice(prompts=batch, metrics={"hard": hard / draw.size, "kept": len(hardest)})

    def _kept(self, number: int) -> int:
        return round(self.share * number)

    def _hard(self, draw: Draw) -> int:
        return round(self.hard * draw.size)
