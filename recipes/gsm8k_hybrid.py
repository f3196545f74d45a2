"""GRPO on GSM8K with three ways to an outcome, everything on one GPU (24 GB or more).

Of every three training problems one is decided by the verifier, one by a judge that is shown the
answer, and one by a judge that compares with a reference completion: each prompt's metadata says
which. GSM8K has an answer for all of them, so this is an example to copy for data that has not: a
file with a column `scorer` (tasks.open_ended) needs no code. The held-out problems are the
verifier's, so that their accuracy means the same as in any other run.

The policy judges itself here, which needs nothing more. A larger judge is a better one: put
`Endpoint(url="http://host:8000/v1", model="...", key_variable="...")` in the place of JUDGE.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b

from one_gpu import generator

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
)
from rlstep.interfaces import PromptSet, Tokenizer
from rlstep.losses.grpo import Grpo
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.reference_judge import ReferenceJudge
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.gsm8k import Gsm8k
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Prompt, Sampling

TEMPLATE = PromptTemplate(
    system="Solve the problem step by step, one step a line. End with '#### ' and the answer."
)
JUDGE = GeneratorModel(sampling=Sampling(max_tokens=512, temperature=0.7))
ROUTES = ("verifier", "judge", "reference")


@dataclass(frozen=True, kw_only=True)
class HybridGsm8k(Gsm8k):
    """GSM8K with the way to an outcome in each training prompt's metadata."""

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        loaded = super().load(tokenizer, max_prompt_tokens)
        return replace(loaded, train=[routed(prompt) for prompt in loaded.train])


def routed(prompt: Prompt) -> Prompt:
    """With its route, by a hash of its id, and with no more than that route needs."""
    digest = blake2b(prompt.prompt_id.encode(), digest_size=4).digest()
    route = ROUTES[int.from_bytes(digest, "big") % len(ROUTES)]
    meta = {**prompt.meta, "scorer": route}
    if route == "reference":
        # The data's own solution stands in for the best of N samples, see OpenEnded.references.
        return replace(prompt, answer="", meta={**meta, "reference": prompt.meta["answer"]})
    return replace(prompt, meta=meta)


def config() -> Config:
    return Config(
        name="gsm8k-hybrid",
        task=HybridGsm8k(path="openai/gsm8k", subset="main", held_out=500, template=TEMPLATE),
        policy=LearnerConfig(
            model=ModelConfig(
                path="Qwen/Qwen2.5-0.5B-Instruct", dtype="bfloat16", gradient_checkpointing=True
            ),
            optimizer=OptimizerConfig(learning_rate=1e-6, warmup_updates=20),
            token_budget=16384,
            mini_batches=4,
        ),
        samples=GroupAdvantages(),
        loss=Grpo(),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=512)),
        splitter=NewlineSplitter(),
        verifier=MathAnswer(),
        judges=(OutcomeJudge(model=JUDGE, votes=3), ReferenceJudge(model=JUDGE)),
        generator=generator(2560),
        placement=PlacementConfig(generator_gpus=0.5, policy_gpus=0.5, strategy="STRICT_PACK"),
        evaluation=EvaluationConfig(every=20),
        prompts_per_iteration=64,
        max_prompt_tokens=512,
        iterations=200,
        checkpoint_every=20,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
