"""A scorer that dies is started again and asked once more: it has no state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import ray

from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.config import ScorerConfig
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.types import Action, Failure, History, Observation, Rollout
from tests.actors.stand_ins import Worker
from tests.builders import make_prompt, make_rollout

VERIFIER = ExactAnswer(pattern=r"(\d+) $")


class Group(ScorerGroup):
    """Its actors end as the entries say, one actor after the other; those after them live."""

    def __init__(self, ends: list[str], replicas: int) -> None:
        self.ends, self.created = ends, 0
        super().__init__(ScorerConfig(replicas=replicas, deadline_s=600.0), VERIFIER, [], {})

    def _create(self, replica: int) -> Any:
        ends_in = self.ends[self.created] if self.created < len(self.ends) else ""
        self.created += 1
        return ray.remote(Worker).options(num_cpus=0, max_concurrency=100).remote(ends_in)


def batch(name: str, number: int = 2) -> list[Rollout]:
    prompt = make_prompt(name)
    return [make_rollout(f"{name}/{j}", [[11], [42]], prompt=prompt) for j in range(number)]


@pytest.mark.parametrize("batches", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.slow), 2])
async def test_one_that_dies_while_it_verifies(
    ray_cluster: None, replicas: int, batches: int
) -> None:
    """At lag 1 several batches wait for the same replica."""
    group = Group(["verify"] * replicas, replicas)
    try:
        verified = await asyncio.gather(*(group.verify(batch(f"{i}")) for i in range(batches)))
        outcomes = [r.outcome.value for rollouts in verified for r in rollouts if r.outcome]
        assert outcomes == [1.0, 1.0] * batches
        assert group.created == replicas + min(replicas, batches)
    finally:
        await group.close()


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_one_that_was_killed_between_two_batches(ray_cluster: None, replicas: int) -> None:
    group = Group([], replicas)
    try:
        await group.verify(batch("before"))
        for actor in group._actors:
            ray.kill(actor)
        for name in ("after", "later"):
            assert [r.outcome.value for r in await group.verify(batch(name)) if r.outcome] == [1, 1]
    finally:
        await group.close()


async def test_a_batch_that_two_were_lost_on_is_a_failure_not_a_score(ray_cluster: None) -> None:
    group = Group(["verify", "verify"], 1)
    try:
        for rollout in await group.verify(batch("bad")):
            failure = rollout.scores["outcome"]
            assert isinstance(failure, Failure) and failure.reason == "scorer_lost"
            assert failure.detail.startswith("scorer 0: ") and rollout.outcome is None
        assert all(r.outcome for r in await group.verify(batch("good")))
    finally:
        await group.close()


async def test_one_that_cannot_start_ends_the_run_with_its_cause(ray_cluster: None) -> None:
    group = Group(["start"] * 9, 1)
    with pytest.raises(RuntimeError, match="scorer 0 does not start") as caught:
        await group.verify(batch("a"))
    assert "no verifier process could start" in str(caught.value) and group.created == 2


async def test_a_lost_one_does_not_stop_the_end_of_a_run(ray_cluster: None) -> None:
    group = Group([], 2)
    await asyncio.gather(group.verify(batch("a")), group.verify(batch("b")))
    ray.kill(group._actors[0])
    await group.close()


async def test_one_that_dies_while_it_observes(ray_cluster: None) -> None:
    """What it had answered stays; the rest is asked once more."""
    group = Group(["observe"], 1)
    said = Action(text="a", token_ids=())
    histories = [
        History(episode_id=f"{i}", prompt=make_prompt(), seed=0, actions=(said,)) for i in range(6)
    ]
    try:
        told = await asyncio.gather(*map(group.observe, histories))
        assert told == [Observation(text=f"{i}") for i in range(6)] and group.created == 2
        group.leave(histories[0])
        await asyncio.sleep(0)  # it is sent, and nobody waits
    finally:
        await group.close()
