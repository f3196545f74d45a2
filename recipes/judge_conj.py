"""Con-J: a generative judge trained on its own contrastive judgments, on one GPU of 80 GB.

Ye et al. 2024 (arXiv:2410.03742): for pairs of answers of which the better one is known, the judge
writes 8 judgments; right verdicts are preferred to wrong ones by DPO (beta 0.1) with a little
likelihood (1e-3), at a learning rate of 5e-7. The numbers are the paper's, the model is smaller.
Held-out accuracy ('eval/accuracy') counts both orders of a pair. The exported model is a judge for
other runs: serve it, and name it in an `Endpoint`.

The data is any .jsonl file with the columns prompt, chosen and rejected:
--task.path FILE.jsonl --task.prompt-column prompt.
"""

from one_gpu import generator

from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
)
from rlstep.losses.dpo_nll import DpoNll
from rlstep.pairs.judgments import JudgmentPairs
from rlstep.rollouts.hinted import Hinted
from rlstep.scoring.answers.verdict_answer import VerdictAnswer
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.better_answer import BetterAnswer
from rlstep.types import Sampling


def config() -> Config:
    return Config(
        name="judge-conj",
        task=BetterAnswer(
            path="Skywork/Skywork-Reward-Preference-80K-v0.2", prompt_column="", held_out=500
        ),
        policy=LearnerConfig(
            model=ModelConfig(
                path="Qwen/Qwen2.5-1.5B-Instruct", dtype="bfloat16", gradient_checkpointing=True
            ),
            optimizer=OptimizerConfig(learning_rate=5e-7, warmup_updates=20),
            token_budget=16384,
        ),
        samples=JudgmentPairs(contrasts=3, unparsable=1, hints=1),
        loss=DpoNll(beta=0.1, alpha=1e-3, alpha_weighs="nll"),
        rollouts=Hinted(samples_per_prompt=8, sampling=Sampling(max_tokens=768)),
        splitter=NewlineSplitter(),
        verifier=VerdictAnswer(),
        generator=generator(4096, kv_cache_mib=16384),
        placement=PlacementConfig(generator_gpus=0.5, policy_gpus=0.5, strategy="STRICT_PACK"),
        evaluation=EvaluationConfig(every=50, problems=200),
        prompts_per_iteration=32,
        max_prompt_tokens=2048,
        iterations=500,
        checkpoint_every=50,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
