"""Scores from a service of one's own, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from random import Random
from typing import Any

from rlstep.checks import at_least, json_able, named
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.processes.http_call import HttpPolicy, HttpService, Post, check_url
from rlstep.types import Failure, Rollout, RolloutScore

Outcome = RolloutScore | Failure
Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RemoteScores(Labeller):
    """Sends rollouts to a URL in batches, and takes one number back for each.

    POST {"items": [{"id", "prompt", "completion", "answer", "meta"}, ...]} is answered by
    {"scores": [number, ...]}, as many and in that order. A batch that gets no such answer is a
    Failure for each of its rollouts, with a reason of `http_call`; a single score that is no number
    in the range, NaN included, is a Failure('bad_response') for its rollout alone.

    A prompt's meta is sent whole, so that a service misses nothing that its task kept; `label`
    raises a ValueError, before the first call, if an entry is no JSON (a date, an array).
    """

    url: str
    """Where batches are sent to. It holds no password."""
    smallest: float = 0.0
    """Scores lie in [smallest, largest]."""
    largest: float = 1.0
    """A score outside of the two bounds is a Failure."""
    key_variable: str = ""
    """Environment variable that holds the key, sent as a bearer token; '' sends none."""
    batch: int = 16
    """Rollouts of one call."""
    concurrency: int = 4
    """Calls under way at the same time."""
    http: HttpPolicy = HttpPolicy()
    """How long the service is waited for, and when it is left alone."""
    source: str = "remote"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        check_url("remote_scores.url", self.url)
        named("remote_scores.source", self.source)
        at_least("remote_scores.batch", self.batch, 1)
        at_least("remote_scores.concurrency", self.concurrency, 1)
        if not (isfinite(self.smallest) and isfinite(self.largest)):
            raise ValueError(
                f"remote_scores has the range [{self.smallest}, {self.largest}]; it must be finite"
            )
        at_least("remote_scores.largest", self.largest, self.smallest)
        if self.key_variable and not os.environ.get(self.key_variable):
            raise ValueError(
                f"remote_scores.key_variable is {self.key_variable!r}, which the environment does"
                " not have; set it, or '' for a service without a key"
            )

    @cached_property
    def _service(self) -> HttpService:
        """Kept between batches: its circuit breaker remembers."""
        return HttpService(self.url, self.http)

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        items = [_item(rollout) for rollout in rollouts]
        batches = [items[i : i + self.batch] for i in range(0, len(items), self.batch)]
        gate = asyncio.Semaphore(self.concurrency)
        key = os.environ[self.key_variable].strip() if self.key_variable else ""
        async with self._service.open(key) as post:

            async def ask(index: int, batch: Sequence[Item]) -> list[Outcome]:
                name = f"{context.scope}/{self.source}/{index}"
                async with gate:
                    return await self._ask(post, batch, request_seed(context.seed, name))

            found = await asyncio.gather(*(ask(i, batch) for i, batch in enumerate(batches)))
        scores = [score for batch in found for score in batch]
        return [
            rollout.with_scores(**{self.source: score})
            for rollout, score in zip(rollouts, scores, strict=True)
        ]

    async def _ask(self, post: Post, batch: Sequence[Item], seed: int) -> list[Outcome]:
        answer = await post({"items": batch}, Random(seed))
        if isinstance(answer, Failure):
            return [answer] * len(batch)
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list) or len(scores) != len(batch):
            found = f"{len(scores)} scores" if isinstance(scores, list) else "no list of scores"
            return [_bad(f"{found} for {len(batch)} items")] * len(batch)
        return [self._score(value) for value in scores]

    def _score(self, value: Any) -> Outcome:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return _bad(f"{type(value).__name__} for a number")
        if not self.smallest <= value <= self.largest:  # nor is NaN
            return _bad(f"{str(value)[:20]} is not in [{self.smallest:g}, {self.largest:g}]")
        return RolloutScore(value=float(value))


def _bad(detail: str) -> Failure:
    return Failure(reason="bad_response", detail=detail)


def _item(rollout: Rollout) -> Item:
    """What is sent of a rollout.

    Raises:
        ValueError: an entry of its prompt's meta is no JSON; names both.
    """
    prompt = rollout.prompt
    for key, value in prompt.meta.items():
        try:
            json_able(key, value)
        except ValueError as error:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has meta {key!r}, which cannot be sent: {error};"
                " leave it out, or make it a string or a number in the data"
            ) from error
    return {
        "id": rollout.rollout_id,
        "prompt": prompt.text,
        "completion": rollout.completion.text,
        "answer": prompt.answer,
        "meta": dict(prompt.meta),
    }
