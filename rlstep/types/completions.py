"""What is asked of a generator, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlstep.checks import at_least, between
from rlstep.types.arrays import Bools, Floats, Ints, TokenIds


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prompt:
    """One problem, ready to be sampled from."""

    prompt_id: str
    """Unique within a task; groups and pairs are sorted by it."""
    token_ids: TokenIds
    """int32 [P]; the chat template, if any, is already applied."""
    text: str
    """What `token_ids` decode to."""
    answer: str
    """The reference answer the verifier compares with; '' where only a judge can decide."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the task wants to keep: level, subject, the source row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How completions are drawn."""

    max_tokens: int = 256
    """Upper bound on the completion's length, in tokens."""
    min_tokens: int = 0
    """End-of-sequence is not sampled before this many tokens. Where it is `max_tokens`, exactly so
    many are drawn from the whole vocabulary and nothing stops them."""
    temperature: float = 1.0
    """0 is greedy decoding. A policy gradient is trained at the temperature it was sampled at."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that have this probability together; 1 takes all."""
    top_k: int = 0
    """Sample from so many of the likeliest tokens; 0 takes all."""
    stop: tuple[str, ...] = ()
    """Stop strings; the token that completes one stays in the completion."""
    stop_token_ids: tuple[int, ...] = ()
    """Stop tokens beside the model's end-of-sequence token."""

    def __post_init__(self) -> None:
        at_least("sampling.max_tokens", self.max_tokens, 1)
        between("sampling.min_tokens", self.min_tokens, 0, self.max_tokens)
        between("sampling.temperature", self.temperature, 0.0, 2.0)
        between("sampling.top_p", self.top_p, 1e-6, 1.0)
        at_least("sampling.top_k", self.top_k, 0)

    @property
    def truncated(self) -> bool:
        """Whether the support is cut, so that sampler logprobs live on another distribution."""
        return self.top_p < 1.0 or self.top_k > 0 or 0 < self.min_tokens < self.max_tokens


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """What a generator is asked: `n` completions of one prefix."""

    request_id: str
    """Unique within a run."""
    prefix_ids: TokenIds
    """int32 [P + inherited completion tokens]."""
    n: int
    seed: int
    """Per request; child i of the n is drawn with the seed plus i."""
    sampling: Sampling
    affinity: str = ""
    """Requests with the same one are served by the same generator and share its prefix cache; ''
    stands for the request_id."""
    likeliest: int = 0
    """So many of the likeliest tokens of every place are told beside the sampled one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionSpan:
    """Completion tokens `[start, end)` were written under weight sync `version`."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Completion tokens `[start, end)` that the policy did not sample: what an environment or a
    user answered, a forced prefix, the chat template's delimiters around them."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Likeliest:
    """The n tokens that were likeliest at each of T places, the likeliest first, whatever was
    sampled there."""

    token_ids: Ints
    """int32 [T, n]."""
    logprobs: Floats
    """float32 [T, n], in nats, of the same distribution as the completion's."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Completion:
    """What follows a prompt: sampled tokens, and in a conversation what was observed between them.
    Tokens are the truth: what was sampled is decoded once and never encoded again."""

    token_ids: TokenIds
    """int32 [T]."""
    logprobs: Floats
    """float32 [T], the sampler's logprob of each token, in nats; 0 where it was observed."""
    text: str
    """Decoded `token_ids`, special tokens left out but for the tags of thoughts."""
    ends: Ints
    """int32 [T]: `text[:ends[t]]` is what tokens 0..t decode to. Never decreases."""
    finish_reason: str
    """'stop' (an end token or stop string) or 'length' (cut at max_tokens)."""
    stop_reason: int | str | None
    """The stop token id or string, None for the end-of-sequence token."""
    versions: tuple[VersionSpan, ...]
    """Partition of the sampled tokens."""
    observed: tuple[Observed, ...] = ()
    """In order, none empty; the rest was sampled."""
    cached: int | None = None
    """Tokens of the request's prefix that came from the generator's prefix cache, the others being
    prefilled for it; None of a request for several, where vLLM (0.32) tells of one only."""
    likeliest: Likeliest | None = None
    """None where the request asked for none, and of what was joined."""

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"

    @property
    def length(self) -> int:
        """How many tokens were sampled."""
        return len(self.token_ids) - sum(span.end - span.start for span in self.observed)

    @property
    def sampled(self) -> Bools:
        """bool [T]: False where a token was observed."""
        mask = np.ones(len(self.token_ids), dtype=bool)
        for span in self.observed:
            mask[span.start : span.end] = False
        return mask
