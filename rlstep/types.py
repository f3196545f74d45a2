"""The records of rlstep, in the order in which they are made.

    Prompt -> Request -> Completion -> Rollout -> Group -> samples (sequences, pairs, labels)

All are frozen and complete at birth: a stage that adds something makes a new record. Token and
logprob fields are compact numpy arrays; tensors exist only from the batch on (batching.py).

Dimensions: P prompt tokens, T completion tokens, K steps of one completion, L tokens of a whole
sequence (prompt and completion). Spans are half-open, `[start, end)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import at_least, between

TokenIds: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Bools: TypeAlias = NDArray[np.bool_]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One reasoning step: completion tokens `[start, end)`, all of them sampled. In a conversation
    it is what was sampled of a turn."""

    start: int
    end: int


class Verdict(StrEnum):
    """What an answer verifier can say. Anything else is a `Failure`."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """How a judge's judgments of a completion came out; a pairwise vote is one of either order."""

    correct: int
    wrong: int
    tied: int
    """Pairwise only: the judge called it a tie, or followed the order and not the texts."""
    unparsable: int
    """No verdict could be read."""
    failed: int
    """No judgment came at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeScore:
    """The score of a whole completion."""

    value: float
    """1.0 for a correct answer, 0.0 for a wrong or unparsable one; of a judge that votes the share
    of votes that it is correct, in [0, 1], ties counting one half."""
    verdict: Verdict
    """Of a judge that votes the majority's."""
    extracted: str
    """The answer as it was read from the completion, '' if there was none."""
    votes: Votes | None = None
    """None where no judge was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutScore:
    """One number for a whole rollout from one source: form, length, language, a remote service."""

    value: float
    """Finite, in the range that its source documents."""
    detail: str = ""
    """What the number was made from, for people to read."""

    def __post_init__(self) -> None:
        assert isfinite(self.value), f"a score of {self.value}: its source owes a Failure"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepScores:
    """One number per step from one source."""

    values: Floats
    """float32 [K]; probabilities in [0, 1] for a PRM, success rates k/n for Monte Carlo."""
    version: int
    """Version of the model that made them: PRM updates, or the policy's for Monte Carlo."""
    n: Ints | None = None
    """int32 [K]: continuations drawn per step (0: step not labelled)."""
    k: Ints | None = None
    """int32 [K]: how many of them reached a correct answer."""
    truncated: Ints | None = None
    """int32 [K]: how many of them were cut at max_tokens (counted as not correct)."""
    log_sigma: Floats | None = None
    """float32 [K]: log standard deviation, where the scorer estimates it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenScores:
    """One number per completion token from one source: a critic's values, implicit rewards."""

    values: Floats
    """float32 [T]."""
    version: int
    """Version of the model that made them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What went wrong, as a value. Counted by reason; never turned into a score."""

    reason: str
    """A short, stable word for counting: 'timeout', 'generator_lost', 'stale', ..."""
    detail: str = ""


