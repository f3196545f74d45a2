"""`rlstep eval` up to its start: what it needs, what it refuses, what it leaves out."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import _evaluation, load_recipe
from rlstep.commands.preflight import preflight
from rlstep.config import Config, EvaluationConfig
from rlstep.reporting.describe import describe_config
from rlstep.reporting.files import write_json
from rlstep.reporting.learned_from import OTHERS, UNKNOWN, write_learned
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.step_beam import StepBeam
from rlstep.running import evaluation
from rlstep.running.evaluation import Evaluation, prepare_evaluation
from rlstep.running.preparing import load_prompts
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.roles import TOKENIZER
from rlstep.testing.small import small_config

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "recipes" / "arithmetic_full_step_dpo.py")
POLICY = ROOT / "recipes" / "policies" / "arithmetic"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    task: Any = load_recipe(RECIPE).task
    small = replace(task, train=0, evaluation=8)
    config = replace(load_recipe(RECIPE), task=small, run_dir=str(tmp_path / "runs"))
    return replace(config, evaluation=EvaluationConfig(samples=2))


def with_prm(config: Config, folder: Path) -> Config:
    prm: Any = config.step_models[0]
    model = replace(prm.learner.model, path=str(folder))
    return replace(config, step_models=(replace(prm, learner=replace(prm.learner, model=model)),))


@pytest.fixture
def prm(tmp_path: Path) -> Path:
    """A folder that says it has a head."""
    folder = tmp_path / "prm"
    folder.mkdir()
    for file in POLICY.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    made = json.loads((POLICY / "config.json").read_text())
    made["architectures"] = ["LlamaForTokenClassification"]
    (folder / "config.json").write_text(json.dumps(made))
    return folder


def prepared(config: Config) -> Evaluation:
    named = _evaluation(config)
    assert isinstance(named, Config)
    found = prepare_evaluation(named)
    found.held.close()
    return found


def test_problems_that_are_held_out_are_enough(config: Config, capsys: pytest.CaptureFixture[str]):
    found = prepared(config)
    assert not found.prompts.train and len(found.prompts.evaluation) == 8
    assert found.directory.name == "arithmetic-full-step-dpo-eval"
    # The recipe's PRM starts from the policy, and nobody has trained it yet.
    assert found.step_models == []
    text = capsys.readouterr().out
    assert "step model 'prm' is left out" in text and "--step-models.0.learner.model.path" in text


def test_a_prm_that_learned_from_others(config: Config, prm: Path):
    write_learned(prm, ["elsewhere"], "")
    found = prepared(with_prm(config, prm))
    assert [model.source for model in found.step_models] == ["prm"]
    assert found.origins == {"prm": OTHERS}


def test_a_prm_that_learned_from_the_evaluated_problems(config: Config, prm: Path, tmp_path: Path):
    known = prepared(config).prompts.evaluation[3].prompt_id
    write_learned(prm, [known], "")
    with pytest.raises(
        ValueError, match=r"step_models \(prm\): it learned from 1 of the 8"
    ) as said:
        prepared(with_prm(config, prm))
    assert known in str(said.value)
    assert not (tmp_path / "runs" / "arithmetic-full-step-dpo-eval-2").exists()


def test_a_prm_of_unknown_origin_is_a_loud_warning(
    config: Config, prm: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        assert prepared(with_prm(config, prm)).origins == {"prm": UNKNOWN}
    assert "WHAT 'prm' LEARNED FROM IS UNKNOWN" in caplog.text


def test_who_answers_by_values_needs_a_prm_that_has_learned(config: Config, prm: Path):
    write_learned(prm, ["elsewhere"], "")
    beam = StepBeam(sampling=replace(config.rollouts.sampling, temperature=0.7))
    config = replace(config, evaluation=EvaluationConfig(rollouts=beam))
    with pytest.raises(
        ValueError, match=r"evaluation\.rollouts StepBeam reads .* \(they make \[\]"
    ):
        prepared(config)
    assert prepared(with_prm(config, prm)).config.evaluation.rollouts is beam


def test_nothing_to_evaluate_on():
    config = small_config(task=Arithmetic(operations=2, evaluation=0))
    with pytest.raises(ValueError, match="Arithmetic holds out no problem"):
        load_prompts(config, TOKENIZER, trains=False)


# --- going on ------------------------------------------------------------------------------------


def begun(config: Config) -> Config:
    """An evaluation that was killed before it was measured; returned as it is resumed."""
    made = _evaluation(config)
    run = RunDirectory.create(made.run_dir, made.name)
    write_json(run.config, describe_config(made))
    return replace(config, resume=True)


def test_it_goes_on_by_its_recipe_or_by_its_name(config: Config):
    resumed = begun(config)
    assert prepared(resumed).directory.name == "arithmetic-full-step-dpo-eval"
    named = replace(resumed, name="arithmetic-full-step-dpo-eval")
    assert prepared(named).directory.name == "arithmetic-full-step-dpo-eval"


def test_a_dry_run_says_that_it_goes_on(config: Config):
    found, wrong = preflight(_evaluation(begun(config)), trains=False)
    assert not wrong and dict(found)["run"].startswith("goes on with the samples of ")
    assert dict(found)["models and data"] == "0 problems, 8 held out"


def test_there_is_none_to_go_on_with(config: Config):
    with pytest.raises(ValueError, match=r"there is no run .*-eval to resume"):
        prepared(replace(config, resume=True))


def test_samples_of_two_kinds_are_not_mixed(config: Config):
    resumed = begun(config)
    more = replace(resumed, evaluation=replace(config.evaluation, samples=4))
    with pytest.raises(ValueError, match=r"resume: evaluation\.samples is 4, and was 2"):
        prepared(more)
    slower = replace(resumed, generator=replace(config.generator, concurrency=7))
    assert prepared(slower).directory.samples is not None


def test_what_is_complete_is_not_done_again(config: Config):
    resumed = begun(config)
    run = RunDirectory.reopen(config.run_dir, "arithmetic-full-step-dpo-eval")
    run.metrics.append({"iteration": 0, "eval/accuracy": 1.0, "time/evaluation": 1.0})
    with pytest.raises(ValueError, match=r"is complete, see its eval\.json"):
        prepared(resumed)


def test_a_training_run_is_no_evaluation(config: Config):
    run = RunDirectory.create(config.run_dir, "arithmetic-full-step-dpo-eval")
    write_json(run.config, {**describe_config(config), "iterations": 12})
    with pytest.raises(ValueError, match="no evaluation but a training"):
        prepared(replace(config, resume=True))


def test_models_that_a_frozen_one_cannot_be(config: Config, monkeypatch: pytest.MonkeyPatch):
    class Reads:
        log_ratios, embeds, loss = True, False, None

    assert "more of a model than a frozen one" in evaluation._unfit(Reads())  # type: ignore[arg-type]


# --- as it runs ----------------------------------------------------------------------------------


async def test_a_stop_keeps_what_was_sampled(config: Config, caplog: pytest.LogCaptureFixture):
    from rlstep.testing.roles import FakeGenerator, FakeRoles, FakeScorer

    found: Any = prepared(config)
    generator = FakeGenerator(lambda prefix, child, seed: "#1")
    found.tokenizer = TOKENIZER
    found.prompts = load_prompts(small_config(), TOKENIZER)
    found.roles = FakeRoles(found.config, generator, FakeScorer())
    found.stopped.set()
    assert await found._until_stopped() is None
    assert "--name arithmetic-full-step-dpo-eval --resume True goes on with it" in caplog.text
    found.stopped.clear()
    measured = await found._until_stopped()
    assert measured is not None and measured.metrics["eval/sampled/rollouts"] == 4
