"""Tiny models, samples and losses for the learner's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rlstep.actors.learner.learner import LearnerWorker
from rlstep.config import LearnerConfig
from rlstep.interfaces import Batch, Loss, LossOutput
from rlstep.types import AdvantageSamples, Counts, LabelSamples, Pair, PairSamples, Sequence

VOCABULARY = 48


def make_model(
    folder: Path,
    *,
    tied: bool = False,
    pad: str | None = "<pad>",
    vocabulary: int = VOCABULARY,
    hidden: int = 32,
    layers: int = 2,
    special: tuple[str, ...] = (),
) -> str:
    """A random Qwen2 with a word-level tokenizer; `special` are words that are special tokens."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,  # so that predictions are far from uniform
            tie_word_embeddings=tied,
        )
    )
    model.save_pretrained(folder)
    # transformers 5 reads any tokenizer of a Qwen2 folder as Qwen2's, which has this end token.
    words = {"<pad>": 0, "<|endoftext|>": 1, **{f"w{i}": i for i in range(2, vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token="<|endoftext|>",
        extra_special_tokens=list(special),
    ).save_pretrained(folder)
    return str(folder)


def make_architecture(folder: Path, kind: str) -> str:
    """A random language model of any of transformers' architectures, without a tokenizer."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
    if kind != "Mamba":
        sizes |= {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    if kind == "OPT":
        sizes |= {"word_embed_proj_dim": 32, "ffn_dim": 64}
    if kind == "Lfm2":
        sizes |= {"layer_types": ["conv", "full_attention"]}
    settings = getattr(transformers, f"{kind}Config")(**sizes, initializer_range=0.2)
    getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM"))(
        settings
    ).save_pretrained(folder)
    return str(folder)


def make_sequences(number: int = 8, *, prompts: int = 4) -> tuple[Sequence, ...]:
    """Ragged: a prompt of 3 tokens, completions of 2 to 13 tokens in two steps."""
    random = np.random.default_rng(0)
    made = []
    for i in range(number):
        length = 5 + int(random.integers(0, 12))
        index = np.full(length, -1, np.int32)
        index[3:] = (np.arange(length - 3) >= 1).astype(np.int32)
        made.append(
            Sequence(
                sequence_id=f"s{i}",
                prompt_id=f"p{i % prompts}",
                token_ids=random.integers(2, VOCABULARY, length).astype(np.int32),
                loss_mask=index >= 0,
                step_index=index,
                rollout_logprobs=np.zeros(length, np.float32),
                step_scores=random.random(2).astype(np.float32),
                oldest_version=0,
            )
        )
    return tuple(made)


def advantage_samples(number: int = 8) -> AdvantageSamples:
    sequences = make_sequences(number)
    random = np.random.default_rng(1)
    return AdvantageSamples(
        sequences=sequences,
        advantages=tuple(
            np.where(s.loss_mask, random.standard_normal(len(s.token_ids)), 0.0).astype(np.float32)
            for s in sequences
        ),
        groups=4,
    )


def pair_samples() -> PairSamples:
    """Eight sequences of four prompts; i is chosen and i + 4 rejected."""
    return PairSamples(
        sequences=make_sequences(8),
        pairs=tuple(
            Pair(
                chosen=i,
                rejected=i + 4,
                shared_prefix=3,
                chosen_score=1.0,
                rejected_score=0.0,
                provenance="test",
            )
            for i in range(4)
        ),
        groups=4,
    )


def label_samples() -> LabelSamples:
    sequences = make_sequences(8)
    return LabelSamples(
        sequences=sequences,
        targets=tuple((s.token_ids % 2).astype(np.float32) for s in sequences),
        weights=tuple(s.loss_mask.astype(np.float32) for s in sequences),
    )


@dataclass(frozen=True, kw_only=True)
class RatioLoss(Loss):
    """Policy gradient with a probability ratio: separable, reads old and reference logprobs."""

    takes: ClassVar[type] = AdvantageSamples
    separable: ClassVar[bool] = True
    poison: str = ""
    """'loss' adds an infinity to the value, 'gradient' makes only the gradient infinite."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old_logprobs", "ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        mask = batch.loss_mask
        ratio = torch.where(mask, predictions - batch.old_logprobs, 0.0).exp()
        drift = torch.where(mask, predictions - batch.ref_logprobs, 0.0).square()
        loss = ((0.1 * drift - ratio * batch.advantages) * mask).sum() / counts.tokens  # type: ignore[union-attr]
        if self.poison == "loss":
            loss = loss + torch.inf
        if self.poison == "gradient":
            loss = loss + torch.where(mask, predictions * 0.0, 0.0).abs().sqrt().sum()
        metrics = {
            "ratio": (ratio * mask).sum().detach() / counts.tokens,
            "drift": (drift * mask).sum().detach() / counts.tokens,
        }
        return LossOutput(loss, metrics)


@dataclass(frozen=True, kw_only=True)
class MarginLoss(Loss):
    """Sigmoid preference loss over pairs: not separable."""

    takes: ClassVar[type] = PairSamples
    beta: float = 0.5
    poison: float = 0.0
    """Added to the value; an infinity leaves the gradient finite."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        ratio = torch.where(batch.loss_mask, predictions - batch.ref_logprobs, 0.0).sum(-1)
        margin = self.beta * (ratio[batch.chosen] - ratio[batch.rejected])  # type: ignore[union-attr]
        loss = -torch.nn.functional.logsigmoid(margin).sum() / counts.pairs + self.poison
        return LossOutput(loss, {"margin": margin.detach().sum() / counts.pairs})


@dataclass(frozen=True, kw_only=True)
class LabelLoss(Loss):
    """Binary cross-entropy of a scalar head: separable."""

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True

    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            predictions,
            batch.targets,  # type: ignore[union-attr]
            weight=batch.weights,  # type: ignore[union-attr]
            reduction="sum",
        )
        return LossOutput(each / counts.weight, {})


@contextmanager
def running(config: LearnerConfig, loss: Loss, *, seed: int = 0) -> Iterator[LearnerWorker]:
    """One rank in this process: the actor's class without the actor."""
    worker = LearnerWorker(
        config, loss, name="test", rank=0, device="cpu", seed=seed, timeout_s=600.0
    )
    worker.join(*worker.address())
    try:
        yield worker
    finally:
        worker.close()


def weights(worker: LearnerWorker) -> dict[str, Tensor]:
    from rlstep.actors.weights.merged import merged_weights

    return {name: value.clone() for name, value in merged_weights(worker.engine.module)}
