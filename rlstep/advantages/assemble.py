"""What every advantage estimator shares: which rollouts count, and advantages to samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.ties import settled, tied, tolerance
from rlstep.tensors.sequences import sequence
from rlstep.types import (
    AdvantageSamples,
    Failure,
    Group,
    Rollout,
    StepScores,
    TokenScores,
)

Credit: TypeAlias = list[tuple[Rollout, Wide]]
"""The rollouts of one group that count, each with one advantage a completion token, [T]."""

WithoutSignal: TypeAlias = Literal["kept", "left_out"]
"""Whether groups without signal are trained, with advantages of 0. See `assemble`."""


class AdvantageBuilder(SampleBuilder):
    """Turns scored groups into one advantage a token."""

    makes: ClassVar[type] = AdvantageSamples

    @abstractmethod
    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        """For every group its rollouts with advantages float64 [T].

        Rollouts whose scores failed or are incomplete are absent; a group without signal has zeros.
        """

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups))


def complete(rollouts: Seq[Rollout], *sources: str) -> list[Rollout]:
    """The rollouts that sampled a token and have a whole score from every source."""
    return [
        rollout
        for rollout in rollouts
        if rollout.own.any() and all(_is_whole(rollout, source) for source in sources)
    ]


def _is_whole(rollout: Rollout, source: str) -> bool:
    score = rollout.scores.get(source)
    if isinstance(score, StepScores) and score.n is not None:
        return bool((score.n > 0).all())
    return score is not None and not isinstance(score, Failure)


def outcome_values(rollouts: Seq[Rollout], source: str = "outcome") -> Wide:
    """[N]: what a source gave whole rollouts, the outcome or a labeller's reward.

    Those that are equal but for rounding are made equal (`measuring.ties`).

    Raises:
        TypeError: the source gave another kind of score.
    """
    return settled([_whole_value(rollout, source) for rollout in rollouts])


def _whole_value(rollout: Rollout, source: str) -> float:
    value = rollout.whole_score(source)
    if value is None:
        raise _another_kind(rollout, source, "RolloutScore or OutcomeScore")
    return value


def group_step_values(rollouts: Seq[Rollout], source: str) -> list[Wide]:
    """[K] for each of a prompt's rollouts; what is equal but for rounding is made equal.

    Raises:
        TypeError: the source gave another kind of score.
    """
    return together([step_values(rollout, source) for rollout in rollouts])


def together(columns: Seq[Wide]) -> list[Wide]:
    """The columns with what is equal but for rounding, in one or across them, made equal."""
    if not columns:
        return []
    cuts = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(settled(np.concatenate(columns)), cuts)


def step_values(rollout: Rollout, source: str) -> Wide:
    """[K]: the step scores of a source that scored every step.

    Raises:
        TypeError: the source gave another kind of score.
    """
    return _values(rollout, source, StepScores)


def token_values(rollout: Rollout, source: str) -> Wide:
    """[S]: the token scores of a source at the S tokens that were sampled; see `at_tokens`.

    Raises:
        TypeError: the source gave another kind of score.
    """
    return _values(rollout, source, TokenScores)[rollout.completion.sampled]


def _values(rollout: Rollout, source: str, kind: type[StepScores] | type[TokenScores]) -> Wide:
    score = rollout.scores[source]
    if not isinstance(score, kind):
        raise _another_kind(rollout, source, kind.__name__)
    return score.values.astype(np.float64)


def _another_kind(rollout: Rollout, source: str, wanted: str) -> TypeError:
    found = type(rollout.scores[source]).__name__
    return TypeError(
        f"{rollout.rollout_id}: the scores of {source!r} are {found}; this estimator reads {wanted}"
    )


def step_lengths(rollout: Rollout) -> np.ndarray:
    """int [K]: tokens of each step."""
    return np.array([step.end - step.start for step in rollout.steps])


def first_tokens(rollout: Rollout) -> np.ndarray:
    """int [K]: where each step begins among the sampled tokens."""
    lengths = step_lengths(rollout)
    return np.cumsum(lengths) - lengths


def at_tokens(rollout: Rollout, per_sampled: Wide) -> Wide:
    """[S] -> [T]: the numbers of the sampled tokens, 0 at what was observed."""
    column = np.zeros(len(rollout.completion.token_ids))
    column[rollout.completion.sampled] = per_sampled
    return column


def per_token(rollout: Rollout, per_step: Wide) -> Wide:
    """[K] -> [T]: every token has its step's number, 0 where it was observed."""
    return at_tokens(rollout, np.repeat(per_step, step_lengths(rollout)))


def throughout(rollouts: Seq[Rollout], values: Wide) -> Credit:
    """One advantage a rollout, [N], for all of its tokens."""
    return [
        (rollout, np.full(len(rollout.completion.token_ids), value))
        for rollout, value in zip(rollouts, values, strict=True)
    ]


def has_signal(credit: Credit) -> bool:
    """Whether a trained token of the group has an advantage that is more than rounding."""
    rounding = tolerance(np.concatenate([column for _, column in credit])) if credit else 0.0
    return any(np.abs(column[r.own]).max() > rounding for r, column in credit)


def whiten(credits: Seq[Credit], without_signal: WithoutSignal = "left_out") -> list[Credit]:
    """(A - mean) / std, both over the trained tokens of the batch.

    Groups without signal that are left out stay at exactly 0, and are in neither mean nor std. Kept
    ones are in both, and are whitened too: to 0 only where the mean is 0 (but for rounding).
    """
    kept = [without_signal == "kept" or has_signal(credit) for credit in credits]
    tokens = [
        column[r.own]
        for credit, counts in zip(credits, kept, strict=True)
        if counts
        for r, column in credit
    ]
    if not tokens:
        return list(credits)
    pooled = np.concatenate(tokens)
    mean, scale = pooled.mean(), 0.0 if tied(pooled) else 1.0 / pooled.std()
    mean = 0.0 if scale and abs(mean) <= tolerance(pooled) else mean
    return [
        [(r, (column - mean) * scale) for r, column in credit] if counts else credit
        for credit, counts in zip(credits, kept, strict=True)
    ]


def assemble(credits: Seq[Credit], without_signal: WithoutSignal = "left_out") -> AdvantageSamples:
    """Sequences and per-token advantages, of the groups with signal or of all.

    Tokens that a branch inherited are trained in the rollout that sampled them, not again here.
    Groups without signal are counted either way. Kept ones have advantages of exactly 0: they count
    in the loss's mean and feel its KL and its entropy bonus. A batch where no group at all has
    signal gives no samples, even where they are kept: most losses would have no gradient, and the
    optimizer's step would be its momentum and its weight decay alone.
    """
    loud = [credit for credit in credits if has_signal(credit)]
    flat = [item for credit in loud for item in credit]
    if without_signal == "kept" and loud:
        flat = [
            (r, column if has_signal(credit) else np.zeros_like(column))
            for credit in credits
            for r, column in credit
        ]
    sequences = tuple(sequence(rollout, start=rollout.inherited) for rollout, _ in flat)
    advantages = []
    for s, (rollout, column) in zip(sequences, flat, strict=True):
        per_position = np.zeros(len(s.token_ids), dtype=np.float32)
        per_position[s.loss_mask] = column[rollout.own]
        advantages.append(per_position)
    return AdvantageSamples(
        sequences=sequences,
        advantages=tuple(advantages),
        groups=len(loud),
        groups_without_signal=len(credits) - len(loud),
    )
