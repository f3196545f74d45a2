"""Makes the arithmetic policy: supervised training on worked solutions of mixed quality.

    python recipes/arithmetic_sft.py --out /tmp/policy            the shipped policy, from scratch
    python recipes/arithmetic_sft.py --start recipes/policies/arithmetic --seconds 290 \
        --learning-rate 1e-4 --out /tmp/more                      more of the same, as a control
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from arithmetic_base import TASK

from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.tasks.arithmetic import arithmetic_tokenizer, sft_samples
from rlstep.types import LabelSamples


@dataclass(frozen=True, kw_only=True)
class Sft:
    out: str
    """Folder to write the policy to."""
    start: str = ""
    """Folder of a policy to go on from; empty starts from random weights."""
    updates: int = 1200
    batch: int = 96
    """Solutions of one update."""
    learning_rate: float = 3e-3
    warmup_updates: int = 100
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 50_000
    seconds: float = 0.0
    """Stop after this long; 0 makes every update."""
    seed: int = 0
    threads: int = 1


def random_policy(folder: str, seed: int) -> str:
    """A Llama of half a million parameters with the task's tokenizer.

    Not a Qwen2: transformers 5.19 replaces any tokenizer in a qwen2 folder by Qwen2's own, which
    here would drop the newlines, silently.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = arithmetic_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batches(options: Sft) -> Iterator[LabelSamples]:
    """Fresh solutions for every batch; problems repeat after an epoch."""
    tokenizer = arithmetic_tokenizer()
    problems = replace(TASK, train=options.problems, evaluation=0).load(tokenizer, 64).train
    rng = np.random.default_rng(options.seed)
    for update in range(options.updates):
        first = update * options.batch % (len(problems) - options.batch)
        chosen = problems[first : first + options.batch]
        yield sft_samples(chosen, rng, options.sloppy, tokenizer)


def main(options: Sft) -> None:
    from rlstep.supervised import fit

    with tempfile.TemporaryDirectory() as folder:
        learner = LearnerConfig(
            model=ModelConfig(path=options.start or random_policy(folder, options.seed)),
            optimizer=OptimizerConfig(
                learning_rate=options.learning_rate,
                betas=(0.9, 0.98),
                weight_decay=0.01,
                warmup_updates=options.warmup_updates,
                schedule="constant" if options.seconds else "cosine",
                total_updates=options.updates,
            ),
            reference="none",
            threads=options.threads,
        )
        result = fit(
            learner,
            CrossEntropy(),
            batches(options),
            Path(options.out),
            seed=options.seed,
            seconds=options.seconds,
        )
    print(
        f"{result['batches']:.0f} updates in {result['seconds']:.0f} s, loss {result['loss']:.4f}"
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Sft))
