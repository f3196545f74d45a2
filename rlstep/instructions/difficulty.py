"""How hard an answer is to a model: IFD, and IC-IFD, which weighs the instruction too.

L is the mean over tokens of -log p, in nats. Of a question Q and its answer A

    IFD    = L(A|Q) / L(A)               (Li et al. 2023, arXiv:2308.12032)
    IC-IFD = L(A|Q) / (L(Q) L(A))        (Chen et al. 2024, arXiv:2412.11231)

A higher one is harder: the question helps the model less to say the answer; in IC-IFD what helps
little because the question itself is odd is worth less.

Every token of Q and of A counts once, the first ones too: before Q, and before A where it stands
alone, goes a begin token, since a causal model says nothing of a sequence's first. Whatever
template stands around Q is read before A, and in no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rlstep.types import Failure, Floats, TokenIds

Logprobs: TypeAlias = Callable[[Sequence[TokenIds]], Sequence[Floats]]
"""Of rows of token ids int32 [L] the logprob of each token given those before it, float32 [L], with
0 for the first: what `LearnerRole.predict` awaits, and `model_logprobs` does without a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difficulty:
    """Mean negative logprobs of a question and its answer, in nats a token, all above 0."""

    conditional: float
    """L(A|Q)."""
    question: float
    """L(Q)."""
    answer: float
    """L(A)."""

    @property
    def ifd(self) -> float:
        return self.conditional / self.answer

    @property
    def ic_ifd(self) -> float:
        return self.conditional / (self.question * self.answer)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Example:
    """A question and its answer as tokens."""

    prompt: TokenIds
    """int32 [P]: Q as the model is asked it, template and begin token included."""
    question: TokenIds
    """int32 [Q]: its own tokens alone."""
    answer: TokenIds
    """int32 [A]: without an end-of-sequence token."""

    def rows(self, begin: int) -> tuple[TokenIds, TokenIds, TokenIds]:
        """What a model reads: the prompt with the answer, and each alone behind a begin token."""
        first = np.array([begin], np.int32)
        return (
            np.concatenate([self.prompt, self.answer]),
            np.concatenate([first, self.question]),
            np.concatenate([first, self.answer]),
        )

    def difficulty(self, logprobs: Sequence[Floats]) -> Difficulty | Failure:
        """From the logprobs of the three rows.

        Returns:
            A Failure: 'empty' where prompt, question or answer has no token, 'not_finite', or
            'certain' where the model is so sure of the question or of the answer alone (a mean of
            0) that there is nothing to divide by.
        """
        parts = (self.prompt, self.question, self.answer)
        if not all(map(len, parts)):
            return Failure(reason="empty", detail=f"tokens: {list(map(len, parts))}")
        lengths = (len(self.answer), len(self.question), len(self.answer))
        conditional, question, answer = (
            -float(np.mean(row[-length:], dtype=np.float64))
            for row, length in zip(logprobs, lengths, strict=True)
        )
        if not np.isfinite([conditional, question, answer]).all():
            return Failure(reason="not_finite")
        if min(question, answer) <= 0.0:
            return Failure(reason="certain", detail=f"L(Q) {question}, L(A) {answer}")
        return Difficulty(conditional=conditional, question=question, answer=answer)


def difficulties(
    examples: Sequence[Example], logprobs: Logprobs, begin: int
) -> list[Difficulty | Failure]:
    """Of every example, in order.

    Args:
        begin: the begin token's id, see `begin_token`.
    """
    rows = [row for example in examples for row in example.rows(begin)]
    found = logprobs(rows)
    assert len(found) == len(rows), "a row of logprobs for a row of tokens"
    return [example.difficulty(found[3 * i : 3 * i + 3]) for i, example in enumerate(examples)]


def begin_token(tokenizer: Any) -> int:
    """What a text begins with: the tokenizer's beginning-of-sequence token, or where it has none
    the end-of-sequence token, behind which texts stand in pretraining.

    Raises:
        ValueError: it has neither.
    """
    for name in ("bos_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name, None)) is not None:
            return token
    raise ValueError("tokenizer has no begin token: neither bos_token_id nor eos_token_id is set")


def hardest(scores: Iterable[float | Failure], share: float) -> list[int]:
    """Positions of the highest scores, in their own order: the ranks that are kept.

    Of equal scores the earlier goes first. What failed has no rank and is not kept; the share is of
    the rest, rounded up.

    Args:
        share: in (0, 1].

    Raises:
        ValueError: the share is not in (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(
            f"share is {share}; the nearest valid value is {1.0 if share > 1 else 0.01}"
        )
    ranked = [(i, score) for i, score in enumerate(scores) if not isinstance(score, Failure)]
    ranked.sort(key=lambda item: -item[1])
    # 0.3 of 10 is 3: products of decimal shares are a little off.
    number = int(np.ceil(share * len(ranked) - 1e-9))
    return sorted(i for i, _ in ranked[:number])
