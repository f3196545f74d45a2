"""What the recipes that make a policy share: random weights, optimizer, the order of problems."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples, StartModel
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.role_config import CPU_HEAD_SIZES
from rlstep.types import Prompt


def drawn(problems: Sequence[Prompt], batch: int, updates: int) -> Iterator[Sequence[Prompt]]:
    """The problems of every update, one batch after the other; they repeat after an epoch."""
    for update in range(updates):
        first = update * batch % (len(problems) - batch)
        yield problems[first : first + batch]


@dataclass(frozen=True, kw_only=True)
class RandomLlama(StartModel):
    """A small Llama with random weights and a task's tokenizer.

    Not a Qwen2: transformers 5.19 replaces any tokenizer in a qwen2 folder by Qwen2's own, which
    here would drop the newlines, silently.
    """

    tokenizer: str
    """The function that makes it, as 'package.module.function'."""
    hidden_size: int = 128
    intermediate_size: int = 512
    layers: int = 2
    heads: int = 4
    """Of queries; half as many of keys and values."""
    vocab_size: int = 0
    """0: the tokenizer's."""
    context: int = 256
    """Tokens of a problem with its solution."""
    rope_theta: float = 10_000.0
    """Base of the rotary positions: the larger, the farther back a token is found by what it is."""

    def __post_init__(self) -> None:
        """Whoever trains it for an hour wants to sample from it, too (see `served.check_heads`)."""
        if self.hidden_size % self.heads or self.hidden_size // self.heads not in CPU_HEAD_SIZES:
            raise ValueError(
                f"start.hidden_size is {self.hidden_size} for {self.heads} heads; on a CPU vLLM"
                f" 0.32 serves heads of {CPU_HEAD_SIZES}: the smallest valid value is"
                f" {CPU_HEAD_SIZES[0] * self.heads}"
            )

    def write(self, folder: str, seed: int) -> None:
        from importlib import import_module

        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        module, _, name = self.tokenizer.rpartition(".")
        tokenizer: Any = getattr(import_module(module), name)()
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.vocab_size or len(tokenizer),
                hidden_size=self.hidden_size,
                intermediate_size=self.intermediate_size,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.heads // 2,
                max_position_embeddings=self.context,
                rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def made_policy(
    name: str,
    examples: Examples,
    start: StartModel,
    updates: int,
    learning_rate: float = 3e-3,
) -> FitConfig:
    """A policy from random weights: 100 updates of warm-up, then down to 0 in a cosine."""
    return FitConfig(
        name=name,
        learner=LearnerConfig(
            model=ModelConfig(path=""),
            optimizer=OptimizerConfig(
                learning_rate=learning_rate,
                betas=(0.9, 0.98),
                weight_decay=0.01,
                warmup_updates=100,
                schedule="cosine",
                total_updates=updates,
            ),
            reference="none",
            threads=1,
        ),
        loss=CrossEntropy(),
        examples=examples,
        start=start,
        iterations=updates // 50,
        updates_per_iteration=50,
        evaluation_every=4,
    )
