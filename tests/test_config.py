"""Bad values are refused when the configuration is built, by name, with the nearest valid one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rlstep.adapters.scaling import Ssb
from rlstep.advantages.gae import Gae
from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.prime import Prime
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.teacher import TeacherAdvantages
from rlstep.advantages.vine import Vine
from rlstep.checks import at_least, check_types
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
    PoolingConfig,
    ScorerConfig,
)
from rlstep.interfaces import Loss
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dapo import Dapo
from rlstep.losses.distillation import Distillation
from rlstep.losses.dpo import Dpo
from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.ppo import Ppo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.measuring.monitors import Monitors
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.hinted import Hinted
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.rollouts.step_beam import StepBeam
from rlstep.rollouts.value_guided import ValueGuided
from rlstep.scoring.rewards.soft_overlong import SoftOverlong
from rlstep.scoring.rewards.weighted_sum import WeightedSum
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.steps.adaptive import AdaptiveStepSplitter
from rlstep.tensors.labels import CorrectOnly, EverySample
from rlstep.testing.small import small_config
from rlstep.types import Sampling

MODEL = ModelConfig(path="/nowhere")
LENGTH = SoftOverlong(longest=64, buffer=16)
REWARD = WeightedSum(weights={"outcome": 1.0, "length": 0.5})
LONG = Sampling(max_tokens=65)


def learner(**fields: Any) -> LearnerConfig:
    return LearnerConfig(model=MODEL, **fields)


JUDGED: dict[str, Any] = {
    "step_models": (FrozenPrm(learner=learner(head="token_classification")),),
}
"""With a PRM that values prefixes."""


def prm(**fields: Any) -> Prm:
    defaults: dict[str, Any] = {
        "learner": learner(head="token_classification"),
        "loss": StepLabelLoss(),
    }
    return Prm(**{**defaults, **fields})


def sampled(**fields: Any) -> Independent:
    sampling = Sampling(**{"max_tokens": 64, **fields})
    return Independent(samples_per_prompt=2 if sampling.temperature else 1, sampling=sampling)


def test_the_smallest_configuration_is_valid():
    config = small_config()
    assert config.iterations == 3 and config.step_models == ()


# --- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 3}, "name is 3; it must be of type str"),
        ({"iterations": "3"}, "iterations is '3'; it must be of type int"),
        ({"iterations": 3.0}, "iterations is 3.0; it must be of type int"),
        ({"iterations": True}, "iterations is True; it must be of type int"),
        ({"resume": 1}, "resume is 1; it must be of type bool"),
        ({"train_seconds": "60"}, "train_seconds is '60'; it must be of type float"),
        ({"train_seconds": False}, "train_seconds is False; it must be of type float"),
        ({"run_dir": None}, "run_dir is None; it must be of type str"),
        ({"step_models": prm()}, "it must be of type tuple"),
        ({"loss": "dpo"}, "loss is 'dpo'; it must be of type Loss"),
        ({"task": Dpo()}, "it must be of type Task"),
        ({"policy": MODEL}, "it must be of type LearnerConfig"),
        (
            {"policy": learner(offload_optimizer=0)},
            "policy.offload_optimizer is 0; it must be of type bool",
        ),
        (
            {"policy": LearnerConfig(model=ModelConfig(path="/x", lora=LoraConfig(rank=1.5)))},  # type: ignore[arg-type]
            "policy.model.lora.rank is 1.5; it must be of type int",
        ),
        (
            {"step_models": (prm(learner=learner(head="token_classification", world_size=1.0)),)},
            "step_models.0.learner.world_size is 1.0; it must be of type int",
        ),
        (
            {"rollouts": sampled(max_tokens=64.0)},
            "rollouts.sampling.max_tokens is 64.0; it must be of type int",
        ),
    ],
)
def test_mistyped_fields(fields: dict[str, Any], message: str):
    with pytest.raises(TypeError) as caught:
        small_config(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Dpo, {"beta": True}, "loss.beta is True; it must be a number"),
        (Dpo, {"beta": "0.1"}, "loss.beta is '0.1'; it must be a number"),
        (learner, {"world_size": "2"}, "learner.world_size is '2'; it must be a number"),
        (GeneratorConfig, {"replicas": None}, "generator.replicas is None; it must be a number"),
        (MonteCarlo, {"continuations": "8"}, "continuations is '8'; it must be a number"),
    ],
)
def test_mistyped_numbers_of_a_part_are_named_by_the_part(
    kind: Any, fields: dict[str, Any], message: str
):
    with pytest.raises(TypeError) as caught:
        kind(**fields)
    assert message in str(caught.value)


def test_a_whole_number_is_a_float():
    assert small_config(train_seconds=60).train_seconds == 60


# --- choices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            LearnerConfig(model=ModelConfig(path="/x", dtype="bfloat")),  # type: ignore[arg-type]
            "policy.model.dtype is 'bfloat'; it is one of 'float32', 'bfloat16' (nearest:"
            " 'bfloat16')",
        ),
        (
            learner(reference="initail"),
            "policy.reference is 'initail'; it is one of 'iteration', 'initial', 'model', 'none'"
            " (nearest: 'initial')",
        ),
        (
            learner(zero_stage=5),
            "policy.zero_stage is 5; it is one of 0, 1, 2, 3 (nearest: 3)",
        ),
        (learner(zero_stage="2"), "policy.zero_stage is '2'; it is one of 0, 1, 2, 3 (nearest: 2)"),
        (learner(zero_stage=True), "policy.zero_stage is True; it is one of 0, 1, 2, 3"),
        (
            learner(optimizer=OptimizerConfig(schedule="cosin", total_updates=10)),  # type: ignore[arg-type]
            "policy.optimizer.schedule is 'cosin'; it is one of 'constant', 'linear', 'cosine'"
            " (nearest: 'cosine')",
        ),
    ],
)
def test_unknown_choices(policy: LearnerConfig, message: str):
    with pytest.raises(ValueError) as caught:
        small_config(policy=policy)
    assert message in str(caught.value)


# --- what does not fit together ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"loss": Grpo()},
            "loss Grpo takes AdvantageSamples, but samples OutcomePairs makes PairSamples",
        ),
        (
            {"samples": GroupAdvantages()},
            "loss Dpo takes PairSamples, but samples GroupAdvantages makes AdvantageSamples",
        ),
        (
            {"samples": CorrectOnly(), "loss": StepLabelLoss()},
            "loss StepLabelLoss is of a scalar head's numbers, and policy.head is 'language_model'",
        ),
        (
            {"samples": OutcomePairs(step_source="prm")},
            "samples OutcomePairs reads the scores ['prm'], which nothing in this run makes",
        ),
        (
            {"samples": FirstErrorPairs()},
            "samples FirstErrorPairs reads the scores ['prm'], which nothing in this run makes",
        ),
        (
            {"rollouts": Hinted(), "samples": GroupAdvantages(), "loss": Grpo()},
            "rollouts Hinted samples under other prompts than it trains, whose logprobs no policy",
        ),
        (
            {"rollouts": Rectify()},
            "rollouts Rectify reads the scores ['prm'] while it samples, which no step model of",
        ),
        (
            {"rollouts": ValueGuided()},
            "rollouts ValueGuided reads the scores ['prm'] while it samples, which no step model",
        ),
        (
            {
                "labellers": (WeightedSum(weights={"outcome": 1.0}, source="prm"),),
                "rollouts": StepBeam(),
            },
            "rollouts StepBeam reads the scores ['prm'] while it samples, which no step model of"
            " this run makes (they make [])",
        ),
        (
            {"evaluation": EvaluationConfig(rollouts=StepBeam())},
            "evaluation.rollouts StepBeam reads the scores ['prm'] while it samples",
        ),
        (
            {**JUDGED, "rollouts": StepBeam(), "samples": GroupAdvantages(), "loss": Grpo()},
            "rollouts StepBeam keeps what scores choose, which is off-policy",
        ),
        (
            {**JUDGED, "rollouts": ValueGuided(), "samples": GroupAdvantages(), "loss": Grpo()},
            "rollouts ValueGuided keeps what scores choose, which is off-policy",
        ),
        (
            {**JUDGED, "evaluation": EvaluationConfig(rollouts=StepBeam(sampling=LONG))},
            "evaluation.rollouts.sampling.max_tokens is 65, more than rollouts.sampling.max_tokens;"
            " the largest valid value is 64",
        ),
        (
            {"step_models": (prm(),)},
            "step_models.0 Prm reads the scores ['monte_carlo'], which nothing in this run makes"
            " (it makes ['outcome', 'prm'])",
        ),
        (
            {"labellers": (MonteCarlo(),), "rollouts": Rectify(source="monte_carlo")},
            "make scores named ['monte_carlo', 'monte_carlo']; every name must be there once",
        ),
        (
            {"samples": GroupAdvantages(source="reward"), "loss": Grpo()},
            "samples GroupAdvantages reads the scores ['reward'], which nothing in this run makes",
        ),
        (
            {"labellers": (REWARD,)},
            "labellers.0 WeightedSum reads the scores ['length'], which nothing makes before it"
            " (there are ['outcome']); put a labeller of that source before it",
        ),
        (
            {"labellers": (REWARD, LENGTH)},
            "labellers.0 WeightedSum reads the scores ['length'], which nothing makes before it",
        ),
        (
            {"labellers": (MonteCarlo(), WeightedSum(weights={"reward": 1.0}))},
            "reads the scores ['reward'], which nothing makes before it (there are"
            " ['monte_carlo', 'outcome'])",
        ),
        (  # step models score at the same time
            {
                "labellers": (MonteCarlo(), WeightedSum(weights={"prm": 1.0})),
                "step_models": (prm(),),
            },
            "labellers.1 WeightedSum reads the scores ['prm'], which nothing makes before it",
        ),
        (
            {"labellers": (LENGTH, LENGTH)},
            "make scores named ['length', 'length']; every name must be there once",
        ),
        *(
            (
                {"samples": samples, "loss": Grpo()},
                f"samples {type(samples).__name__} reads the scores [{source!r}], which nothing in"
                " this run makes (it makes ['outcome'])",
            )
            for samples, source in [
                (Vine(), "monte_carlo"),
                (Gae(), "critic"),
                (Prime(), "implicit"),
                (ProcessAdvantages(source="oracle"), "oracle"),
                (Mixture(process=Vine()), "monte_carlo"),
            ]
        ),
        (
            {
                "samples": GroupAdvantages(),
                "loss": Grpo(),
                "rollouts": sampled(top_p=0.9),
            },
            "a policy gradient needs top_p = 1, top_k = 0",
        ),
        (
            {
                "samples": GroupAdvantages(),
                "loss": Grpo(),
                "rollouts": sampled(top_k=20),
            },
            "a policy gradient needs top_p = 1, top_k = 0",
        ),
        (
            {
                "samples": GroupAdvantages(),
                "loss": DrGrpo(),
                "rollouts": sampled(min_tokens=8),
            },
            "a policy gradient needs top_p = 1, top_k = 0, min_tokens = 0",
        ),
        (
            {
                "samples": GroupAdvantages(),
                "loss": DrGrpo(),
                "rollouts": sampled(temperature=0.0),
            },
            "rollouts.sampling.temperature is 0 (greedy), where a policy gradient has nothing",
        ),
        (
            {
                "samples": GroupAdvantages(),
                "loss": DrGrpo(),
                "rollouts": sampled(temperature=0.7),
                "splitter": AdaptiveStepSplitter(),
            },
            "AdaptiveStepSplitter reads logprobs of temperature 1, which a policy gradient's",
        ),
        (
            {"step_models": (prm(), prm())},
            "make scores named ['prm', 'prm']; every name must be there once",
        ),
        (
            {"monitors": Monitors(source="pmr"), "labellers": (MonteCarlo(),)},
            "monitors.source is 'pmr', which nothing in this run makes; it is one of"
            " ['monte_carlo', 'prm']",
        ),
        (
            {"prompts_per_iteration": 10, "policy": learner(mini_batches=4)},
            "prompts_per_iteration is 10, not divisible by policy.mini_batches 4; the nearest valid"
            " value is 8",
        ),
        (
            {"prompts_per_iteration": 1, "policy": learner(mini_batches=4)},
            "the nearest valid value is 4",
        ),
        # 100 + 64 > 128, and 16 + 120 > 128
        (
            {"max_prompt_tokens": 100},
            "max_prompt_tokens 100 + rollouts.sampling.max_tokens 64 exceed generator.context 128;"
            " the smallest valid value is 164",
        ),
        (
            {"evaluation": EvaluationConfig(max_tokens=120)},
            "max_prompt_tokens 16 + evaluation.max_tokens 120 exceed generator.context 128; the"
            " smallest valid value is 136",
        ),
        (
            {"generator": GeneratorConfig(context=128, block_size=40)},
            "generator.block_size is 40, and on a CPU vLLM (0.32) has blocks of multiples of 32;"
            " the nearest valid value is 32",
        ),
        (
            {"rollouts": sampled(min_tokens=8), "evaluation": EvaluationConfig(max_tokens=4)},
            "evaluation.max_tokens (or 0) is 4; the smallest valid value is 8",
        ),
        ({"run_dir": "runs"}, "run_dir is 'runs'; it must be absolute, like /data/runs"),
    ],
)
def test_what_does_not_fit(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        small_config(**fields)
    assert message in str(caught.value)


def test_what_fits_just_so():
    # 64 + 64 = 128, and top_p < 1 where only an order is learnt
    config = small_config(max_prompt_tokens=64, rollouts=sampled(top_p=0.9), run_dir="/data/runs")
    models = (prm(), prm(source="second"))
    ensemble = small_config(
        samples=OutcomePairs(step_source="prm"), labellers=(MonteCarlo(),), step_models=models
    )
    assert len(ensemble.step_models) == 2
    assert config.rollouts.sampling.truncated
    assert small_config(prompts_per_iteration=8, policy=learner(mini_batches=4)).iterations == 3


@pytest.mark.parametrize(
    "loss",
    [
        Grpo(),
        DrGrpo(kl=Kl(coefficient=0.1)),
        Ppo(kl=Kl(coefficient=0.01, estimator="k1", place="reward")),
    ],
)
def test_a_kl_to_what_the_policy_is_itself_is_refused(loss: Loss):
    advantages = GroupAdvantages()
    with pytest.raises(ValueError, match="'initial' holds the policy to its start"):
        small_config(samples=advantages, loss=loss, policy=learner())
    for policy in (
        learner(reference="initial"),
        learner(mini_batches=2),
        learner(epochs=2),
    ):
        small_config(samples=advantages, loss=loss, policy=policy)
    small_config(samples=advantages, loss=Dapo(), policy=learner())  # without a KL
    small_config(loss=Dpo(), policy=learner())  # a margin has a gradient where it is 0


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.2, 2.0])
def test_a_policy_gradient_is_trained_at_the_samplers_temperature(temperature: float):
    rollouts = sampled(temperature=temperature)
    gradient = small_config(samples=GroupAdvantages(), loss=DrGrpo(), rollouts=rollouts)
    assert gradient.train_temperature == temperature
    assert small_config(rollouts=rollouts).train_temperature == 1.0  # pairs
    labels = small_config(samples=CorrectOnly(), loss=CrossEntropy(), rollouts=rollouts)
    assert labels.train_temperature == 1.0
    # Pairs may be sampled greedily, cut, and split where the model was unsure.
    small_config(rollouts=sampled(temperature=0.0))
    small_config(rollouts=rollouts, splitter=AdaptiveStepSplitter())
    exactly = sampled(min_tokens=64, max_tokens=64)  # nothing is banned
    small_config(samples=GroupAdvantages(), loss=DrGrpo(), rollouts=exactly)


def test_a_reward_may_be_the_sum_of_what_came_before():
    config = small_config(
        samples=GroupAdvantages(source="reward"), loss=Grpo(), labellers=(LENGTH, REWARD)
    )
    assert config.samples.sources == {"reward"}
    small_config(samples=OutcomePairs(source="reward"), labellers=(LENGTH, REWARD))


def test_a_strategy_may_bring_the_scores():
    rectify = Rectify(base=sampled(), source="monte_carlo")
    pairs = FirstErrorPairs(source="monte_carlo")
    assert small_config(samples=pairs, rollouts=rectify).rollouts.sources == {"monte_carlo"}
    with pytest.raises(ValueError, match=r"reads the scores \['monte_carlo'\]"):
        small_config(samples=pairs, rollouts=Rectify(base=sampled()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"learner": learner()},
            "step_models (Prm).learner.head is 'language_model'; it must be 'token_classification'",
        ),
        ({"loss": Dpo()}, "step_models (Prm).loss Dpo takes PairSamples, not LabelSamples"),
        (
            {"loss": CrossEntropy()},
            "step_models (Prm).loss CrossEntropy is of a policy's logprobs, and step_models (Prm)",
        ),
        ({"every": 0}, "step_models (Prm).every is 0; the smallest valid value is 1"),
    ],
)
def test_a_prm_that_cannot_be_one(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        prm(**fields)
    assert message in str(caught.value)


def test_decoding_by_values_answers_held_out_problems_and_makes_pairs():
    short = Sampling(max_tokens=64)
    answering = EvaluationConfig(rollouts=ValueGuided(sampling=replace(short, temperature=0.0)))
    fields = JUDGED | {"evaluation": answering}
    for rollouts in (sampled(), StepBeam(sampling=short)):
        assert small_config(rollouts=rollouts, **fields).evaluation is answering
    on_policy = {"samples": GroupAdvantages(), "loss": Grpo()}
    small_config(rollouts=sampled(), **on_policy, **fields)
    warm = ValueGuided(sampling=replace(short, temperature=0.7))
    fields |= {"evaluation": EvaluationConfig(rollouts=warm)}
    small_config(rollouts=sampled(), **fields)  # of pairs, with logprobs of temperature 1
    with pytest.raises(ValueError, match=r"ValueGuided reads logprobs of temperature 1, and"):
        small_config(rollouts=sampled(temperature=0.7), **on_policy, **fields)


def test_a_frozen_prm_scores_without_labels_and_needs_a_head_that_scores():
    frozen = FrozenPrm(learner=learner(head="two_token"), source="shepherd")
    config = small_config(samples=OutcomePairs(step_source="shepherd"), step_models=(frozen,))
    assert config.step_models[0].loss is None
    with pytest.raises(
        ValueError, match=r"\(FrozenPrm\)\.learner\.head is 'language_model'; it mu"
    ):
        FrozenPrm(learner=learner())


# --- adapters that travel alone ------------------------------------------------------------------


def alone(**model: Any) -> Config:
    policy = LearnerConfig(model=ModelConfig(path="/x", **model))
    return small_config(policy=policy, generator=GeneratorConfig(transfer="adapter"))


def test_only_lora_travels_alone_and_only_up_to_the_engines_largest_rank():
    assert alone(lora=LoraConfig(rank=512)).generator.transfer == "adapter"
    with pytest.raises(ValueError, match=r"policy\.model\.lora\.rank is 0; .* is 'rlstep_gloo'$"):
        alone()
    with pytest.raises(ValueError, match=r"policy\.model\.adapter is Ssb; .* is 'rlstep_gloo'$"):
        alone(adapter=Ssb())
    with pytest.raises(ValueError, match=r"rank is 513, .* nearest valid value is 512$"):
        alone(lora=LoraConfig(rank=513))


# --- teachers ------------------------------------------------------------------------------------


def test_a_teacher_compares_logprobs_of_temperature_1():
    teacher = Teacher(learner=learner())
    fields = {"samples": TeacherAdvantages(), "loss": Ppo(), "step_models": (teacher,)}
    small_config(**fields)
    message = r"temperature is 0\.7, and step model Teacher reads .* nearest valid value is 1\.0"
    with pytest.raises(ValueError, match=message):
        small_config(**fields, rollouts=sampled(temperature=0.7))
    # Pairs are compared by logprobs of temperature 1 at any temperature.
    scored = OutcomePairs(step_source="teacher")
    small_config(samples=scored, step_models=(teacher,), rollouts=sampled(temperature=0.7))


def test_advantages_of_a_teacher_need_one():
    with pytest.raises(ValueError, match=r"TeacherAdvantages reads the scores \['teacher'\]"):
        small_config(samples=TeacherAdvantages(), loss=Ppo())


def test_a_distillation_needs_no_outcome():
    policy = learner(reference="model", reference_model=MODEL)
    config = small_config(samples=EverySample(), loss=Distillation(), policy=policy)
    assert config.train_temperature == 1.0 and config.samples.sources == frozenset()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"reference": "model"},
            "learner.reference is 'model', and learner.reference_model is missing; the two go",
        ),
        (
            {"reference_model": MODEL},
            "learner.reference is 'iteration', and learner.reference_model is given; the two go",
        ),
        (
            {
                "reference": "model",
                "reference_model": ModelConfig(path="/x", lora=LoraConfig(rank=4)),
            },
            "learner.reference_model.lora.rank is 4, and a reference has no adapters; the only",
        ),
    ],
)
def test_a_reference_model_that_cannot_be_one(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        learner(**fields)
    assert message in str(caught.value)


# --- numbers -------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "smallest"),
    [
        ("iterations", -1, 0),
        ("max_policy_lag", -1, 0),
        ("prompts_per_iteration", 0, 1),
        ("max_prompt_tokens", 0, 1),
        ("train_seconds", -0.5, 0),
        ("train_seconds", NAN, 0),
        ("train_tokens", -1, 0),
        ("checkpoint_every", -1, 0),
        ("checkpoint_seconds", -1.0, 0),
        ("checkpoint_seconds", NAN, 0),
        ("checkpoint_keep", 1, 2),
        ("seed", -1, 0),
        ("deadline_s", 0.5, 1.0),
    ],
)
def test_numbers_of_the_run(name: str, value: float, smallest: float):
    with pytest.raises(ValueError) as caught:
        small_config(**{name: value})
    assert f"{name} is {value}; the smallest valid value is {smallest}" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "prefix", "name", "value", "smallest"),
    [
        (learner, "learner", "world_size", 0, 1),
        (learner, "learner", "token_budget", 0, 1),
        (learner, "learner", "mini_batches", 0, 1),
        (learner, "learner", "epochs", 0, 1),
        (learner, "learner", "threads", 0, 1),
        (learner, "learner", "skipped_updates_limit", 0, 1),
        (PoolingConfig, "engine", "replicas", 0, 1),
        (PoolingConfig, "engine", "context", 0, 1),
        (PoolingConfig, "engine", "concurrency", 0, 1),
        (PoolingConfig, "engine", "prefill_tokens", 0, 1),
        (PoolingConfig, "engine", "kv_cache_mib", -1, 0),
        (OptimizerConfig, "optimizer", "learning_rate", NAN, 0.0),
        (OptimizerConfig, "optimizer", "weight_decay", -0.1, 0.0),
        (OptimizerConfig, "optimizer", "gradient_clip", -1, 0.0),
        (OptimizerConfig, "optimizer", "warmup_updates", -1, 0),
        (LoraConfig, "lora", "rank", -1, 0),
        (GeneratorConfig, "generator", "replicas", 0, 1),
        (GeneratorConfig, "generator", "tensor_parallel_size", 0, 1),
        (GeneratorConfig, "generator", "context", 0, 1),
        (GeneratorConfig, "generator", "concurrency", 0, 1),
        (GeneratorConfig, "generator", "prefill_tokens", 0, 1),
        (GeneratorConfig, "generator", "block_size", 0, 1),
        (GeneratorConfig, "generator", "kv_cache_mib", -1, 0),
        (GeneratorConfig, "generator", "parity_tolerance", NAN, 0),
        (GeneratorConfig, "generator", "deadline_s", 0, 1.0),
        (GeneratorConfig, "generator", "door_port", -1, 0),
        (ScorerConfig, "scorer", "replicas", 0, 1),
        (ScorerConfig, "scorer", "processes", 0, 1),
        (ScorerConfig, "scorer", "deadline_s", 0, 0.01),
        (EvaluationConfig, "evaluation", "every", -1, 0),
        (PlacementConfig, "placement", "policy_gpus", -1, 0.0),
    ],
)
def test_numbers_of_the_parts(kind: Any, prefix: str, name: str, value: float, smallest: float):
    with pytest.raises(ValueError) as caught:
        kind(**{name: value})
    wanted = f"{prefix}.{name} is {value}; the smallest valid value is {smallest}"
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: OptimizerConfig(schedule="linear", warmup_updates=5, total_updates=5),
            "optimizer.total_updates is 5; the smallest valid value is 6",
        ),
        (
            lambda: OptimizerConfig(betas=(0.9, 1.0)),
            "optimizer.betas is (0.9, 1.0); both lie in [0, 1)",
        ),
        (
            lambda: learner(offload_optimizer=True),
            "learner.zero_stage (with offload_optimizer) is 0; the smallest valid value is 1",
        ),
        (
            lambda: GeneratorConfig(gpu_memory_utilization=1.5),
            "generator.gpu_memory_utilization is 1.5; it lies in (0, 1]",
        ),
        (lambda: at_least("x", float("nan"), 0), "x is nan; the smallest valid value is 0"),
    ],
)
def test_numbers_in_a_range(build: Any, message: str):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value)


def test_check_types_reads_a_part_by_itself():
    check_types(GeneratorConfig(), "generator")
    with pytest.raises(TypeError, match=r"generator.context is 200.5; it must be of type int"):
        check_types(replace(GeneratorConfig(), context=200.5), "generator")  # type: ignore[arg-type]


def test_the_probe_of_a_weight_sync_fits_into_the_context():
    GeneratorConfig(context=73)  # 2 * 32 + 1 + 8
    with pytest.raises(ValueError, match=r"generator\.context is 72.*smallest valid value is 73"):
        GeneratorConfig(context=72)
