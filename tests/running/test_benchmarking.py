"""An evaluation of a PRM as a run, with scores of ours: what it leaves, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.benchmarks.arithmetic_steps import ArithmeticSteps
from rlstep.benchmarks.benchmark_config import BenchmarkConfig
from rlstep.benchmarks.rmb import Rmb
from rlstep.cli import run_recipe
from rlstep.commands.show import main as show
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import Benchmark
from rlstep.plugins import PlugInError
from rlstep.reporting.learned_from import write_learned
from rlstep.reporting.sinks.files import Files
from rlstep.reporting.sinks.page import Page
from rlstep.running import benchmarking
from rlstep.running.benchmarking import check, prepare_benchmarks
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.reward_model import RewardModel
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Failure, Rollout, Score, StepScores
from tests.benchmarks.kit import written
from tests.run.run_kit import make_policy

TASK = Arithmetic(operations=3, largest_operand=9, largest_factor=3, limit=20)
STEPS = ArithmeticSteps(task=TASK, lengths=(3, 5), number=8, pairs=0.0)


class Scorer:
    """A PRM that knows the oracle, and fails where it is told to; at -1 it never answers."""

    def __init__(self, model: Any, fails: int) -> None:
        self.model, self.fails, self.closed = model, fails, False
        self.learner = self

    async def score(self, rollouts: Sequence[Rollout], version: int) -> list[Score]:
        if self.fails < 0:
            await asyncio.Event().wait()
        return [self._score(i, rollout) for i, rollout in enumerate(rollouts)]

    def _score(self, i: int, rollout: Rollout) -> Score:
        if i < self.fails:
            return Failure(reason="too_long", detail="300 tokens, the model reads 256")
        texts = [rollout.step_text(k) for k in range(len(rollout.steps))]
        try:
            error = TASK.first_error(rollout.prompt, texts)
        except ValueError:  # no problem of the task
            error = None
        values = [0.9 if error is None or k < error else 0.2 for k in range(len(texts))]
        return StepScores(values=np.array(values, np.float32), version=0)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many of each benchmark have no score, the last number counts."""
    from rlstep.actors.scorer import step_models

    numbers = [0]

    async def start(model: Any, *_: Any, **__: Any) -> Scorer:
        return Scorer(model, numbers[-1])

    monkeypatch.setattr(step_models, "start_frozen", start)
    monkeypatch.setattr(benchmarking, "start_ray", lambda *_: None)
    return numbers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FrozenPrm:
    folder = make_policy(tmp_path_factory.mktemp("models") / "policy")
    learner = LearnerConfig(model=ModelConfig(path=folder), head="token_classification")
    return FrozenPrm(learner=replace(learner, reference="none"))


def config(model: FrozenPrm, root: Path, *benchmarks: Benchmark) -> BenchmarkConfig:
    return BenchmarkConfig(
        name="measured",
        model=model,
        benchmarks=benchmarks or (STEPS,),
        sinks=(Page(), Files()),
        run_dir=str(root),
    )


@pytest.mark.usefixtures("fails")
def test_what_an_evaluation_leaves(
    model: FrozenPrm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe(lambda: config(model, tmp_path), [], verb="eval") == 0
    run = tmp_path / "measured-eval"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] and summary["eval/arithmetic_steps/3_operations/f1"] == 1.0
    [record] = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert record["eval/arithmetic_steps/f1"] == 1.0 and record["iteration"] == 0
    assert record["eval/arithmetic_steps/5_operations/cases"] == 8.0
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == 16 and sum(row["first_error"] is not None for row in rows) == 8
    for row in rows:
        error, scores = row["first_error"], [step["scores"]["prm"] for step in row["steps"]]
        assert scores == [0.9 if error is None or k < error else 0.2 for k in range(len(scores))]
    assert (run / "report.html").exists()
    versions = json.loads((run / "versions.json").read_text())
    assert set(versions["models"]) == {"model"}
    assert "ArithmeticSteps" in [each["class"] for each in versions["methods"]]
    show(["measured-eval", "--evaluation", "--run-dir", str(tmp_path)])
    assert "first error" in capsys.readouterr().out
    # A second one has a name of its own.
    assert run_recipe(lambda: config(model, tmp_path), [], verb="eval") == 0
    assert (tmp_path / "measured-eval-2" / "summary.json").exists()


