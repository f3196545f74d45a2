"""The training loop with fake roles: what is trained, counted, dropped and reported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.losses.grpo import Grpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.requests import regroup
from rlstep.running.loop import drop_stale, train
from rlstep.running.selection import Selection
from rlstep.scoring.rewards.soft_overlong import SoftOverlong
from rlstep.scoring.rewards.weighted_sum import WeightedSum
from rlstep.scoring.step_models.prm import Prm
from rlstep.testing.roles import FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompt, small_prompts
from rlstep.types import AdvantageSamples, Failure, Group, PairSamples, Rollout
from tests.builders import make_counts, make_group, make_rollout


def first_child_is_right(prefix: str, child: int, seed: int) -> str:
    """Every prompt's answer is 5: child 0 finds it, the others answer 9."""
    return "2+3=5\n#5" if child == 0 else "2+3=9\n#9"


def always_right(prefix: str, child: int, seed: int) -> str:
    return "2+3=5\n#5"


class Reports:
    """The `report` of a test."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, Any]] = []
        self.groups: list[Sequence[Group]] = []

    def __call__(self, metrics: Any, groups: Sequence[Group]) -> None:
        self.metrics.append(dict(metrics))
        self.groups.append(groups)


async def run(
    config: Config, roles: FakeRoles, prompts: int = 6, first: int = 0
) -> tuple[Reports, list[int]]:
    reports = Reports()
    selection = Selection(config, small_prompts(prompts))
    done = train(config, roles, selection, reports, first)
    return reports, [iteration async for iteration in done]


def roles_with(config: Config, write: Any = first_child_is_right, **scorer: Any) -> FakeRoles:
    return FakeRoles(config, FakeGenerator(write), FakeScorer(**scorer))


# --- iterations ----------------------------------------------------------------------------------


async def test_each_iteration_collects_trains_and_reports():
    config = small_config()  # 3 iterations of 2 prompts, 2 samples each
    roles = roles_with(config)
    reports, done = await run(config, roles)
    assert done == [1, 2, 3]
    assert [m["iteration"] for m in reports.metrics] == [1, 2, 3]
    assert roles.version == 3
    sampled = [metrics["rollout/sampled_total"] for metrics in reports.metrics]
    assert 0 < sampled[0] < sampled[1] < sampled[2] == roles.sampled
    for metrics, samples in zip(reports.metrics, roles.trained, strict=True):
        # One right and one wrong rollout a prompt: accuracy 1/2, and one pair each.
        assert metrics["rollout/groups"] == 2 and metrics["rollout/rollouts"] == 4
        assert metrics["rollout/accuracy"] == 0.5 and metrics["rollout/failures"] == 0
        assert metrics["rollout/policy_lag_max"] == 0
        assert isinstance(samples, PairSamples) and len(samples.pairs) == 2
        assert metrics["train/sequences"] == 4
        parts = [metrics[f"time/{part}"] for part in ("collect", "score", "train")]
        assert all(part >= 0 for part in parts) and sum(parts) <= metrics["time/iteration"]


async def test_every_prompt_is_sampled_once_an_epoch():
    config = small_config()
    reports, _ = await run(config, roles_with(config))
    seen = [group.prompt.prompt_id for groups in reports.groups for group in groups]
    assert sorted(seen) == list("abcdef")


async def test_a_resumed_run_goes_on_with_the_same_requests():
    config = small_config()
    whole, resumed = roles_with(config), roles_with(config)
    await run(config, whole)
    reports, done = await run(config, resumed, first=2)
    assert done == [3] and reports.metrics[0]["iteration"] == 3
    asked = [(r.request_id, r.seed) for r in whole.generator.asked]
    assert [(r.request_id, r.seed) for r in resumed.generator.asked] == asked[4:]


async def test_a_finished_run_does_nothing():
    config = small_config()
    roles = roles_with(config)
    reports, done = await run(config, roles, first=3)
    assert (reports.metrics, done, roles.generator.asked, roles.trained) == ([], [], [], [])


async def test_groups_are_sorted_whatever_finished_first():
    config = small_config(iterations=1, prompts_per_iteration=6)
    order = [f"0/{name}" for name in "fdbace"]
    gates = {request_id: asyncio.Event() for request_id in order}
    gates[order[0]].set()

    class OneByOne(FakeScorer):
        """Lets the next request finish once the last one is verified."""

        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            for request_id in order[len(roles.generator.answered) :][:1]:
                gates[request_id].set()
            return await super().verify(rollouts)

    roles = FakeRoles(config, FakeGenerator(first_child_is_right, gates=gates), OneByOne())
    free = roles_with(config)
    reports, _ = await run(config, roles)
    await run(config, free)
    assert roles.generator.answered == order
    assert [g.prompt.prompt_id for g in reports.groups[0]] == list("abcdef")
    ids = [[s.sequence_id for s in r.trained[0].sequences] for r in (roles, free)]
    assert ids[0] == ids[1]


async def test_a_batch_without_a_pair_trains_nothing_and_goes_on():
    config = small_config()
    roles = roles_with(config, always_right)
    reports, done = await run(config, roles)
    assert done == [1, 2, 3]
    assert [len(samples.sequences) for samples in roles.trained] == [0, 0, 0]
    assert [m["rollout/without_signal"] for m in reports.metrics] == [1.0, 1.0, 1.0]


# --- scores, labels, failures --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EveryRollout(Labeller):
    """Every step was continued once, and right. It sees no PRM score: labels come from the policy
    alone."""

    source: ClassVar[str] = "monte_carlo"

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        assert all("prm" not in rollout.scores for rollout in rollouts)
        return [
            r.with_scores(monte_carlo=make_counts([1] * len(r.steps), [1] * len(r.steps)))
            for r in rollouts
        ]


async def test_step_scores_reach_the_samples_and_labels_the_prm():
    learner = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
    config = small_config(
        samples=OutcomePairs(step_source="prm"),
        labellers=(EveryRollout(),),
        step_models=(Prm(learner=learner, loss=StepLabelLoss()),),
    )
    roles = roles_with(config, prm=lambda rollout: [0.25] * len(rollout.steps))
    reports, _ = await run(config, roles)
    assert all((s.step_scores == 0.25).all() for x in roles.trained for s in x.sequences)
    assert [len(rollouts) for rollouts in roles.rollouts] == [4, 4, 4]
    # Labels and the PRM's own scores meet on one record.
    for rollout in (rollout for x in roles.rollouts for rollout in x):
        assert {"outcome", "prm", "monte_carlo"} <= set(rollout.scores)
    assert reports.metrics[0]["rollout/step_score/prm"] == 0.25


async def test_failures_are_counted_and_never_scored():
    config = small_config(iterations=1, prompts_per_iteration=6)
    roles = FakeRoles(
        config,
        FakeGenerator(first_child_is_right, failing={"0/a"}),
        FakeScorer(timeouts={"0/b/0"}),
    )
    reports, _ = await run(config, roles)
    metrics = reports.metrics[0]
    # 'a' was never generated; of 'b' only the wrong rollout has a verdict: 4 groups of 1/2 and
    # one of 0 make (4 * 0.5 + 0) / 5 = 0.4.
    assert metrics["rollout/rollouts"] == 10
    assert metrics["rollout/accuracy"] == pytest.approx(0.4)
    assert metrics["rollout/failures/generator_lost"] == 1
    assert metrics["rollout/failures/timeout"] == 1
    assert {s.prompt_id for s in roles.trained[0].sequences} == set("cdef")


async def test_a_sum_of_rewards_is_what_is_trained_and_a_failed_part_is_no_reward():
    config = small_config(
        iterations=1,
        prompts_per_iteration=6,
        labellers=(
            SoftOverlong(longest=9, buffer=2),
            WeightedSum(weights={"outcome": 1.0, "length": 0.5}),
        ),
        samples=GroupAdvantages(source="reward", std="none"),
        loss=Grpo(),
    )
    roles = roles_with(config, timeouts={"0/a/0"})
    reports, _ = await run(config, roles)
    metrics, (samples,) = reports.metrics[0], roles.trained
    # 9 tokens each, so length is -1: rewards are 1 - 1/2 and 0 - 1/2, five right and six wrong.
    assert metrics["rollout/score/length"] == -1.0
    assert metrics["rollout/score/reward"] == pytest.approx((5 * 0.5 - 6 * 0.5) / 11)
    assert metrics["rollout/failures/timeout"] == metrics["rollout/failures/part_failed"] == 1
    assert isinstance(samples, AdvantageSamples) and samples.groups_without_signal == 1
    # What is left of a's group has nothing to be compared with, and counts in the mean.
    assert {s.prompt_id for s in samples.sequences} == set("abcdef")
    assert {column[-1] for column in samples.advantages} == {0.5, -0.5, 0.0}


def test_regrouping_keeps_groups_apart():
    def one(name: str, rollouts: int) -> Group:
        prompt = small_prompt(name)
        made = tuple(make_rollout(f"{name}{i}", [[1]], prompt=prompt) for i in range(rollouts))
        return Group(prompt=prompt, rollouts=made)

    groups = [one("a", 2), one("b", 0), one("c", 1)]
    changed = [replace(r, rollout_id=r.rollout_id.upper()) for g in groups for r in g.rollouts]
    result = regroup(groups, changed)
    assert [[r.rollout_id for r in g.rollouts] for g in result] == [["A0", "A1"], [], ["C0"]]


# --- lag -----------------------------------------------------------------------------------------


def test_drop_stale_goes_by_the_oldest_token():
    fresh = make_rollout("fresh", [[1, 2]], versions=[(4, 0, 2)])
    straddling = make_rollout("straddling", [[1, 2]], versions=[(3, 0, 1), (4, 1, 2)])
    group = replace(make_group(fresh, straddling), failures=(Failure(reason="timeout"),))
    kept = drop_stale(group, oldest=4)
    assert [r.rollout_id for r in kept.rollouts] == ["fresh"]
    assert [f.reason for f in kept.failures] == ["timeout", "stale"]
    assert drop_stale(group, oldest=3).rollouts == group.rollouts


async def test_lag_2_generates_later_batches_while_an_earlier_one_is_trained():
    config = small_config(iterations=4, max_policy_lag=2)
    roles = roles_with(config)
    roles.may_train = asyncio.Event()
    reports = Reports()
    last_of_2 = asyncio.Event()

    class Watched(FakeScorer):
        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            if rollouts and rollouts[0].iteration == 2:
                last_of_2.set()
            return await super().verify(rollouts)

    roles.scorer = Watched()
    async with aclosing(
        train(config, roles, Selection(config, small_prompts(8)), reports, 0)
    ) as done:
        first = asyncio.ensure_future(anext(done))
        await roles.training.wait()
        await last_of_2.wait()  # a group of batch 2 was generated
        assert not roles.trained and not first.done()  # and batch 0 is still in training
        assert max(int(r.request_id.split("/")[0]) for r in roles.generator.asked) == 2
        roles.may_train.set()
        assert await first == 1
        assert [iteration async for iteration in done] == [2, 3, 4]
    lags = [m["rollout/policy_lag_max"] for m in reports.metrics]
    # Batches 0, 1, 2 were written under version 0, and batch 3 under version 1 or later.
    assert lags[:3] == [0, 1, 2] and lags[3] <= 2


async def test_no_sample_over_the_bound_is_trained():
    """A group that version 0 wrote, held back at lag 1 until version 2 serves."""
    config = small_config(iterations=4, max_policy_lag=1)
    slow = "0/" + min(p.prompt_id for p in _batch_0(config))
    gate = asyncio.Event()
    generator = StartedEarly(first_child_is_right, gates={slow: gate})
    roles = FakeRoles(config, generator)
    reports = Reports()
    async with aclosing(
        train(config, roles, Selection(config, small_prompts(8)), reports, 0)
    ) as done:
        async for iteration in done:
            if iteration == 2:
                gate.set()
    generated = {r.rollout_id for r in roles.scorer.verified}
    trained = {s.sequence_id for samples in roles.trained for s in samples.sequences}
    assert {f"{slow}/0", f"{slow}/1"} <= generated - trained
    # Generated = trained + dropped, by id: both rollouts of the slow group, and nothing else.
    assert generated - trained == {f"{slow}/0", f"{slow}/1"} and trained <= generated
    assert len(generated) == 4 * 2 * 2
    stale = [m.get("rollout/failures/stale", 0) for m in reports.metrics]
    assert stale == [0, 0, 2, 0]
    assert all(m["rollout/policy_lag_max"] <= 1 for m in reports.metrics)


class StartedEarly(FakeGenerator):
    """Gated completions carry the version that served when they were asked for."""

    async def generate(self, requests: Any) -> Any:
        asked_at = self.version
        async for request, answer in super().generate(requests):
            if request.request_id in self.gates and not isinstance(answer, Failure):
                answer = tuple(
                    replace(c, versions=(replace(c.versions[0], version=asked_at),)) for c in answer
                )
            yield request, answer


def _batch_0(config: Config) -> list[Any]:
    from rlstep.curriculum.shuffled import batch_of_prompts

    return batch_of_prompts(small_prompts(8), 0, config.prompts_per_iteration, config.seed)


# --- the end -------------------------------------------------------------------------------------


async def test_leaving_the_loop_leaves_no_task():
    config = small_config(max_policy_lag=1)
    gates = {f"1/{name}": asyncio.Event() for name in "abcdef"}  # batch 1 never finishes
    roles = FakeRoles(config, FakeGenerator(first_child_is_right, gates=gates))
    async with aclosing(
        train(config, roles, Selection(config, small_prompts(6)), Reports(), 0)
    ) as done:
        assert await anext(done) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_a_role_ends_the_run():
    config = small_config()
    roles = roles_with(config)

    class Broken(FakeScorer):
        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            raise TimeoutError("scorer 0: verify did not finish within 61 s")

    roles.scorer = Broken()
    with pytest.raises(TimeoutError, match="scorer 0"):
        await run(config, roles)
    assert roles.trained == []
