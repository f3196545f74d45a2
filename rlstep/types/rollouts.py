"""Completions cut into steps, with their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rlstep.types.arrays import Bools, TokenIds
from rlstep.types.completions import Completion, Prompt, Sampling
from rlstep.types.scores import (
    Failure,
    OutcomeScore,
    RolloutScore,
    Score,
    StepScores,
    TokenScores,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One reasoning step: completion tokens `[start, end)`, all of them sampled. In a conversation
    it is what was sampled of a turn."""

    start: int
    end: int


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
        return self.text_of(self.steps[index].start, self.steps[index].end)

    def observation_text(self, index: int) -> str:
        """What was observed after a step (-1: before the first), delimiters included; '' where
        nothing was."""
        return self.text_of(self.steps[index].end if index >= 0 else 0, self.before(index + 1))

    @property
    def last_text(self) -> str:
        """What the policy said after all that was observed: its last turn, where an answer stands.
        The whole text where nothing was."""
        observed = self.completion.observed
        return self.text_of(observed[-1].end if observed else 0, len(self.completion.token_ids))

    def text_of(self, start: int, end: int) -> str:
        """The text of the completion's tokens from start to before end."""
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
