"""The verifier of mathematics, save for texts that say how it shall fare. Workers import it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.types import OutcomeScore

STANDS_STILL, COMPUTES = "it stands still", "it computes on and on"


@dataclass(frozen=True, kw_only=True)
class SlowAnswer(MathAnswer):
    """Stands for a comparison that no bound of ours foresaw: only the pool can end it."""

    def verify(self, text: str, answer: str) -> OutcomeScore:
        if STANDS_STILL in text:
            signal.pause()
        if COMPUTES in text:
            sum(range(10**9))  # in C, where no signal handler interrupts it
        return super().verify(text, answer)
