"""The configuration of one learner: model, optimizer, parallelism, batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlstep.checks import at_least


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (peft). `rank` 0 trains the full model."""

    rank: int = 0
    alpha: float = 16.0
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 0)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and in which numbers."""

    path: str
    """A folder, or a Hugging Face hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    lora: LoraConfig = LoraConfig()
    gradient_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule, counted in updates."""

    learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    warmup_updates: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    total_updates: int = 0
    """Where a linear or cosine schedule reaches 0."""

    def __post_init__(self) -> None:
        at_least("optimizer.learning_rate", self.learning_rate, 0.0)
        at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"optimizer.betas is {self.betas}; both lie in [0, 1)")
        at_least("optimizer.warmup_updates", self.warmup_updates, 0)
        at_least("optimizer.gradient_clip", self.gradient_clip, 0.0)
        if self.schedule != "constant":
            at_least("optimizer.total_updates", self.total_updates, self.warmup_updates + 1)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """One model under DeepSpeed. The policy, a PRM and a critic are all learners."""

    model: ModelConfig
    head: Literal["language_model", "token_classification"] = "language_model"
    """A token-classification head starts at zero, so an untrained PRM scores every step 0.5."""
    optimizer: OptimizerConfig = OptimizerConfig()
    reference: Literal["iteration", "initial", "none"] = "iteration"
    """Whose logprobs are ref_logprobs: the learner's own before its first update on a batch, or the
    first model's (a frozen copy, or the adapter switched off). 'none' where no loss reads them."""
    world_size: int = 1
    """DeepSpeed ranks."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: bool = False
    token_budget: int = 16384
    """Padded tokens of one micro-batch; sets memory, never the result."""
    mini_batches: int = 1
    """Updates per pass over a batch of samples."""
    epochs: int = 1
    threads: int = 2
    """CPU threads of each rank (ignored on GPUs)."""
    skipped_updates_limit: int = 5
    """So many updates in a row without a finite loss and gradient end the run."""

    def __post_init__(self) -> None:
        at_least("learner.skipped_updates_limit", self.skipped_updates_limit, 1)
        if self.offload_optimizer:
            at_least("learner.zero_stage (with offload_optimizer)", self.zero_stage, 1)
        at_least("learner.world_size", self.world_size, 1)
        at_least("learner.token_budget", self.token_budget, 1)
        at_least("learner.mini_batches", self.mini_batches, 1)
        at_least("learner.epochs", self.epochs, 1)
        at_least("learner.threads", self.threads, 1)
