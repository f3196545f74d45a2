"""The real scorer role: batches that come all at once, and judges beside it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.config import ScorerConfig
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.routing import RoutedScorer
from rlstep.types import Action, Failure, History, Observation
from tests.builders import make_prompt, make_rollout
from tests.environments.awkward import Awkward
from tests.scoring.judges.judge_kit import Scripted, ask_context
from tests.scoring.processes.reading import WithBoth


async def test_many_batches_at_once(ray_cluster: None):
    config = ScorerConfig(replicas=2, deadline_s=30.0)
    group = ScorerGroup(config, ExactAnswer(pattern=r"(\d+) $"), [], {})
    try:
        batches = [
            [make_rollout(f"{i}/{j}", [[11], [42 + j]], prompt=make_prompt(f"{i}")) for j in (0, 1)]
            for i in range(20)
        ]
        judge = OutcomeJudge(model=Scripted(say=lambda _: "Verdict: CORRECT"))
        routed = await RoutedScorer.start(group, [judge], ask_context())
        results = await asyncio.gather(*(routed.verify(batch) for batch in [*batches, []]))
        assert results.pop() == []
        for batch, verified in zip(batches, results, strict=True):
            assert [r.rollout_id for r in verified] == [r.rollout_id for r in batch]
            assert [r.outcome.value for r in verified if r.outcome] == [1.0, 0.0]
    finally:
        await group.close()


async def test_a_verifier_reads_the_row_of_the_prompt(ray_cluster: None):
    group = ScorerGroup(ScorerConfig(deadline_s=30.0), WithBoth(), [], {})
    try:
        prompts = [replace(make_prompt(str(i)), meta={"level": i}) for i in range(5)]
        rollouts = [make_rollout(p.prompt_id, [[11]], prompt=p) for p in prompts]
        verified = await group.verify(rollouts)
    finally:
        await group.close()
    said = [json.loads(r.outcome.extracted) for r in verified if r.outcome]
    assert said == [["stop", i, 1] for i in range(5)]


async def test_many_turns_at_once(ray_cluster: None):
    """Through real actors and the environment's own processes."""
    config = ScorerConfig(replicas=2, deadline_s=60.0)
    group = ScorerGroup(config, ExactAnswer(pattern=r"(\d+) $"), [], {}, Awkward())

    def history(i: int, *words: str) -> History:
        actions = tuple(Action(text=word, token_ids=()) for word in words)
        return History(episode_id=f"{i}", prompt=make_prompt(), seed=5, actions=actions)

    try:
        first = await asyncio.gather(*(group.observe(history(i, "a")) for i in range(30)))
        assert first == [Observation(text="42/5:1:a:[]", reward=0.5)] * 30
        words = ["raise" if i % 3 else "b" for i in range(30)]
        asked = (group.observe(history(i, "a", word)) for i, word in enumerate(words))
        second = await asyncio.gather(*asked)
        assert second[::3] == [Observation(text="42/5:2:b:[]", reward=1.0)] * 10
        failures = [answer.reason for answer in second if isinstance(answer, Failure)]
        assert failures == ["crashed"] * 20
        for i in range(0, 30, 3):
            group.leave(history(i, "a", "b"))
        again = await group.observe(history(0, "a", "b", "c"))  # replayed
        assert again == Observation(text="42/5:3:c:[]", reward=1.5)
    finally:
        await group.close()
