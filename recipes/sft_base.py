"""What the recipes that make a policy share: options, random weights, supervised training."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.types import LabelSamples, Prompt


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


def drawn(problems: Sequence[Prompt], batch: int, updates: int) -> Iterator[Sequence[Prompt]]:
    """The problems of every update, one batch after the other; they repeat after an epoch."""
    for update in range(updates):
        first = update * batch % (len(problems) - batch)
        yield problems[first : first + batch]


def random_policy(folder: str, seed: int, tokenizer: Any, **sizes: Any) -> str:
    """A small Llama with random weights and a task's tokenizer; `sizes` are its config's.

    Not a Qwen2: transformers 5.19 replaces any tokenizer in a qwen2 folder by Qwen2's own, which
    here would drop the newlines, silently.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            **sizes,
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


def make_policy(options: Sft, fresh: Callable[[str], str], batches: Iterable[LabelSamples]) -> None:
    """Train and export.

    Args:
        fresh: writes random weights to the folder that it is given, and returns its path.
        batches: of one update each.
    """
    from rlstep.running.supervised import fit

    with tempfile.TemporaryDirectory() as folder:
        learner = LearnerConfig(
            model=ModelConfig(path=options.start or fresh(folder)),
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
            batches,
            Path(options.out),
            seed=options.seed,
            seconds=options.seconds,
        )
    print(
        f"{result['batches']:.0f} updates in {result['seconds']:.0f} s, loss {result['loss']:.4f}"
    )