def test_failures_are_counted_up_to_a_share(
    model: FrozenPrm, tmp_path: Path, fails: list[int]
) -> None:
    fails.append(2)
    with pytest.raises(PlugInError, match=r"prm.*2 of 16.*share of 0\.05 that max_failed_scores"):
        asyncio.run(prepare_benchmarks(config(model, tmp_path)).run())
    lenient = replace(config(model, tmp_path / "b"), max_failed_scores=0.2)
    found = asyncio.run(prepare_benchmarks(lenient).run())
    assert found["eval/arithmetic_steps/3_operations/failures"] == 2.0
    assert found["eval/arithmetic_steps/3_operations/cases"] == 6.0
    assert found["eval/arithmetic_steps/f1"] == 1.0


@pytest.mark.usefixtures("fails")
def test_several_benchmarks_are_a_record_each(model: FrozenPrm, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "1+1\n"}]
    pair = {"conversation_input": asked, "chosen": {"answer": "#2"}, "reject": {"answer": "#3"}}
    rmb = Rmb(path=str(written(tmp_path / "p.jsonl", pair)), template=PromptTemplate(chat=False))
    run = prepare_benchmarks(config(model, tmp_path, STEPS, rmb))
    found = asyncio.run(run.run())
    assert (found["eval/rmb/pairwise"], found["eval/rmb/pairwise_cases"]) == (0.0, 1.0)  # a tie
    assert len(list(run.directory.metrics)) == 2
    # Of pairs no first errors are known, and none are claimed.
    rows = list(run.directory.evaluations)
    assert [("first_error" in row) for row in rows] == [True] * 16 + [False] * 2


def test_stopped_it_is_not_complete(model: FrozenPrm, tmp_path: Path, fails: list[int]) -> None:
    fails.append(-1)
    run = prepare_benchmarks(config(model, tmp_path))
    run.stopped.set()
    assert asyncio.run(run.run())["complete"] is False


def test_a_model_that_learned_from_the_problems_is_refused(
    model: FrozenPrm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "prm"
    shutil.copytree(model.learner.model.path, folder)
    learner = replace(model.learner, model=ModelConfig(path=str(folder)))
    known = config(FrozenPrm(learner=learner), tmp_path)
    check(known, tmp_path)
    assert "does not say which problems it learned from" in caplog.text
    cases = STEPS.cases(arithmetic_tokenizer())
    write_learned(folder, [cases[5].rollouts[0].prompt.prompt_id], "")
    with pytest.raises(ValueError, match="learned from 1 of the 16 evaluated problems of arithm"):
        check(known, tmp_path)
    caplog.clear()
    write_learned(folder, ["another"], "")
    check(known, tmp_path)
    assert "does not say" not in caplog.text


def test_the_verb_is_eval(model: FrozenPrm, tmp_path: Path, capsys: Any) -> None:
    assert run_recipe(lambda: config(model, tmp_path), [], verb="fit") == 2
    assert "fit: the recipe evaluates a model that scores: rlstep eval" in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(model: FrozenPrm, tmp_path: Path) -> None:
    good = config(model, tmp_path)
    with pytest.raises(ValueError, match=r"benchmarks is \(\); name one, such as ProcessBench"):
        replace(good, benchmarks=())
    with pytest.raises(ValueError, match="the name 'arithmetic_steps' 2 times"):
        replace(good, benchmarks=(STEPS, STEPS))
    with pytest.raises(ValueError, match=r"model\.learner\.model\.path is ''; name the folder"):
        empty = replace(model.learner, model=ModelConfig(path=""))
        replace(good, model=FrozenPrm(learner=empty))
    with pytest.raises(ValueError, match="needs step scores, and model RewardModel scores whole"):
        replace(good, model=RewardModel(learner=model.learner))
    language = replace(model.learner, head="language_model")
    with pytest.raises(ValueError, match="Teacher has the head 'language_model'"):
        replace(good, model=Teacher(learner=language))
