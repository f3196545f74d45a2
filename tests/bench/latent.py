"""An environment whose answers take as long as they are told to."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from rlstep.interfaces import Environment, Episode
from rlstep.types import Action, Observation, Prompt


@dataclass(frozen=True, kw_only=True)
class Latent(Environment):
    """Says the same at every turn."""

    says: str
    median_s: float = 0.0
    """Of a turn's time; 0 answers at once."""
    spread: float = 0.0
    """Standard deviation of its logarithm: turn times are lognormal."""

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        return _Waiting(self)


@dataclass
class _Waiting(Episode):
    environment: Latent

    def observe(self, action: Action) -> Observation:
        random = np.random.default_rng(action.token_ids)
        drawn = float(np.exp(self.environment.spread * random.normal()))
        waited = self.environment.median_s * drawn
        if waited:
            time.sleep(waited)
        return Observation(text=self.environment.says, counts={"waited_s": waited})
