"""How completions are written: a canvas is unmasked a few tokens a forward. C tokens, V vocabulary.

Nothing here knows of actors: a forward is a function from canvases to logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstep.diffusion.canvas import Canvas
from rlstep.diffusion.elbo import without_mask
from rlstep.types import Floats, Ints, Request, TokenIds, VersionSpan

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""int64 [n, C] to logits [n, C, V]."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast, and in which order."""

    block: int
    """Tokens of a block; a block is begun when the one before it is all known. 1 is left to
    right, the canvas's length all at once."""
    tokens: int
    """Known with every forward: those of the block that the model is surest of."""


LEFT_TO_RIGHT = Pace(block=1, tokens=1)


@dataclass(eq=False)
class Sheet:
    """One completion under way. Tokens before `first` and those already known never change."""

    token_ids: NDArray[np.int64]
    """[C]; the mask token where they are not known."""
    first: int
    """Where the completion begins."""
    last: int
    """Where it must end; what is behind stays hidden."""
    ends: bool
    """Whether an end token ends it."""
    pace: Pace
    temperature: float
    rng: np.random.Generator
    logprobs: Floats = field(init=False)
    """[C]: of each token when it came to be known, given all that was known then."""
    versions: Ints = field(init=False)
    """[C]: of the policy that wrote it."""

    def __post_init__(self) -> None:
        self.logprobs = np.zeros(len(self.token_ids), np.float32)
        self.versions = np.zeros(len(self.token_ids), np.int32)

    def hidden(self, mask: int) -> NDArray[np.intp]:
        """Where the completion is not known yet."""
        return self.first + np.flatnonzero(self.token_ids[self.first : self.last] == mask)

    def end(self, canvas: Canvas) -> int | None:
        """One behind its last token once all of it is known, None before.

        What a model wrote behind an end token is no part of it, known or not.
        """
        hidden = self.hidden(canvas.mask)
        known = int(hidden[0]) if len(hidden) else self.last
        stops = np.flatnonzero(self.token_ids[self.first : known] == canvas.end)
        if self.ends and len(stops):
            return self.first + int(stops[0]) + 1
        return None if len(hidden) else self.last

    def open(self, canvas: Canvas) -> NDArray[np.intp]:
        """The hidden tokens of the first block that has any."""
        hidden, block = self.hidden(canvas.mask), self.pace.block
        behind = self.first + block * ((hidden[0] - self.first) // block + 1)
        return hidden[hidden < behind]

    def choose(self, places: NDArray[np.intp], logprobs: Floats, version: int) -> None:
        """Make the next few tokens known.

        Every open token is drawn from its distribution (at temperature 0 the likeliest one is
        taken), independently; those whose draw has the highest probability stay, on a tie the left
        one.

        Args:
            places: [k], of the open tokens.
            logprobs: float32 [k, V], of softmax(logits / temperature), at temperature 0 the model's
                own.
            version: the policy's.
        """
        noise = self.rng.gumbel(size=logprobs.shape) if self.temperature else 0.0
        drawn = (logprobs + noise).argmax(-1)
        sure = logprobs[np.arange(len(places)), drawn]
        best = np.argsort(-sure, kind="stable")[: self.pace.tokens]
        self.token_ids[places[best]] = drawn[best]
        self.logprobs[places[best]] = sure[best]
        self.versions[places[best]] = version


def sheets(request: Request, canvas: Canvas, pace: Pace) -> list[Sheet]:
    """The completions of a request, all hidden. Child i draws with the request's seed plus i.

    Where exactly so many tokens are asked for, they are written left to right, one at a time, and
    nothing ends them: so their logprobs are those that a learner's `predict` has for them.

    Raises:
        ValueError: the prefix leaves no room on the canvas.
    """
    prefix, sampling = request.prefix_ids, request.sampling
    if len(prefix) >= canvas.length:
        raise ValueError(
            f"the prefix has {len(prefix)} tokens, and the model's canvas {canvas.length}"
        )
    exactly = sampling.min_tokens == sampling.max_tokens
    blank = np.full(canvas.length, canvas.mask, np.int64)
    blank[: len(prefix)] = prefix
    return [
        Sheet(
            token_ids=blank.copy(),
            first=len(prefix),
            last=min(canvas.length, len(prefix) + sampling.max_tokens),
            ends=not exactly,
            pace=LEFT_TO_RIGHT if exactly else pace,
            temperature=sampling.temperature,
            rng=np.random.default_rng(request.seed + child),
        )
        for child in range(request.n)
    ]


@torch.no_grad()
def unmask(under_way: Seq[Sheet], forward: Forward, canvas: Canvas, version: int) -> None:
    """One forward for all, whatever each of them has known already."""
    logits = forward(torch.from_numpy(np.stack([sheet.token_ids for sheet in under_way])))
    opened = [sheet.open(canvas) for sheet in under_way]
    sizes = [len(places) for places in opened]
    rows = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    read = without_mask(logits[rows, torch.from_numpy(np.concatenate(opened))], canvas.mask)
    heat = torch.tensor([sheet.temperature or 1.0 for sheet in under_way])[rows]
    logprobs = (read / heat[:, None]).log_softmax(-1).numpy()
    parts = np.split(logprobs, np.cumsum(sizes)[:-1])
    for sheet, places, part in zip(under_way, opened, parts, strict=True):
        sheet.choose(places, part, version)


def written(sheet: Sheet, end: int) -> tuple[TokenIds, Floats, tuple[VersionSpan, ...]]:
    """Token ids, logprobs and versions of a completion that ends before `end`."""
    part = slice(sheet.first, end)
    spans = tuple(_spans(sheet.versions[part]))
    return sheet.token_ids[part].astype(np.int32), sheet.logprobs[part], spans


def _spans(versions: Ints) -> Iterator[VersionSpan]:
    """Runs of one version: neighbours may have come to be known far apart."""
    bounds = [0, *(np.flatnonzero(np.diff(versions)) + 1).tolist(), len(versions)]
    for start, end in pairwise(bounds):
        yield VersionSpan(version=int(versions[start]), start=start, end=end)
