"""Every loss and every estimator on the arithmetic task, a line each; ALGORITHM chooses one."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from arithmetic_base import POLICY, SAMPLING, TASK, arithmetic, policy, scalar_learner, with_prm

from rlstep.advantages.clip_delta import Clip, Delta
from rlstep.advantages.gae import Gae
from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.pav import Pav
from rlstep.advantages.prime import Prime
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.pure import Pure
from rlstep.advantages.reinforce_pp import ReinforcePlusPlus
from rlstep.advantages.rloo import Rloo
from rlstep.advantages.step_label import StepLabelAdvantages
from rlstep.advantages.step_sum import StepSum
from rlstep.advantages.teacher import TeacherAdvantages
from rlstep.advantages.vine import Vine
from rlstep.advantages.whitened import Whitened
from rlstep.config import Config, EvaluationConfig, LearnerConfig, ModelConfig
from rlstep.losses.bgpo import Bgpo
from rlstep.losses.bnf import Bnf
from rlstep.losses.cispo import Cispo
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dapo import Dapo
from rlstep.losses.distillation import Distillation
from rlstep.losses.divergence import ForwardKl
from rlstep.losses.dpo import Dpo
from rlstep.losses.dpo_nll import DpoNll
from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.grpo import Grpo
from rlstep.losses.gspo import Gspo
from rlstep.losses.implicit_outcome import ImplicitOutcomeLoss
from rlstep.losses.implicit_step import ImplicitStepLoss
from rlstep.losses.ipo import Ipo
from rlstep.losses.kl import Kl
from rlstep.losses.kto import Kto
from rlstep.losses.means import ConstantLength
from rlstep.losses.orpo import Orpo
from rlstep.losses.policy_gradient import PolicyGradient
from rlstep.losses.ppo import Ppo
from rlstep.losses.reinforce import Reinforce
from rlstep.losses.score_offset_dpo import ScoreOffsetDpo
from rlstep.losses.simpo import Simpo
from rlstep.losses.sppo import Sppo
from rlstep.losses.step_dpo import StepDpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.losses.step_likelihood import StepLikelihoodLoss
from rlstep.losses.value import ValueLoss
from rlstep.pairs.accepted import AcceptedPairs
from rlstep.pairs.best_worst import BestWorstPairs
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.judgments import JudgmentPairs
from rlstep.pairs.longest_correct import LongestCorrectPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.pairs.ranked import RankedPairs
from rlstep.pairs.refined import RefinedPairs
from rlstep.pairs.sibling_steps import SiblingStepPairs
from rlstep.pairs.tree import TreePairs
from rlstep.pairs.win_rate import WinRatePairs
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.rollouts.step_beam import StepBeam
from rlstep.rollouts.value_guided import ValueGuided
from rlstep.scoring.rewards.oracle_steps import OracleSteps
from rlstep.scoring.step_models.bagged_prm import BaggedPrm
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.implicit_prm import ImplicitPrm
from rlstep.scoring.step_models.implicit_step_prm import ImplicitStepPrm
from rlstep.scoring.step_models.likelihood_prm import LikelihoodPrm
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.scoring.step_models.urm import Urm
from rlstep.tensors.labels import CorrectOnly, EverySample, LocatedError
from rlstep.uncertainty.certain_pairs import CertainPairs
from rlstep.uncertainty.down_weighted import DownWeighted
from rlstep.uncertainty.dropped import Dropped
from rlstep.uncertainty.ensemble import Ensemble
from rlstep.uncertainty.penalised import Penalised

PAIRS, GROUPS = OutcomePairs(), GroupAdvantages()
SCORED = OutcomePairs(step_source="prm")
RECTIFY = {"rollouts": Rectify(base=Independent(samples_per_prompt=4, sampling=SAMPLING))}
ORACLE = {"labellers": (OracleSteps(task=TASK),)}
VALUES = {"labellers": (MonteCarlo(continuations=4, own_outcome=False),)}
BEAM = StepBeam(sampling=SAMPLING, width=4, candidates=2)
OFF_POLICY = MonteCarlo(continuations=4, fraction=0.1, own_outcome=False)


def _critic(gae: Gae) -> dict[str, Any]:
    return {"step_models": (Critic(learner=scalar_learner(), loss=ValueLoss(), gae=gae),)}


IMPLICIT = {
    "step_models": (ImplicitPrm(learner=policy(reference="initial"), loss=ImplicitOutcomeLoss()),)
}


SEARCH = {"labellers": (FirstErrorSearch(),)}
STEPS = {"learner": policy(reference="initial"), "view": LocatedError()}
IMPLICIT_STEPS = {**SEARCH, "step_models": (ImplicitStepPrm(**STEPS, loss=ImplicitStepLoss()),)}
LIKELIHOOD = {**SEARCH, "step_models": (LikelihoodPrm(**STEPS, loss=StepLikelihoodLoss()),)}


def _with_urm() -> dict[str, Any]:
    return with_prm() | {"step_models": (Urm(learner=scalar_learner(), loss=GaussianLabelLoss()),)}


def _with_members(*names: str) -> dict[str, Any]:
    prms = (BaggedPrm(learner=scalar_learner(), loss=StepLabelLoss(), source=n) for n in names)
    return with_prm() | {"step_models": tuple(prms)}


def _with_teacher() -> dict[str, Any]:
    """The policy that ships, which is what they all begin with: later a pull back to it."""
    return {"step_models": (Teacher(learner=LearnerConfig(model=ModelConfig(path=POLICY))),)}


ALGORITHMS: dict[str, dict[str, Any]] = {
    # losses
    "bgpo": {"samples": GROUPS, "loss": Bgpo()},
    "bnf": {"samples": PAIRS, "loss": Bnf()},
    "cispo": {"samples": GROUPS, "loss": Cispo()},
    "cross_entropy": {"samples": CorrectOnly(), "loss": CrossEntropy()},
    "dapo": {"samples": GroupAdvantages(without_signal="left_out"), "loss": Dapo()},
    "distillation": {
        "samples": EverySample(),
        "loss": Distillation(divergence=ForwardKl(top_k=8)),
        "policy": policy(reference="model", reference_model=ModelConfig(path=POLICY)),
    },
    "dpo": {"samples": PAIRS, "loss": Dpo()},
    "dpo_nll": {"samples": PAIRS, "loss": DpoNll()},
    "dr_grpo": {"samples": GROUPS, "loss": DrGrpo(mean=ConstantLength(length=72))},
    "full_step_dpo": {"samples": SCORED, "loss": FullStepDpo(), **with_prm()},
    "full_step_dpo_margin": {
        "samples": SCORED,
        "loss": FullStepDpo(form="margin", normalise="mean1"),
        **with_prm(),
    },
    "grpo": {"samples": GROUPS, "loss": Grpo()},
    "elbo_bgpo": {"samples": GROUPS, "loss": ElboBgpo()},
    "gspo": {"samples": GROUPS, "loss": Gspo()},
    "ipo": {"samples": PAIRS, "loss": Ipo()},
    "kto": {"samples": PAIRS, "loss": Kto()},
    "orpo": {"samples": PAIRS, "loss": Orpo()},
    "policy_gradient_entropy": {"samples": GROUPS, "loss": PolicyGradient(entropy=0.001)},
    "ppo": {"samples": GROUPS, "loss": Ppo()},
    "reinforce": {"samples": GROUPS, "loss": Reinforce()},
    "score_offset_dpo": {"samples": PAIRS, "loss": ScoreOffsetDpo()},
    "simpo": {"samples": PAIRS, "loss": Simpo()},
    "sppo": {"samples": WinRatePairs(), "loss": Sppo()},
    "step_dpo": {"samples": FirstErrorPairs(), "loss": StepDpo(), **RECTIFY, **with_prm()},
    # pairs
    "judgments": {
        "samples": JudgmentPairs(hints=0),
        "loss": DpoNll(alpha=1e-3, alpha_weighs="nll"),
    },
    "accepted": {
        "samples": AcceptedPairs(source="outcome"),
        "loss": DpoNll(alpha=0.1, alpha_weighs="nll"),
        **RECTIFY,
        **with_prm(),
    },
    "best_worst": {"samples": BestWorstPairs(), "loss": Dpo(), **with_prm()},
    "ranked": {"samples": RankedPairs(source="outcome"), "loss": ScoreOffsetDpo()},
    "longest_correct": {"samples": LongestCorrectPairs(), "loss": Dpo()},
    "refined": {"samples": RefinedPairs(), "loss": Dpo(), **RECTIFY, **with_prm()},
    # By exact scores: a PRM that has just begun to learn orders siblings by its noise, and the
    # policy follows that down (seen in 20 iterations: 56 % -> 16 %).
    "sibling_steps": {
        "samples": SiblingStepPairs(source="oracle"),
        "loss": StepDpo(),
        **ORACLE,
    },
    "tree": {"samples": TreePairs(), "loss": Dpo()},
    # advantages
    "clip": {"samples": Clip(), "loss": Ppo(), **with_prm()},
    "delta": {"samples": Delta(), "loss": Ppo(), **with_prm()},
    "gae_steps": {"samples": Gae(level="step"), "loss": Ppo(), **_critic(Gae(level="step"))},
    "gae_tokens": {"samples": Gae(), "loss": Ppo(), **_critic(Gae())},
    "mixture": {"samples": Mixture(), "loss": Ppo(), **with_prm()},
    "pav": {"samples": Whitened(of=Pav()), "loss": Ppo(), **VALUES},
    "prime": {"samples": Prime(), "loss": Ppo(), **IMPLICIT},
    "teacher": {
        "samples": Mixture(process=TeacherAdvantages(), process_coefficient=0.1),
        "loss": Ppo(),
        **_with_teacher(),
    },
    "process": {"samples": ProcessAdvantages(source="oracle"), "loss": Ppo(), **ORACLE},
    "process_implicit": {
        "samples": ProcessAdvantages(gamma=0.0),
        "loss": Ppo(kl=Kl(coefficient=0.05)),
        **IMPLICIT_STEPS,
    },
    "process_likelihood": {
        "samples": ProcessAdvantages(gamma=0.0),
        "loss": Ppo(),
        **LIKELIHOOD,
    },
    "pure": {"samples": Pure(), "loss": Ppo(), **with_prm()},
    "reinforce_pp": {"samples": ReinforcePlusPlus(), "loss": Ppo()},
    "rloo": {"samples": Rloo(), "loss": Ppo()},
    "step_label": {"samples": StepLabelAdvantages(), "loss": Ppo(), **SEARCH},
    "step_sum": {"samples": StepSum(source="oracle"), "loss": Ppo(), **ORACLE},
    "vine": {"samples": Whitened(of=Vine()), "loss": Ppo(), **VALUES},
    # uncertainty
    "urm_penalised": {
        "samples": Penalised(of=Pure(source="urm"), source="urm"),
        "loss": Ppo(),
        **_with_urm(),
    },
    "urm_down_weighted": {
        "samples": DownWeighted(of=Pure(source="urm"), source="urm"),
        "loss": Ppo(),
        **_with_urm(),
    },
    "urme_dropped": {
        "samples": Ensemble(
            of=Dropped(of=Pure(source="ensemble"), source="ensemble", most=0.3),
            members=("prm_a", "prm_b"),
        ),
        "loss": Ppo(),
        **_with_members("prm_a", "prm_b"),
    },
    # decoding by values
    "step_beam": {
        "samples": PAIRS,
        "loss": Dpo(),
        **with_prm(),
        "rollouts": replace(BEAM, samples_per_prompt=4),
        "labellers": (OFF_POLICY,),
        "evaluation": EvaluationConfig(rollouts=BEAM),
    },
    "value_guided": {
        "samples": CorrectOnly(),
        "loss": CrossEntropy(),
        **with_prm(),
        "rollouts": ValueGuided(sampling=SAMPLING, samples_per_prompt=4),
        "labellers": (OFF_POLICY,),
    },
    "certain_pairs": {"samples": CertainPairs(), "loss": Dpo(), **with_prm()},
}


def config() -> Config:
    small = {"prompts_per_iteration": 16, "iterations": 20}
    return arithmetic("algorithm", **small, **ALGORITHMS[os.environ["ALGORITHM"]])
