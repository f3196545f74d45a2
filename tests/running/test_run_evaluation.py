"""What a run keeps between its evaluations: the frozen probe of the PRM."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from rlstep.config import EvaluationConfig, LearnerConfig, ModelConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.measuring.monitors import Monitors, Thresholds
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.running.checkpoint import Checkpoints
from rlstep.running.run import Run
from rlstep.scoring.step_models.prm import Prm
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config

TASK = Arithmetic(operations=2, train=4, evaluation=8)
PROMPTS = TASK.load(TOKENIZER, 64)
SCALAR = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
CONFIG = small_config(
    task=TASK,
    labellers=(MonteCarlo(),),
    step_models=(Prm(learner=SCALAR, loss=StepLabelLoss()),),
    evaluation=EvaluationConfig(problems=6, prm_problems=3),
    monitors=Monitors(thresholds=Thresholds(drift=0.2)),
)


class Records:
    """The reporter of a test."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def iteration(self, record: dict[str, Any]) -> None:
        self.records.append(record)


def started(directory: RunDirectory, *scores: float) -> tuple[Run, FakeGenerator]:
    """A run whose PRM scores the two steps so; the first line of every answer is wrong."""
    generator = FakeGenerator(lambda prefix, child, seed: f"1+{child}=0\n#{seed % 1000}")
    scorer = FakeScorer(prm=lambda rollout: scores)
    run = Run(CONFIG, TOKENIZER, PROMPTS, directory, Checkpoints(directory.checkpoints), None)
    run.roles, run.reporter = cast(Any, FakeRoles(CONFIG, generator, scorer)), cast(Any, Records())
    return run, generator


async def test_the_probe_is_sampled_once_in_the_life_of_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    directory = RunDirectory.create(tmp_path, "run")
    first, generator = started(directory, 0.25, 0.75)
    await first._evaluate(0)
    probed = [r for r in generator.asked if r.request_id.startswith("prm-probe0/")]
    held_out = {f"prm-probe0/{p.prompt_id}" for p in PROMPTS.evaluation[:3]}
    assert {r.request_id for r in probed} == held_out and all(r.n == 4 for r in probed)
    assert not {p.prompt_id for p in PROMPTS.train} & {p.prompt_id for p in PROMPTS.evaluation}
    frozen = directory.probe.read_bytes()

    # Resumed in another process, by now with a PRM that scores 0.75 and 0.5.
    second, generator = started(RunDirectory.reopen(tmp_path, "run"), 0.75, 0.5)
    await second._evaluate(4)
    assert not [r for r in generator.asked if r.request_id.startswith("prm-probe")]
    assert directory.probe.read_bytes() == frozen
    (before,), (after,) = cast(Any, first.reporter).records, cast(Any, second.reporter).records
    assert (before["prm/drift"], before["alarm/drift"]) == (0.0, 0.0)
    assert (after["prm/drift"], after["alarm/drift"]) == (0.375, 1.0)
    # Every first step is wrong, and nothing is probed behind it: 12 chains, as many steps.
    assert before["prm/probe_steps"] == before["prm/probe_chains"] == 12
    assert (before["prm/ece"], after["prm/ece"]) == (0.25, 0.75)
    assert "alarm: drift is 0.375, above its threshold 0.2" in caplog.text


async def test_drift_is_from_when_the_prm_first_told_steps_apart(tmp_path: Path):
    directory, drifts = RunDirectory.create(tmp_path, "run"), []
    for iteration, scores in enumerate([(0.5, 0.5), (0.5, 0.5), (0.75, 0.25), (0.25, 0.25)]):
        run, _ = started(directory, *scores)
        await run._evaluate(iteration)
        drifts.append(cast(Any, run.reporter).records[0]["prm/drift"])
    assert drifts == [0.0, 0.0, 0.0, 0.25]


async def test_a_run_without_a_prm_has_no_probe(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "run")
    run, generator = started(directory, 0.5, 0.5)
    run.config = small_config(task=TASK)
    await run._evaluate(0)
    assert not directory.probe.exists()
    assert {r.request_id.partition("/")[0] for r in generator.asked} == {"eval0"}
