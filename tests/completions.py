"""Small completions, without torch: actors of tests make them in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlstep.types import Completion, VersionSpan


def make_completion(
    tokens: Sequence[int], versions: Sequence[tuple[int, int, int]] = ()
) -> Completion:
    """Token 7 reads '7 '; its sampler logprob is -0.07."""
    words = [f"{token} " for token in tokens]
    return Completion(
        token_ids=np.array(tokens, dtype=np.int32),
        logprobs=(np.array(tokens) / -100).astype(np.float32),
        text="".join(words),
        ends=np.cumsum([len(word) for word in words]).astype(np.int32),
        finish_reason="stop",
        stop_reason=None,
        versions=tuple(
            VersionSpan(version=version, start=start, end=end)
            for version, start, end in versions or [(0, 0, len(tokens))]
        ),
    )
