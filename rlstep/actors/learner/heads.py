"""What a model is loaded as, and which number it gives a token.

Dimensions: N sequences, L tokens, V vocabulary or labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from rlstep.config import LearnerConfig
from rlstep.scoring.step_models.prm_text import one_token
from rlstep.tensors.logprobs import token_logprobs
from rlstep.tensors.tokenizers import read_tokenizer

Read: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Logits [N, L, V] and token ids int64 [N, L] to float32 [N, L], or [N, L, outputs]."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The model's last layer."""

    model_class: Any
    """Of transformers' form, with `from_pretrained`."""
    read: Read
    labels: int = 0
    """Outputs of a classifier that is no part of a language model; 0 for a vocabulary."""
    of_next: bool = False
    """Whether it is the next token that a position speaks of, so that the first one has nothing."""
    may_be_new: bool = False
    """Whether a folder may lack it: then it starts at zero. (A head of two layers at zero would
    have no gradient.)"""


ARCHITECTURES = {
    "language_model": "ForCausalLM",
    "two_token": "ForCausalLM",
    "token_classification": "ForTokenClassification",
    "two_label": "ForTokenClassification",
    "process_reward": "ForProcessRewardModel",
}
"""How the name of a folder's architecture ends, by the head that it has."""


def check_architecture(config: LearnerConfig) -> None:
    """Refuse a folder without the head, which nobody has trained then: vLLM would make one of
    something else.

    Raises:
        ValueError: naming the folder's architecture.
    """
    from transformers import AutoConfig

    path, wanted = config.model.path, ARCHITECTURES[config.head]
    found = AutoConfig.from_pretrained(path, trust_remote_code=False).architectures or []
    if not any(name.endswith(wanted) for name in found):
        raise ValueError(
            f"learner.head is {config.head!r}, but model.path {path!r} holds a"
            f" {', '.join(found) or 'model without a named architecture'}, no ...{wanted}"
        )


def make_head(config: LearnerConfig, outputs: int = 1) -> Head:
    """The head that a learner is configured to have.

    Args:
        outputs: numbers a token of a token-classification head (see `Loss.outputs`).

    Raises:
        ValueError: a label token is not one token of the model's tokenizer.
    """
    import transformers

    match config.head:
        case "language_model":
            kind: Any = transformers.AutoModelForCausalLM
            return Head(model_class=kind, read=token_logprobs, of_next=True)
        case "two_token":
            good, bad = label_token_ids(config)
            return Head(model_class=transformers.AutoModelForCausalLM, read=_margin(good, bad))
        case "token_classification":
            kind = transformers.AutoModelForTokenClassification
            read = _only if outputs == 1 else _all
            return Head(model_class=kind, read=read, labels=outputs, may_be_new=True)
        case "two_label":
            kind = transformers.AutoModelForTokenClassification
            return Head(model_class=kind, read=_margin(1, 0), labels=2, may_be_new=True)
        case "process_reward":
            from rlstep.actors.learner.process_reward import Qwen2ForProcessRewardModel

            return Head(model_class=Qwen2ForProcessRewardModel, read=_margin(1, 0), labels=2)
        case "masked_diffusion":
            return Head(model_class=transformers.AutoModelForMaskedLM, read=_on_canvases)


def label_token_ids(config: LearnerConfig) -> tuple[int, int]:
    """The good and the bad token of a 'two_token' head.

    Raises:
        ValueError: a text is not one token.
    """
    tokenizer = read_tokenizer(config.model.path)
    good, bad = (one_token("learner.label_tokens", tokenizer, t) for t in config.label_tokens)
    return good, bad


def _only(logits: Tensor, token_ids: Tensor) -> Tensor:
    return logits[..., 0].float()


def _all(logits: Tensor, token_ids: Tensor) -> Tensor:
    return logits.float()


def _on_canvases(logits: Tensor, token_ids: Tensor) -> Tensor:
    raise AssertionError("a token's logprob needs what is hidden: see DiffusionLearner.forward")


def _margin(good: int, bad: int) -> Read:
    """Its sigmoid is the softmax over the two: e^g / (e^g + e^b) = 1 / (1 + e^(b - g))."""

    def read(logits: Tensor, token_ids: Tensor) -> Tensor:
        return logits[..., good].float() - logits[..., bad].float()

    return read
