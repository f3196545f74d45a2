"""From token ids to text, with the place in the text where every token ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlstep.interfaces import Tokenizer
from rlstep.types import Ints

_LONGEST_WAIT = 8
"""Tokens after which a window that does not fit the text is no unfinished character any more: in
UTF-8 that has at most four bytes."""


def decode_with_ends(
    tokenizer: Tokenizer, token_ids: Sequence[int] | NDArray[np.integer]
) -> tuple[str, Ints]:
    """Decode a completion once, special tokens left out, and say where its tokens end.

    Tokens are decoded in windows, each with the tokens before it as context, since the text of a
    token depends on its neighbours: a character may be split over byte tokens (it then counts from
    the token that completes it), and SentencePiece drops the space that a text begins with. The
    work is linear in the number of tokens, save where the ids are no valid UTF-8.

    Args:
        tokenizer: a Hugging Face tokenizer of any kind.
        token_ids: int [T].

    Returns:
        The text, and int32 [T] `ends`: `text[: ends[t]]` is what tokens 0..t decode to. It never
        decreases, and its last value is the length of the text.
    """
    ids = [int(i) for i in token_ids]
    decode = _window_decoder(tokenizer)
    text = tokenizer.decode(ids, skip_special_tokens=True)
    # A special token writes nothing, even twice (a space at the very start writes nothing once).
    silent = {i for i in set(ids) if not decode((i, i))}
    ends = np.zeros(len(ids), np.int32)
    window: list[int] = []  # context tokens, which wrote text[:done], then pending tokens
    context_tokens, context, done, end = 0, "", 0, 0
    for t, token in enumerate(ids):
        if token not in silent:
            window.append(token)
            piece = decode(tuple(window))[len(context) :]
            fits = text.startswith(piece, done)
            written = len(piece) if fits else _shared(piece, text[done : done + len(piece)])
            end = max(end, done + written)
            if fits and piece:
                done, window = done + len(piece), window[context_tokens:]
                context_tokens, context = len(window), decode(tuple(window))
            elif len(window) - context_tokens > _LONGEST_WAIT:
                context_tokens, context, done, window = 0, "", 0, ids[: t + 1]
        ends[t] = end
    ends[-1:] = len(text)
    return text, ends


@lru_cache(maxsize=8)
def _window_decoder(tokenizer: Tokenizer) -> Callable[[tuple[int, ...]], str]:
    """Decodes windows of a few tokens; most come again and again."""

    @lru_cache(maxsize=1 << 16)
    def decode(window: tuple[int, ...]) -> str:
        return tokenizer.decode(list(window), skip_special_tokens=True)

    return decode


def _shared(a: str, b: str) -> int:
    """Number of leading characters that both have in common."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
