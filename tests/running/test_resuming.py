"""What may change where a run is resumed, and what is refused, by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.adapters.adapter import Adapter, NoAdapter
from rlstep.adapters.scaling import Ssb, Ssl
from rlstep.config import Config, LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from rlstep.curriculum.level_dial import LevelDial
from rlstep.losses.ipo import Ipo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.reporting.describe import describe_config
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.preparing import resume_point
from rlstep.running.resuming import check_resume, check_unfinished
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.fixed_length import FixedLengthSplitter
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.small import small_config
from rlstep.types import Sampling

PRM = LearnerConfig(model=ModelConfig(path="/prm"), head="token_classification")
ROLLOUTS = Independent(samples_per_prompt=2, sampling=Sampling(max_tokens=64))
CONFIG = small_config(
    rollouts=ROLLOUTS,
    labellers=(MonteCarlo(),),
    step_models=(Prm(learner=PRM, loss=StepLabelLoss()),),
)


def learner(**fields: Any) -> dict[str, Any]:
    return {"policy": replace(CONFIG.policy, **fields)}


def model(**fields: Any) -> dict[str, Any]:
    return learner(model=replace(CONFIG.policy.model, **fields))


def prm(**fields: Any) -> dict[str, Any]:
    return {"step_models": (Prm(learner=replace(PRM, **fields), loss=StepLabelLoss()),)}


def resume(config: Config, started: Config = CONFIG) -> None:
    written = json.loads(json.dumps(describe_config(started)))  # as config.json has it
    check_resume(written, describe_config(config))


def test_another_curriculum_is_refused() -> None:
    dial = small_config(curriculum=LevelDial(promote_at=0.5))
    resume(replace(dial, further_prompts=3), dial)
    with pytest.raises(ValueError, match=r"curriculum\.promote_at is 0\.7, and was 0\.5"):
        resume(small_config(curriculum=LevelDial(promote_at=0.7)), dial)
    with pytest.raises(
        ValueError, match=r"curriculum\.class is '.*Shuffled', and was '.*LevelDial"
    ):
        resume(small_config(), dial)


async def test_a_run_whose_measurements_are_lost_does_not_go_on(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "small")
    for number in (1, 2):
        directory.measurements.append({"iteration": number, "prompts": []})
    async with Checkpoints(directory.checkpoints).writing(RunState(iteration=2)) as folder:
        (folder / "policy.bin").write_bytes(b"w")
    dial = small_config(curriculum=LevelDial())
    assert resume_point(dial, directory, None) is not None
    directory.measurements.truncate_after(1)
    with pytest.raises(ValueError, match=r"measurements\.jsonl has nothing of iteration 2, and"):
        resume_point(dial, directory, None)
    assert resume_point(small_config(), directory, None) is not None  # it looks at none


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"iterations": 900, "train_seconds": 60.0, "checkpoint_every": 3, "resume": True},
        {"run_dir": "/elsewhere", "name": "moved"},
        learner(optimizer=OptimizerConfig(learning_rate=5e-4)),
        learner(optimizer=OptimizerConfig(betas=(0.8, 0.95), weight_decay=0.1)),
        learner(
            optimizer=OptimizerConfig(schedule="linear", total_updates=50, warmup_updates=3)
        ),
        learner(optimizer=OptimizerConfig(gradient_clip=0.5)),
        learner(token_budget=1 << 12, threads=1, mini_batches=2, epochs=3),
        learner(reference="none", skipped_updates_limit=9),
        model(attention="eager", gradient_checkpointing=True),
        model(lora=LoraConfig(alpha=32.0, target_modules=("q",))),  # of rank 0: no adapters
        prm(optimizer=OptimizerConfig(learning_rate=1e-3)),
        {"rollouts": replace(ROLLOUTS, sampling=Sampling(max_tokens=32, temperature=0.8))},
        {"generator": replace(CONFIG.generator, replicas=2, context=256)},
        {"max_policy_lag": 1, "deadline_s": 60.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_may_change(fields: dict[str, Any]):
    resume(replace(CONFIG, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 3}, "seed is 3, and was 0"),
        ({"prompts_per_iteration": 4}, "prompts_per_iteration is 4, and was 2"),
        ({"max_prompt_tokens": 8}, "max_prompt_tokens is 8, and was 16"),
        ({"task": Arithmetic(operations=3, train=8, evaluation=2)}, "task.operations is 3, and"),
        ({"task": Arithmetic(operations=2, train=9, evaluation=2)}, "task.train is 9, and was 8"),
        ({"splitter": FixedLengthSplitter(tokens=8)}, "splitter.class is 'rlstep"),
        ({"rollouts": replace(ROLLOUTS, samples_per_prompt=4)}, "rollouts.samples_per_prompt is 4"),
        ({"rollouts": Rectify(base=ROLLOUTS)}, "rollouts.class is 'rlstep.rollouts.rec"),
        (model(path="/other"), "policy.model.path is '/other', and was '/nowhere'"),
        (model(dtype="bfloat16"), "policy.model.dtype is 'bfloat16', and was 'float32'"),
        (model(lora=LoraConfig(rank=4)), "policy.model.lora.rank is 4, and was 0"),
        (model(adapter=Ssl()), "policy.model.adapter.class is 'rlstep.adapters.scaling.Ssl', and"),
        (learner(world_size=2), "policy.world_size is 2, and was 1"),
        (learner(zero_stage=2), "policy.zero_stage is 2, and was 0"),
        (learner(zero_stage=1, offload_optimizer=True), "policy.offload_optimizer is True"),
        (learner(optimizer=SgdSai()), "policy.optimizer is 'SgdSai', and was 'OptimizerConfig'"),
        (prm(optimizer=SgdSai()), "step_models.0.learner.optimizer is 'SgdSai', and was"),
        (prm(world_size=2), "step_models.0.learner.world_size is 2, and was 1"),
        (prm(model=ModelConfig(path="/b")), "step_models.0.learner.model.path is '/b', and was"),
        ({"step_models": (), "labellers": ()}, "step_models.0 is None, and was 'rlstep.scoring"),
        ({"seed": 3, "max_prompt_tokens": 8}, "seed is 3, and was 0; max_prompt_tokens is 8"),
    ],
    ids=str,
)  # fmt: skip
def test_what_may_not_is_named_with_what_it_was(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match="resume: ") as caught:
        resume(replace(CONFIG, **fields))
    assert message in str(caught.value)


def test_what_is_collected_ahead_goes_with_its_temperature() -> None:
    ahead = replace(CONFIG, max_policy_lag=1)
    other = replace(ROLLOUTS, sampling=Sampling(max_tokens=64, temperature=0.5))
    with pytest.raises(ValueError, match=r"rollouts\.sampling\.temperature is 0\.5, and was 1\.0"):
        resume(replace(CONFIG, rollouts=other), ahead)
    inner = replace(ahead, rollouts=Rectify(base=ROLLOUTS))
    four = replace(ROLLOUTS, samples_per_prompt=4)
    with pytest.raises(ValueError, match=r"rollouts\.base\.samples_per_prompt is 4, and was 2"):
        resume(replace(inner, rollouts=Rectify(base=four)), inner)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"run_dir": "/elsewhere", "name": "moved", "resume": True}, ""),
        ({"iterations": 900, "seed": 0}, "iterations 900 (was 3)"),
        (
            {"iterations": 9, **learner(optimizer=OptimizerConfig(learning_rate=5e-4))},
            "policy.optimizer.learning_rate 0.0005 (was 1e-06), iterations 9 (was 3)",
        ),
        ({"loss": Ipo()}, "loss.class 'Ipo' (was 'Dpo')"),
        (
            {"generator": replace(CONFIG.generator, replicas=2)},
            "generator.replicas 2 (was 1)",
        ),
        ({"labellers": (MonteCarlo(continuations=9),)}, "labellers.0.continuations 9 (was 4)"),
        ({"judges": ()}, ""),
    ],
    ids=str,
)
def test_what_changes_is_said_in_one_line(fields: dict[str, Any], told: str) -> None:
    written = json.loads(json.dumps(describe_config(CONFIG)))
    line = check_resume(written, describe_config(replace(CONFIG, **fields)))
    assert line == (f"resumed with {told}" if told else "")


ADAPTERS = LoraConfig(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))


@pytest.mark.parametrize("role", ["policy", "step_models.0.learner"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 8}, "lora.rank is 8, and was 4"),
        ({"rank": 0}, "lora.rank is 0, and was 4"),
        ({"alpha": 16.0}, "lora.alpha is 16.0, and was 8.0"),
        ({"rank": 8, "alpha": 16.0}, "lora.alpha is 16.0, and was 8.0"),  # alpha / rank is kept
        ({"target_modules": ("q_proj",)}, "lora.target_modules is ['q_proj'], and was ['q_proj',"),
        ({"target_modules": ("q_proj", "v_proj", "o_proj")}, "lora.target_modules is"),
    ],
    ids=str,
)
def test_adapters_stay_as_they_are(role: str, fields: dict[str, Any], message: str):
    def adapted(lora: LoraConfig) -> Config:
        if role == "policy":
            return replace(CONFIG, **model(lora=lora))
        return replace(CONFIG, **prm(model=replace(PRM.model, lora=lora)))

    resume(adapted(ADAPTERS), adapted(ADAPTERS))
    with pytest.raises(ValueError, match="resume: ") as caught:
        resume(adapted(replace(ADAPTERS, **fields)), adapted(ADAPTERS))
    assert f"{role}.model.{message}" in str(caught.value)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Ssl(), "model.adapter.class is 'rlstep.adapters.scaling.Ssl', and was 'rlstep.adapters.s"),
        (Ssb(target_modules=("q_proj",)), "model.adapter.target_modules is ['q_proj'], and was"),
        (NoAdapter(), "model.adapter.class is 'rlstep.adapters.adapter.NoAdapter', and was 'rls"),
    ],
    ids=str,
)
def test_other_adapters_stay_as_they_are(adapter: Adapter, message: str):
    before = replace(CONFIG, **model(adapter=Ssb()))
    resume(before, before)
    with pytest.raises(ValueError, match="resume: ") as caught:
        resume(replace(CONFIG, **model(adapter=adapter)), before)
    assert message in str(caught.value)


def test_the_same_optimizer_may_have_other_numbers():
    started = replace(CONFIG, **learner(optimizer=SgdSai()))
    resume(replace(CONFIG, **learner(optimizer=SgdSai(momentum=0.0, learning_rate=1.0))), started)
    refused = pytest.raises(ValueError, match=r"policy\.optimizer is '.*', and was 'SgdSai'")
    with refused:
        resume(CONFIG, started)


def test_an_optimizer_that_stood_in_another_file_is_the_same():
    before = describe_config(CONFIG)
    assert before["policy"]["optimizer"]["class"] == "rlstep.optimizers.adamw.OptimizerConfig"
    before["policy"]["optimizer"]["class"] = "rlstep.learner_config.OptimizerConfig"
    check_resume(before, describe_config(CONFIG))


def test_a_field_that_the_earlier_version_did_not_have_is_not_compared():
    before = describe_config(CONFIG)
    del before["max_prompt_tokens"], before["policy"]["offload_optimizer"]
    check_resume(before, describe_config(replace(CONFIG, max_prompt_tokens=8)))


@pytest.mark.parametrize(
    ("iterations", "seconds", "done", "complete", "message"),
    [
        (3, 0, 2, False, ""),
        (3, 0, 3, False, ""),  # stopped during its last evaluation
        (3, 60, 2, False, ""),  # stopped before its time was over
        (3, 60, 2, True, "train_seconds is 60, and the run is complete after 60; it goes on with"),
        (3, 61, 2, True, ""),
        (3, 0, 2, True, ""),  # its time was over, and there is no limit now
        (4, 0, 3, True, ""),
        (3, 0, 3, True, "iterations is 3, and the run has done 3 and is complete; .* value is 4$"),
        (2, 0, 3, True, "iterations is 2, .* and is complete; the smallest valid value is 4$"),
        (2, 0, 3, False, "iterations is 2, and the run has done 3; the smallest valid value is 3$"),
        (0, 0, 0, False, ""),
        (0, 0, 3, False, "iterations is 0, and the run has done 3; the smallest valid value is 3$"),
    ],
)
def test_a_run_goes_on_where_something_is_left_to_do(
    iterations: int, seconds: int, done: int, complete: bool, message: str
) -> None:
    config = replace(CONFIG, iterations=iterations, train_seconds=float(seconds))
    state = RunState(iteration=done, counters={"train_seconds": 60})
    if not message:
        check_unfinished(config, state, complete=complete)
        return
    with pytest.raises(ValueError, match=f"^resume: {message}"):
        check_unfinished(config, state, complete=complete)


def test_a_run_that_used_up_its_tokens_goes_on_with_more() -> None:
    state = RunState(iteration=2, counters={"train_tokens": 1000})
    for tokens in (0, 1001):
        check_unfinished(replace(CONFIG, train_tokens=tokens), state, complete=True)
    check_unfinished(replace(CONFIG, train_tokens=1000), state, complete=False)
    with pytest.raises(
        ValueError, match="train_tokens is 1000, and the run is complete after 1000"
    ):
        check_unfinished(replace(CONFIG, train_tokens=1000), state, complete=True)
