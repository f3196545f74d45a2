"""The arms of `horizon.py`: what each is trained on, and the controls."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from modular_chain_base import TASK, located, with_prm
from studies.study_base import Shuffled

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.rloo import Rloo
from rlstep.advantages.step_label import StepLabelAdvantages
from rlstep.interfaces import Labeller, LabelView, RolloutContext, SampleBuilder
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.losses.reinforce import Reinforce
from rlstep.pairs.longest_correct import LongestCorrectPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.independent import Independent
from rlstep.tasks.modular_chain import ModularChain
from rlstep.tensors.labels import CorrectOnly, LocatedError
from rlstep.types import Floats, Ints, Rollout, Sampling, StepScores


@dataclass(frozen=True, kw_only=True)
class Following(Labeller):
    """The exact oracle of a step: 1 where it follows from the line before, else 0."""

    source: str = "oracle"
    task: ModularChain = TASK

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return [rollout.with_scores(oracle=self._scores(rollout)) for rollout in rollouts]

    def _scores(self, rollout: Rollout) -> StepScores:
        texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
        follows = self.task.follow(rollout.prompt, texts)
        return StepScores(values=np.array(follows, dtype=np.float32), version=0)


@dataclass(frozen=True, kw_only=True)
class ShuffledView(LabelView):
    """The same control of labels: those of a chain's labelled steps in another order."""

    of: LabelView = LocatedError()

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        targets, weights = self.of.labels(n, k)
        known = weights > 0
        rng = np.random.default_rng(zlib.crc32(np.concatenate([n, k]).tobytes()))
        targets[known] = rng.permutation(targets[known])
        return targets, weights


def full_step(source: str) -> SampleBuilder:
    return OutcomePairs(step_source=source)


def process(source: str) -> SampleBuilder:
    """Every step paid for itself.

    Scores as they are, not over their deviation: a PRM that knows nothing yet says the same of all
    steps, and pays nothing. Outcomes are not added: of long chains they are mostly luck.
    """
    return ProcessAdvantages(source=source, gamma=0.0, std="none")


def colder(samples: int, temperature: float) -> Callable[[int], dict[str, Any]]:
    """Of K operations: as many rollouts an iteration, sampled at another temperature than 1, where
    right ones are more frequent; evaluated as all other arms are."""

    def fields(operations: int) -> dict[str, Any]:
        sampling = Sampling(max_tokens=4 * operations + 2, temperature=temperature)
        return {
            "rollouts": Independent(samples_per_prompt=samples, sampling=sampling),
            "prompts_per_iteration": 256 // samples,
        }

    return fields


GRPO = Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0))
FULL_STEP = FullStepDpo(beta=0.1, gamma=2.0)
ORACLE = {"labellers": (Following(),)}
LOCATED = {"labellers": (located(),)}
ARMS: dict[str, dict[str, Any]] = {
    "sft_correct": {"samples": CorrectOnly(), "loss": CrossEntropy()},
    "dpo": {"samples": OutcomePairs(), "loss": Dpo()},
    "grpo": {"samples": GroupAdvantages(), "loss": GRPO},
    "sft_greedy": {"samples": CorrectOnly(), "loss": CrossEntropy()},
    "grpo_cold": {"samples": GroupAdvantages(), "loss": GRPO},
    "located": {"samples": StepLabelAdvantages(), "loss": GRPO, **LOCATED},
    "located_shuffled": {
        "samples": StepLabelAdvantages(view=ShuffledView()),
        "loss": GRPO,
        **LOCATED,
    },
    "process_prm": {"samples": process("prm"), "loss": GRPO, **with_prm()},
    "process_oracle": {"samples": process("oracle"), "loss": GRPO, **ORACLE},
    "process_shuffled": {"samples": Shuffled(of=process("prm")), "loss": GRPO, **with_prm()},
    "full_step_prm": {"samples": full_step("prm"), "loss": FULL_STEP, **with_prm()},
    "full_step_oracle": {"samples": full_step("oracle"), "loss": FULL_STEP, **ORACLE},
    "full_step_shuffled": {
        "samples": Shuffled(of=full_step("prm")),
        "loss": FULL_STEP,
        **with_prm(),
    },
}
CORE = tuple(ARMS)
ARMS |= {
    "rloo": {"samples": Rloo(), "loss": Reinforce()},
    "dr_grpo": {
        "samples": GroupAdvantages(std="none"),
        "loss": DrGrpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
    },
    "dpo_vp": {"samples": LongestCorrectPairs(), "loss": Dpo()},
}
"""Further ones that go by outcomes. VinePPO and PAV are none: one continuation of every prefix of
one iteration's rollouts is 256 (K - 1) / 2 rollouts long, which at K = 32 is more than the budget.
"""
SAMPLED = {"sft_greedy": colder(1, 0.0), "grpo_cold": colder(8, 0.5)}
"""Arms that sample otherwise than all others."""
OUTCOME_ARMS = ("sft_correct", "dpo", "grpo", "rloo", "dr_grpo", "dpo_vp", *SAMPLED)
TUNED = dict.fromkeys(ARMS, 3e-4) | dict.fromkeys(("sft_correct", "dpo"), 1e-4)
"""The best of `RATES` that were tried (docs/studies.md); shuffled controls have the rate of the arm
that they control."""
