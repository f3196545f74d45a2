"""SPaR on instructions with constraints: the policy answers, judges itself by votes, and refines
what it finds wrong; it is trained on the refined answers against the ones before.

Cheng et al. 2024 (arXiv:2412.11605): three iterations of DPO (beta 0.1) with a little likelihood.
The exact check of the constraints only reports: accuracy, also of held-out problems, is by it, and
nothing is trained on it. What the judge and the refiner would be trained on is in <run>/refiner.

    rlstep train recipes/spar_self_play.py
    python recipes/studies/self_play_figures.py --run FOLDER
"""

from constraints_base import JUDGE, LONGEST_PROBLEM, POLICY, REFINE, TASK

from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.dpo_nll import DpoNll
from rlstep.pairs.accepted import AcceptedPairs
from rlstep.reporting.sinks.usual import USUAL
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.constraints_met import ConstraintsMet
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.rewards.grades import Grades
from rlstep.self_play.refiner_data import RefinerData
from rlstep.self_play.search import BreadthFirst
from rlstep.self_play.self_refine import Refiner, SelfRefine
from rlstep.steps.newline import NewlineSplitter
from rlstep.types import Sampling

ANSWER_TOKENS = 16
JUDGMENT_TOKENS = 32
SELF_PLAY = SelfRefine(
    base=Independent(
        samples_per_prompt=5,
        sampling=Sampling(max_tokens=ANSWER_TOKENS, temperature=0.9, top_p=0.9),
    ),
    judge=OutcomeJudge(
        model=GeneratorModel(sampling=Sampling(max_tokens=JUDGMENT_TOKENS, temperature=0.7)),
        votes=5,
        template=JUDGE,
    ),
    refiner=Refiner(question=REFINE, sampling=Sampling(max_tokens=ANSWER_TOKENS, temperature=0.7)),
    search=BreadthFirst(branch=3, keep=2, depth=3),
    originals=5,
    budget=1000,
)


def config() -> Config:
    return Config(
        name="spar-self-play",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            optimizer=OptimizerConfig(learning_rate=1e-4),
            reference="iteration",
            mini_batches=4,
            threads=1,
        ),
        samples=AcceptedPairs(),
        loss=DpoNll(beta=0.1, alpha=0.1, alpha_weighs="nll"),
        rollouts=SELF_PLAY,
        splitter=NewlineSplitter(),
        verifier=ConstraintsMet(),
        labellers=(Grades(),),
        generator=GeneratorConfig(context=96, kv_cache_mib=128),
        sinks=(RefinerData(of=SELF_PLAY), *USUAL),
        max_prompt_tokens=LONGEST_PROBLEM,
        prompts_per_iteration=16,
        iterations=3,
        evaluation=EvaluationConfig(every=1),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
