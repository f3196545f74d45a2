"""From sequences to canvases with hidden tokens. C tokens of a canvas, m maskings of a sequence."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np

from rlstep.types import AdvantageSamples, Bools, Floats, LabelSamples, Samples, Sequence, TokenIds


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """What a model's canvases are like."""

    length: int
    """C, of prompt, completion and what stands behind it."""
    mask: int
    """The mask token's id."""
    end: int
    """The end token's id, with which what is behind a completion is filled."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hidden:
    """A canvas of which some tokens are hidden."""

    token_ids: TokenIds
    """int32 [C], the tokens themselves; the mask token where nobody knows them."""
    hidden: Bools
    """bool [C]: where the model reads the mask token."""
    weights: Floats
    """float32 [C]: what the logprob of each token counts; 0 where it is not hidden."""

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedSequence(Sequence):
    """A sequence on its canvas, under one masking."""

    hidden: Bools
    """bool [C]: the masking, and what nobody knows."""

    @property
    def canvas(self) -> Hidden:
        """With the weights of one sample of the ELBO, see `maskings`: trained / hidden ones."""
        asked = self.hidden & self.loss_mask
        weights = asked * (self.loss_mask.sum() / max(1, asked.sum()))
        ids = self.token_ids
        return Hidden(token_ids=ids, hidden=self.hidden, weights=weights.astype(np.float32))


def read_canvas(path: str) -> Canvas:
    """What a model's folder says of its canvases.

    Args:
        path: a folder or hub id whose configuration has `canvas_length`.

    Raises:
        ValueError: it has none, or the tokenizer has no mask or end token.
    """
    from transformers import AutoConfig

    from rlstep.tensors.tokenizers import read_tokenizer

    config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    length = getattr(config, "canvas_length", None)
    if not isinstance(length, int) or length < 2:
        raise ValueError(
            f"model.path is {path!r}, a masked diffusion model whose config.json has canvas_length"
            f" {length!r}; it is the number of tokens of a prompt, its completion and the end"
            " tokens behind it, at least 2"
        )
    tokenizer = read_tokenizer(path)
    for name in ("mask_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ValueError(
                f"the tokenizer of model.path {path!r} has no {name}, which a masked diffusion"
                " model needs"
            )
    return Canvas(length=length, mask=tokenizer.mask_token_id, end=tokenizer.eos_token_id)


def on_canvas(row: TokenIds, canvas: Canvas) -> TokenIds:
    """int32 [C]: behind an end token end tokens; behind any other the mask token, since what was
    cut off would have gone on in a way that nobody knows.

    Raises:
        ValueError: the row is longer than the canvas.
    """
    if len(row) > canvas.length:
        raise ValueError(
            f"a sequence has {len(row)} tokens, and the model's canvas_length is {canvas.length}"
        )
    ends = len(row) > 0 and row[-1] == canvas.end
    out = np.full(canvas.length, canvas.end if ends else canvas.mask, np.int32)
    out[: len(row)] = row
    return out


def maskings(trained: Bools, number: int, rng: np.random.Generator) -> list[Bools]:
    """`number` random sets of hidden tokens, bool [C] each, all of them trained ones.

    Each set has a number of tokens l that is uniform in 1..T, T being the trained ones, and is
    uniform among those of its size. The ELBO of a canvas is the mean over such sets of T / l times
    the sum of the hidden tokens' logprobs (arXiv:2502.09992, eq. 6 and appendix A.2: of all ways to
    write it the one of least variance). So every set alone is an unbiased sample of it. The l of
    one sequence are spread evenly over 1..T, which changes no sample's distribution.
    """
    places = np.flatnonzero(trained)
    spread = (np.arange(number) + rng.random()) / number
    sets = []
    for share in rng.permutation(spread):
        chosen = rng.permutation(places)[: int(share * len(places)) + 1]
        hidden = np.zeros(len(trained), dtype=bool)
        hidden[chosen] = True
        sets.append(hidden)
    return sets


def masked_copies(
    samples: Samples, canvas: Canvas, number: int, rng: np.random.Generator
) -> Samples:
    """Samples in which every sequence stands `number` times on its canvas, under a masking each.

    What a loss divides by grows with the copies, so that it is a mean over them. The end tokens
    behind a completion are trained as its own end token is, and have its advantage or label.

    Raises:
        TypeError: pairs; no loss of them is of an ELBO.
    """
    sequences, rows = [], []
    for row, sequence in enumerate(samples.sequences):
        filled = _filled(sequence, canvas)
        unknown = filled.token_ids == canvas.mask
        for copy, hidden in enumerate(maskings(filled.loss_mask, number, rng)):
            sequences.append(_masked(filled, hidden | unknown, copy))
            rows.append(row)
    return _with(samples, tuple(sequences), rows)


def _filled(sequence: Sequence, canvas: Canvas) -> Sequence:
    ids = on_canvas(sequence.token_ids, canvas)
    ends = sequence.token_ids[-1] == canvas.end
    return replace(
        sequence,
        token_ids=ids,
        loss_mask=_stretched(sequence.loss_mask, canvas.length, *([] if ends else [False])),
        step_index=_stretched(sequence.step_index, canvas.length, *([] if ends else [-1])),
        rollout_logprobs=_stretched(sequence.rollout_logprobs, canvas.length, 0.0),
    )


def _stretched(row: np.ndarray, length: int, *fill: float) -> Any:
    """With its last entry, or the given one, over and over behind it."""
    behind = np.full(length - len(row), fill[0] if fill else row[-1], dtype=row.dtype)
    return np.concatenate([row, behind])


def _masked(sequence: Sequence, hidden: Bools, copy: int) -> MaskedSequence:
    return MaskedSequence(
        sequence_id=f"{sequence.sequence_id}/masking {copy}",
        prompt_id=sequence.prompt_id,
        token_ids=sequence.token_ids,
        loss_mask=sequence.loss_mask,
        step_index=sequence.step_index,
        rollout_logprobs=sequence.rollout_logprobs,
        step_scores=sequence.step_scores,
        oldest_version=sequence.oldest_version,
        hidden=hidden,
    )


@singledispatch
def _with(samples: Samples, sequences: tuple[MaskedSequence, ...], rows: Seq[int]) -> Samples:
    """The samples with these sequences, of which the k-th was sequence `rows[k]` of them."""
    raise TypeError(f"{type(samples).__name__} cannot stand on canvases")


@_with.register
def _(
    samples: AdvantageSamples, sequences: tuple[MaskedSequence, ...], rows: Seq[int]
) -> AdvantageSamples:
    columns = _columns(samples.advantages, sequences, rows)
    return replace(samples, sequences=sequences, advantages=columns)


@_with.register
def _(samples: LabelSamples, sequences: tuple[MaskedSequence, ...], rows: Seq[int]) -> LabelSamples:
    return replace(
        samples,
        sequences=sequences,
        targets=_columns(samples.targets, sequences, rows),
        weights=_columns(samples.weights, sequences, rows),
    )


def _columns(
    columns: Seq[Floats], sequences: Seq[MaskedSequence], rows: Seq[int]
) -> tuple[Floats, ...]:
    return tuple(
        _stretched(columns[row], len(sequence.token_ids)) * sequence.loss_mask
        for row, sequence in zip(rows, sequences, strict=True)
    )


def left_to_right(row: TokenIds, canvas: Canvas) -> list[Hidden]:
    """L - 1 canvases of a row of L tokens, of which the t-th asks for token t + 1 with that and all
    behind it hidden: their logprobs add up to that of the row in this one order of unmasking."""
    ids = on_canvas(row, canvas)
    places = np.arange(canvas.length)
    return [
        Hidden(token_ids=ids, hidden=places >= t, weights=(places == t).astype(np.float32))
        for t in range(1, len(row))
    ]
