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
from tests.builders import make_prompt, make_rollout
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
