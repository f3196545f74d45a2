"""Step-DPO: the preference is about one step."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.losses.dpo import Dpo


@dataclass(frozen=True, kw_only=True)
class StepDpo(Dpo):
    """DPO's arithmetic on sequences of which one step is trained (Lai et al. 2024, 2406.18629).

    The prefix that both sides share and whatever follows the step are outside the loss mask, which
    the pair builder sets (`pairs.first_error`); so nothing else is different here.
    """

    beta: float = 0.5