Score: TypeAlias = StepScores | TokenScores | RolloutScore | OutcomeScore | Failure


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rollout:
    """A completion of a prompt, cut into steps, with everything needed to replay it."""

    rollout_id: str
    """Unique within a run: '<iteration>/<prompt_id>/<sample_index>' and a suffix for branches."""
    prompt: Prompt
    completion: Completion
    steps: tuple[Step, ...]
    """Partition of the sampled tokens in order, none empty; none goes across what was observed."""
    sample_index: int
    iteration: int
    seed: int
    sampling: Sampling
    parent: str | None = None
    """rollout_id this one was branched from."""
    inherited: int = 0
    """Leading completion tokens copied from the parent (not sampled for this rollout)."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By source: 'outcome', 'prm', 'monte_carlo', 'oracle', ..."""

    def __post_init__(self) -> None:
        spans = sorted((*self.steps, *self.completion.observed), key=lambda span: span.start)
        bounds = [span.start for span in spans] + [len(self.completion.token_ids)]
        ends = [0] + [span.end for span in spans]
        whole = "steps and what was observed do not partition the completion"
        assert bounds == ends, f"{self.rollout_id}: {whole}"
        assert all(span.start < span.end for span in spans), f"{self.rollout_id}: an empty span"

    def with_scores(self, **scores: Score) -> Rollout:
        """The same rollout with further (or newer) scores."""
        return replace(self, scores={**self.scores, **scores})

    @property
    def own(self) -> Bools:
        """bool [T]: tokens that were sampled for this rollout, neither inherited nor observed."""
        mask = self.completion.sampled
        mask[: self.inherited] = False
        return mask

    def before(self, steps: int) -> int:
        """How many completion tokens stand before step `steps`: those of the first `steps` steps
        and what was observed before, between and after them; all of them for K."""
        return (
            self.steps[steps].start if steps < len(self.steps) else len(self.completion.token_ids)
        )

    def prefix_ids(self, steps: int) -> TokenIds:
        """int32: the prompt and the state after the first `steps` steps, see `before`."""
        return np.concatenate(
            [self.prompt.token_ids, self.completion.token_ids[: self.before(steps)]]
        )

    def step_text(self, index: int) -> str:
        return self._text(self.steps[index].start, self.steps[index].end)

    def observation_text(self, index: int) -> str:
        """What was observed after a step (-1: before the first), delimiters included; '' where
        nothing was."""
        return self._text(self.steps[index].end if index >= 0 else 0, self.before(index + 1))

    def _text(self, start: int, end: int) -> str:
        ends = self.completion.ends
        return self.completion.text[ends[start - 1] if start else 0 : ends[end - 1] if end else 0]

    @property
    def outcome(self) -> OutcomeScore | None:
        """The verifier's score, or None where verification failed or has not run."""
        score = self.scores.get("outcome")
        return score if isinstance(score, OutcomeScore) else None

    def whole_score(self, source: str) -> float | None:
        """The number that one source gave the whole rollout, or None where it failed, has not run
        or scores steps or tokens."""
        score = self.scores.get(source)
        return score.value if isinstance(score, OutcomeScore | RolloutScore) else None

    def step_scores(self, source: str) -> StepScores | None:
        """The step scores of one source, or None where that source failed or has not run."""
        score = self.scores.get(source)
        return score if isinstance(score, StepScores) else None

    def token_scores(self, source: str) -> TokenScores | None:
        """The token scores of one source, or None where that source failed or has not run."""
        score = self.scores.get(source)
        return score if isinstance(score, TokenScores) else None

    @property
    def oldest_version(self) -> int:
        """The lowest policy version among its tokens."""
        return min(span.version for span in self.completion.versions)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """The rollouts of one prompt, and what failed on the way."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    """Sorted by sample_index; branches follow the rollouts they were branched from."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sequence:
    """One token sequence to train on. L = prompt and completion tokens together."""

    sequence_id: str
    """The rollout_id, with a suffix where only a part of the rollout is trained."""
    prompt_id: str
    """Sequences of one prompt stay in one mini-batch."""
    token_ids: TokenIds
    """int32 [L]."""
    loss_mask: Bools
    """bool [L]: True where a token is trained."""
    step_index: Ints
    """int32 [L]: 0..K-1 on the steps' tokens, -1 elsewhere. True loss_mask implies >= 0, except
    for the value of the first state, which is trained at the prompt's last token."""
    rollout_logprobs: Floats
    """float32 [L]: the sampler's logprobs, 0 outside the completion."""
    step_scores: Floats
    """float32 [K]: one score per step index; zeros where the algorithm uses none."""
    oldest_version: int
    """The lowest policy version among its trained tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two sequences of one prompt, by their positions in the samples' `sequences`."""

    chosen: int
    rejected: int
    shared_prefix: int
    """Number of leading tokens (prompt included) that both sides have in common."""
    chosen_score: float
    """What ordered the two: outcomes, win rates, tree values, ..."""
    rejected_score: float
    provenance: str
    """How the pair was made: 'outcome', 'first_error', ..."""

    @property
    def margin(self) -> float:
        """Difference of the scores."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairSamples:
    """Preference pairs. A sequence that stands in several pairs is listed, and forwarded, once."""

    sequences: tuple[Sequence, ...]
    pairs: tuple[Pair, ...]
    groups: int
    """Groups that gave at least one pair."""
    groups_without_signal: int = 0
    """Groups that were looked at and gave none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AdvantageSamples:
    """Sequences with one advantage per token."""

    sequences: tuple[Sequence, ...]
    advantages: tuple[Floats, ...]
    """float32 [L] each, 0 where loss_mask is False."""
    groups: int
    groups_without_signal: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelSamples:
    """Positions with a target: step labels for a PRM, returns for a critic, next tokens (SFT)."""

    sequences: tuple[Sequence, ...]
    targets: tuple[Floats, ...]
    """float32 [L] each, read where loss_mask is True: in [0, 1] for labels, a critic's returns."""
    weights: tuple[Floats, ...]
    """float32 [L] each, >= 0: how much the label counts (for Monte Carlo, its n)."""


Samples: TypeAlias = PairSamples | AdvantageSamples | LabelSamples


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Global counts of one mini-batch, over all ranks and micro-batches. Losses divide by these."""

    sequences: int
    """Sequences with a trained token."""
    tokens: int
    """Trained tokens (True in loss_mask)."""
    pairs: int = 0
    weight: float = 0.0
    """Sum of label weights."""
