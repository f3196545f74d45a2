"""Fits of solutions that a test wrote, and runs of the arithmetic task with what they leave."""

import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))
from arithmetic_base import arithmetic, scalar_learner
from arithmetic_ppo import GAE

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import Config, EvaluationConfig, LearnerConfig, ModelConfig
from rlstep.examples.judged_steps import JudgedSteps
from rlstep.examples.preferences import Preferences
from rlstep.examples.state_values import StateValues
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples, Loss
from rlstep.losses.bradley_terry import BradleyTerry
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.ppo import Ppo
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.reward_model import RewardModel
from rlstep.tensors.templates import PromptTemplate

DATA = os.environ.get("FITTED_DATA", "")
MODEL = os.environ.get("FITTED_MODEL", "")
TEMPLATE = PromptTemplate(chat=False, text="{problem}\n")
SHORT = {"iterations": 2, "prompts_per_iteration": 32, "evaluation": EvaluationConfig()}


def fit(name: str, loss: Loss, examples: Examples) -> FitConfig:
    learner = replace(scalar_learner(), mini_batches=1)
    return FitConfig(
        name=name, learner=learner, loss=loss, examples=examples, updates_per_iteration=20,
        iterations=6,
    )  # fmt: skip


def preferred() -> FitConfig:
    examples = Preferences(path=DATA, template=TEMPLATE, batch=48, epochs=8)
    return fit("preferred", BradleyTerry(), examples)


def valued() -> FitConfig:
    judged = JudgedSteps(path=DATA, template=TEMPLATE, batch=48, epochs=8)
    return fit("valued", ValueLoss(), StateValues(of=judged, level="step"))


def rewarded() -> Config:
    frozen = LearnerConfig(
        model=ModelConfig(path=MODEL), head="token_classification", reference="none", threads=1
    )
    return arithmetic(
        "rewarded",
        samples=GroupAdvantages(source="reward_model"),
        loss=Grpo(kl=Kl(coefficient=0.0)),
        step_models=(RewardModel(learner=frozen),),
        **SHORT,
    )


def criticised() -> Config:
    learner = replace(scalar_learner(), model=ModelConfig(path=MODEL), mini_batches=1)
    critic = Critic(learner=learner, loss=ValueLoss(), gae=GAE)
    return arithmetic("criticised", samples=GAE, loss=Ppo(), step_models=(critic,), **SHORT)


def config() -> Config | FitConfig:
    parts = {"preferred": preferred, "valued": valued, "rewarded": rewarded, "critic": criticised}
    return parts[os.environ["FITTED_PART"]]()
