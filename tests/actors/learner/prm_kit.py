"""Tiny PRMs of the released architectures, with real vocabularies, and rollouts to score."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rlstep.actors.learner.frozen_rank import FrozenRank
from rlstep.config import LearnerConfig
from rlstep.types import Floats, TokenIds
from tests.real_tokenizers import sentencepiece_tokenizer
from tests.solutions import qwen_like, solution

SIZES = {
    "hidden_size": 64,  # two heads of 32: what vLLM's CPU attention takes
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # so that scores are far from 0.5
}

QWEN_ROWS = 20_032
"""Embeddings: more than tokens, as the released models have. (transformers 5 reads the tokenizer of
any Qwen2 folder as Qwen2's, and adds that one's end token.)"""


def math_shepherd(folder: Path, *, pad: bool = False) -> str:
    """A Mistral with Mistral's vocabulary, a language model; without a pad token, as released."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    config = MistralConfig(vocab_size=32_000, tie_word_embeddings=False, **SIZES)
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer = copy.deepcopy(sentencepiece_tokenizer())
    tokenizer.pad_token = tokenizer.unk_token if pad else None
    tokenizer.save_pretrained(folder)
    return str(folder)


def qwen_math_prm(folder: Path) -> str:
    """A folder like the released one: weights by their published names, and code that is not ours.

    The code would leave a file behind, were it ever run.
    """
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2Model

    tokenizer = qwen_like()
    torch.manual_seed(2)
    config = Qwen2Config(vocab_size=QWEN_ROWS, tie_word_embeddings=False, **SIZES)
    base = Qwen2Model(config)
    width = config.hidden_size
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    weights = {f"model.{name}": value for name, value in base.state_dict().items()}
    weights |= {f"score.{name}": 3 * value for name, value in head.state_dict().items()}
    weights["lm_head.weight"] = torch.zeros(QWEN_ROWS, width)  # released, and read by nobody
    save_file({n: w.contiguous() for n, w in weights.items()}, folder / "model.safetensors")
    code = "modeling_qwen2_rm"
    entries = {
        **config.to_dict(),
        "architectures": ["Qwen2ForProcessRewardModel"],
        "auto_map": {
            "AutoConfig": f"{code}.Qwen2RMConfig",
            "AutoModel": f"{code}.Qwen2ForProcessRewardModel",
        },
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(entries))
    canary = f"open({str(folder / 'ran')!r}, 'w').close()\nraise SystemExit('remote code ran')\n"
    (folder / f"{code}.py").write_text(canary)
    tokenizer.save_pretrained(folder)
    return str(folder)


def classifier(folder: Path, labels: int) -> str:
    """A Qwen2 with a linear head of one or two labels, as transformers writes it."""
    from transformers import Qwen2Config, Qwen2ForTokenClassification

    tokenizer = qwen_like()
    torch.manual_seed(3)
    fields: Any = {**SIZES, "num_labels": labels}
    config = Qwen2Config(vocab_size=QWEN_ROWS, **fields)
    model = Qwen2ForTokenClassification(config)
    with torch.no_grad():
        model.score.bias.copy_(torch.arange(labels) + 0.5)  # vLLM loads it by a way of its own
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


ROLLOUTS = [
    solution("What is 2+3?", "2+3=5.\n", "The answer is: 5", name="a"),
    solution("What is 7*6-2?", "7*6=42\n", "42-2=40\n", "So \\boxed{40}.", name="b"),
    solution("Why?", "Because.", name="c"),
]


def ragged(vocabulary: int, number: int = 12) -> list[TokenIds]:
    """Random ids, of 1 to 60 tokens."""
    random = np.random.default_rng(0)
    lengths: Sequence[int] = [1, 60, *random.integers(2, 60, number - 2)]
    return [random.integers(3, vocabulary, n).astype(np.int32) for n in lengths]


@contextmanager
def frozen(settings: LearnerConfig) -> Iterator[FrozenRank]:
    """One rank in this process: the actor's class without the actor."""
    rank = FrozenRank(settings, name="test", rank=0, device="cpu", seed=0, timeout_s=600.0)
    try:
        rank.join(*rank.address())
        yield rank
    finally:
        rank.close()


def rows(by_position: dict[int, Floats]) -> list[Floats]:
    return [by_position[i] for i in range(len(by_position))]


def apart(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Largest difference."""
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))
