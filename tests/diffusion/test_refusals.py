from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import (
    Config,
    DiffusionGeneratorConfig,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
)
from rlstep.environments.guess_number import GuessNumber
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.losses.grpo import Grpo
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.conversation import Conversation
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.value_guided import ValueGuided
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.steps.adaptive import AdaptiveStepSplitter
from rlstep.steps.turns import Turns
from rlstep.tensors.labels import EverySample
from rlstep.testing.small import small_config
from rlstep.types import Sampling

SAMPLING, STOPPED = Sampling(max_tokens=64), Sampling(max_tokens=64, stop=("#",))
SCALAR = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
GUIDED = ValueGuided(sampling=Sampling(max_tokens=64, temperature=0.0))
LEARNER: dict[str, Any] = {"head": "masked_diffusion", "packing": False}


def diffusion(**fields: Any) -> Config:
    base = small_config()
    learner = replace(base.policy, **(LEARNER | fields.pop("learner", {})))
    defaults: dict[str, Any] = {
        "policy": learner,
        "generator": DiffusionGeneratorConfig(context=128),
        "loss": ElboBgpo(),
        "samples": GroupAdvantages(),
    }
    return small_config(**{**defaults, **fields})


def test_it_is_a_configuration():
    assert diffusion().generator.probe_prompt == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": Grpo()}, "loss Grpo needs every token's own logprob.*ElboBgpo"),
        ({"loss": Dpo(), "samples": OutcomePairs()}, "loss Dpo needs every token's own logprob"),
        ({"generator": GeneratorConfig(context=128)}, "generator is GeneratorConfig, and policy"),
        ({"splitter": AdaptiveStepSplitter()}, "splitter AdaptiveStepSplitter reads the sampler's"),
        (
            {
                "rollouts": GUIDED,
                "step_models": (FrozenPrm(learner=SCALAR),),
                "samples": EverySample(),
                "loss": CrossEntropy(),
            },
            "rollouts ValueGuided reads the sampler's logprobs",
        ),
        (
            {
                "evaluation": EvaluationConfig(rollouts=GUIDED),
                "step_models": (FrozenPrm(learner=SCALAR),),
            },
            "rollouts ValueGuided reads the sampler's logprobs",
        ),
        (
            {"rollouts": Independent(samples_per_prompt=2, sampling=STOPPED)},
            "rollouts.sampling has .* stop",
        ),
        (
            {
                "rollouts": Conversation(environment=GuessNumber(), turns=2, sampling=SAMPLING),
                "splitter": Turns(),
            },
            "rollouts Conversation makes conversations.*Independent",
        ),
    ],
)
def test_what_needs_a_chain_is_refused_by_name(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        diffusion(**fields)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"packing": True}, "learner.packing is True.*only valid value is False"),
        ({"elbo_samples": 0}, "learner.elbo_samples is 0; the smallest valid value is 1"),
    ],
)
def test_what_a_learner_of_canvases_does_not_have(learner: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        diffusion(learner=learner)


def test_adapters_are_refused():
    policy = small_config().policy
    model = replace(policy.model, lora=LoraConfig(rank=4))
    with pytest.raises(ValueError, match=r"learner.model.lora.rank is 4.*only valid value is 0"):
        replace(policy, model=model, **LEARNER)


def test_a_diffusion_generator_is_of_no_other_policy():
    with pytest.raises(ValueError, match=r"DiffusionGeneratorConfig, and policy.head"):
        small_config(generator=DiffusionGeneratorConfig(context=128))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tensor_parallel_size": 2}, "generator.tensor_parallel_size is 2.*only valid value is 1"),
        ({"door_port": 80}, "generator.door_port is 80, and a diffusion generator has none"),
        ({"block": 0}, "generator.block is 0; the smallest valid value is 1"),
        ({"block": 4, "tokens_per_step": 5}, "generator.tokens_per_step is 5; the largest.* 4"),
    ],
)
def test_what_loops_of_torch_do_not_have(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        DiffusionGeneratorConfig(**fields)
