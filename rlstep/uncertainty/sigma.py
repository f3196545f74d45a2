"""How sure a source is of its step scores, as one standard deviation a step."""

from __future__ import annotations

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.types import Failure, Floats, Rollout, StepScores


def beta_sigma(n: np.ndarray, k: np.ndarray) -> Wide:
    """[K]: the standard deviation of a success rate of which k of n draws succeeded.

    Of its posterior Beta(1 + k, 1 + n - k), from a uniform prior: what Monte-Carlo counts (as in
    Math-Shepherd, arXiv:2312.08935) say of their own noise, for nothing. 1/sqrt(12) = 0.289 at
    n = 0, and never 0: all of few successes are not certain.
    """
    mean = (k + 1.0) / (n + 2.0)
    return np.sqrt(mean * (1.0 - mean) / (n + 3.0))


def log_of(sigma: Wide) -> Floats:
    """float32 [K]: log sigma as `StepScores` carry it, -inf for a standard deviation of 0."""
    out = np.full(sigma.shape, -np.inf)
    np.log(sigma, out=out, where=sigma > 0.0)
    return out.astype(np.float32)


def step_sigma(rollout: Rollout, source: str) -> Wide | None:
    """[K]: of each step's score, None where the source failed, has not run or missed a step."""
    found = known_sigma(rollout, source)
    return None if found is None or np.isnan(found).any() else found


def known_sigma(rollout: Rollout, source: str) -> Wide | None:
    """[K]: of each step's score, NaN where it missed the step; None where it failed or has not run.

    What the scorer estimates (log_sigma), or for counts `beta_sigma`.

    Raises:
        TypeError: the scores of this source have neither.
    """
    score = rollout.scores.get(source)
    if score is None or isinstance(score, Failure):
        return None
    if isinstance(score, StepScores):
        missed = np.zeros(len(score.values), bool) if score.n is None else score.n == 0
        if score.log_sigma is not None:
            return np.where(missed, np.nan, np.exp(score.log_sigma.astype(np.float64)))
        if score.n is not None and score.k is not None:
            return np.where(missed, np.nan, beta_sigma(score.n, score.k))
    raise TypeError(
        f"{rollout.rollout_id}: the {type(score).__name__} of {source!r} do not say how sure they"
        " are; name a source of step scores with log_sigma or counts: a Urm, an Ensemble, an AdvPo"
        " or Monte Carlo"
    )
