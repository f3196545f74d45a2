"""What a critic learns from judged solutions before its first run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from rlstep.examples.judged import JudgedRows
from rlstep.interfaces import Examples
from rlstep.types import LabelSamples, Sequence


@dataclass(frozen=True, kw_only=True)
class StateValues(Examples):
    """The value of every state of a solution: its outcome, the target of its last labelled step.

    The Monte-Carlo return at gamma 1 (GAE with lambda 1, Schulman et al. 2016, arXiv:1506.02438),
    where `Critic` reads the state before an action: one token before it, for the first one at the
    prompt's last token. `ValueLoss` fits it. For whole solutions: of a part, such as PRM800K's
    proposals for a step, the last label is no outcome.

    (Where the labels are values of prefixes themselves, as shares of correct continuations are,
    they need no wrapper: a step's last token is where the state before the next step is read.)
    """

    makes: ClassVar[type] = LabelSamples

    of: JudgedRows
    """The solutions, in the policy's own tokens: without a layout."""
    level: Literal["token", "step"] = "token"
    """What one action is, as in the critic's `gae`."""

    def __post_init__(self) -> None:
        if self.of.layout is not None:
            raise ValueError(
                f"examples.of.layout is {type(self.of.layout).__name__}, and a critic reads the"
                " policy's own tokens; the nearest valid value is None"
            )

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        for samples in self.of.batches(tokenizer, seed):
            yield self._values(samples)

    def held_out(self, tokenizer: Any) -> LabelSamples | None:
        samples = self.of.held_out(tokenizer)
        return samples and self._values(samples)

    def _values(self, samples: LabelSamples) -> LabelSamples:
        sequences, targets, weights = [], [], []
        for sequence, labels in zip(samples.sequences, samples.targets, strict=True):
            outcome = labels[np.flatnonzero(sequence.loss_mask)[-1]]
            mask = self._before_actions(sequence)
            sequences.append(replace(sequence, loss_mask=mask))
            targets.append(np.where(mask, outcome, 0.0).astype(np.float32))
            weights.append(mask.astype(np.float32))
        return LabelSamples(
            sequences=tuple(sequences), targets=tuple(targets), weights=tuple(weights)
        )

    def _before_actions(self, sequence: Sequence) -> np.ndarray:
        """bool [L]: the tokens that an action follows."""
        index = sequence.step_index
        action = index >= 0
        if self.level == "step":
            action &= np.diff(index, prepend=-1) != 0
        return np.append(action[1:], False)
