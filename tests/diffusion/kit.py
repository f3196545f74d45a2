"""A tiny diffusion model, and forwards that a test decides."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstep.diffusion.canvas import Canvas
from rlstep.types import Request, Sampling

CANVAS = Canvas(length=6, mask=5, end=1)
VOCABULARY = 6


def make_diffusion_model(folder: Path, *, canvas: int = 24, hidden: int = 32) -> str:
    """Random weights with the arithmetic tokenizer and a mask token."""
    from transformers import EuroBertConfig, EuroBertForMaskedLM

    from rlstep.tasks.arithmetic import arithmetic_tokenizer

    tokenizer = arithmetic_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    torch.manual_seed(0)
    model = EuroBertForMaskedLM(
        EuroBertConfig(
            vocab_size=24,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            initializer_range=0.3,  # so that predictions are far from uniform
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
        )
    )
    model.config.canvas_length = canvas
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ids(*tokens: int) -> Any:
    return np.array(tokens, dtype=np.int32)


def request(prefix: Seq[int], n: int = 1, **sampling: Any) -> Request:
    return Request(
        request_id="r",
        prefix_ids=ids(*prefix),
        n=n,
        seed=sampling.pop("seed", 7),
        sampling=Sampling(**{"max_tokens": 32, **sampling}),
    )


class Wants:
    """A forward whose likeliest token at each place, and how much likelier, the test says."""

    def __init__(self, wanted: Mapping[int, tuple[int, float]]) -> None:
        self.wanted = wanted
        self.seen: list[list[list[int]]] = []

    def __call__(self, seen: Tensor) -> Tensor:
        self.seen.append(seen.tolist())
        logits = torch.zeros(*seen.shape, VOCABULARY)
        for place, (token, by) in self.wanted.items():
            logits[:, place, token] = by
        return logits
