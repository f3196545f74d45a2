"""A whole run in miniature, for tests of the run itself: random weights, a reward by chance."""

import os
from dataclasses import dataclass

from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    ScorerConfig,
)
from rlstep.interfaces import Verifier
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.pattern import PatternSplitter
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.types import OutcomeScore, Sampling, Verdict

TASK = Arithmetic(
    operations=3, largest_operand=9, largest_factor=3, limit=20, train=64, evaluation=8
)


@dataclass(frozen=True, kw_only=True)
class EvenLength(Verifier):
    """Right is what has an even number of characters: about half of anything is."""

    def verify(self, text: str, answer: str) -> OutcomeScore:
        even = len(text) % 2 == 0
        verdict = Verdict.CORRECT if even else Verdict.WRONG
        return OutcomeScore(value=float(even), verdict=verdict, extracted=str(len(text)))


def config() -> Config:
    model = ModelConfig(path=os.environ["TINY_POLICY"])
    optimizer = OptimizerConfig(learning_rate=1e-3)
    return Config(
        name="tiny",
        task=TASK,
        policy=LearnerConfig(model=model, optimizer=optimizer, threads=1),
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(),
        rollouts=Independent(samples_per_prompt=4, sampling=Sampling(max_tokens=12)),
        splitter=PatternSplitter(pattern=r"[+=#]"),
        verifier=EvenLength(),
        labellers=(MonteCarlo(continuations=2, fraction=0.2),),
        step_models=(
            Prm(
                learner=LearnerConfig(
                    model=model,
                    head="token_classification",
                    optimizer=optimizer,
                    reference="none",
                    threads=1,
                ),
                loss=StepLabelLoss(),
            ),
        ),
        generator=GeneratorConfig(context=96, kv_cache_mib=32, deadline_s=1800.0),
        scorer=ScorerConfig(deadline_s=300.0),
        deadline_s=1800.0,
        evaluation=EvaluationConfig(prm_problems=4),
        max_prompt_tokens=32,
        prompts_per_iteration=4,
        iterations=4,
        checkpoint_every=1,
    )
