"""What a run exports beside its last policy: the best one, and its step models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlstep.config import EvaluationConfig
from rlstep.reporting.describe import describe_config
from rlstep.reporting.files import write_json
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.learned_from import hash_id, learned, write_learned
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.exports import export_step_models, keep_best
from rlstep.running.run import Run
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from tests.reporting.made_models import weights
from tests.running.test_run_evaluation import CONFIG, PROMPTS, Records
from tests.running.test_run_origins import Policy

METRIC = "eval/accuracy"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory.create(tmp_path, "run")
    write_json(directory.config, describe_config(CONFIG))
    return directory


async def evaluated(directory: RunDirectory, roles: Any, **by_iteration: float) -> list[int]:
    """Iterations whose policy was kept as the best."""
    kept = []
    for name, value in by_iteration.items():
        state = RunState(iteration=int(name[1:]), versions={"policy": 1})
        directory.metrics.append({"iteration": state.iteration, METRIC: value})
        before = roles.policy.exports
        await keep_best(METRIC, roles, directory, state)
        kept += [state.iteration] * (roles.policy.exports - before)
    return kept


async def test_the_best_is_kept_and_the_first_of_equals(directory: RunDirectory):
    roles: Any = SimpleNamespace(policy=Policy())
    kept = await evaluated(directory, roles, _0=0.5, _3=0.4, _6=0.7, _9=0.7, _12=0.6)
    assert kept == [0, 6]
    said = json.loads((directory.exports / "best" / "lineage.json").read_text())
    assert said["iteration"] == 6
    assert said["figures"]["measured"][-1]["value"] == 0.7  # its own evaluation is in its card


async def test_what_was_not_measured_is_no_best(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
):
    roles: Any = SimpleNamespace(policy=Policy())
    directory.metrics.append({"iteration": 0, "time/evaluation": 1.0})
    await keep_best(METRIC, roles, directory, RunState(iteration=0))
    assert roles.policy.exports == 0 and f"{METRIC} was not measured" in caplog.text


async def test_a_run_keeps_the_best_of_its_evaluations(directory: RunDirectory):
    """Also where it was killed between an evaluation and its export."""
    evaluation = EvaluationConfig(best=METRIC, prm_problems=0)
    run = Run(
        replace(CONFIG, evaluation=evaluation),
        *(TOKENIZER, PROMPTS, directory, Checkpoints(directory.checkpoints), None),
    )
    roles: Any = FakeRoles(run.config, FakeGenerator(lambda *_: "#1"), FakeScorer())
    roles.policy, roles.scorer.versions = Policy(), {}
    reporter: Any = Records(directory)
    run.roles, run.reporter = roles, reporter
    await run._evaluate(3)
    assert (directory.exports / "best").is_dir() and roles.policy.exports == 1
    await run._evaluate(3)
    assert len(reporter.records) == 1 and roles.policy.exports == 2


class Prm(Policy):
    def __init__(self, began_with: str, loss: Any = "trained") -> None:
        learner = SimpleNamespace(model=SimpleNamespace(path=began_with))
        self.role = SimpleNamespace(
            model=SimpleNamespace(source="prm", loss=loss, learner=learner), learner=self
        )


async def test_a_step_model_is_exported_with_what_it_learned_from(
    directory: RunDirectory, tmp_path: Path
):
    earlier = weights(tmp_path / "earlier", b"\x07\x07")
    write_learned(earlier, ["before"], "")
    rows = [{"iteration": i, "prompt_id": name} for i, name in ((1, "a"), (1, "a"), (2, "b"))]
    directory.rollouts.append(*rows)
    prm = Prm(str(earlier))
    roles: Any = SimpleNamespace(step_models=[prm.role])
    await export_step_models(roles, directory, RunState(iteration=2, versions={"prm": 5}))
    folder = directory.exports / "prm"
    assert learned(folder) == {hash_id(name) for name in ("before", "a", "b")}
    said = json.loads((folder / "lineage.json").read_text())
    assert (said["step_model"], said["versions"]) == ("prm", {"prm": 5})
    assert said["head"] == "token_classification" and said["figures"]["measured"] == []
    assert "pipeline_tag: token-classification" in (folder / "README.md").read_text()
    [line] = directory.models
    assert (line["source"], line["sha256"]) == ("prm", hash_weights(folder))


async def test_a_frozen_step_model_stays_where_it_is(directory: RunDirectory):
    roles: Any = SimpleNamespace(step_models=[Prm("/nowhere", loss=None).role])
    await export_step_models(roles, directory, RunState(iteration=2))
    assert not (directory.exports / "prm").exists()
