"""A process reward model that is not trusted where its training data did not reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import at_least, positive
from rlstep.config import needs_head
from rlstep.interfaces import LearnerRole
from rlstep.scoring.step_models.prm import Prm
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores
from rlstep.uncertainty.last_layer import Form, factor, spread, uncertainty, worst_case
from rlstep.uncertainty.sigma import log_of


@dataclass(frozen=True, kw_only=True)
class AdvPo(Prm):
    """A PRM that stays as it is, scored by the worst head that its training data allow.

    AdvPO (Zhang et al. 2024, arXiv:2403.05171) with e the last layer's embedding at a step's last
    token and M = ridge I + sum (e_c e_c^T + e_r e_r^T) over pairs of better and worse labelled
    steps of one problem (`measure`). log_sigma is that of the logit's lightweight uncertainty
    U = b sqrt(e^T M^-1 e), carried over to the probability: p (1 - p) U. With a radius B the logits
    are moved as far as the worst head for this batch moves them (`last_layer.worst_case`).

    The worst head is sought for e - e_ref, where e_ref is the mean better step of the training
    data: the paper's e(y_ref), averaged over the pairs. With form 'differences', not the paper's, M
    is ridge I + sum (e_c - e_r) (e_c - e_r)^T, as a head is that was fitted to differences. What
    all embeddings share is in none of them and would drown the rest, so U is of e - e_ref too.

    M holds for the weights it was measured with: this model is not trained in the run.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    embeds: ClassVar[bool] = True

    source: str = "advpo"
    """The name that its scores have."""
    statistics: str
    """The .npz file that `measure` wrote for the model of the learner."""
    ridge: float = 1.0
    """lambda: in directions without data the head's weights have this prior precision."""
    scale: float = 1.0
    """b, standard deviations of the logit per unit of sqrt(d^T M^-1 d)."""
    radius: float = 0.0
    """B, how far the head may be off; 0 leaves the scores as they are. In the paper's form it is
    the square, ||phi - phi_0||_M^2 <= B; with 'differences' ||phi - phi_0||_M <= B."""
    form: Form = "paper"
    """Which M, and with it which U and which B."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Others have no single linear head, whose weights the statistics are about.
        needs_head(
            "step_models (AdvPo)",
            self,
            ("token_classification", "two_label"),
            LabelSamples,
            of_logits=True,
        )
        positive("step_models (AdvPo).ridge", self.ridge)
        positive("step_models (AdvPo).scale", self.scale)
        at_least("step_models (AdvPo).radius", self.radius, 0.0)
        if not Path(self.statistics).is_file():
            raise ValueError(
                f"step_models (AdvPo).statistics is {self.statistics!r}, and there is no such file;"
                " rlstep.running.supervised.measure writes one"
            )

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        """None: an update would make the statistics another model's."""
        return LabelSamples(sequences=(), targets=(), weights=())

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        return self.read_out_all([rollout], [predictions], version)[0]

    def read_out_all(
        self, rollouts: Sequence[Rollout], predictions: Sequence[Floats], version: int
    ) -> list[Score]:
        """predictions: float32 [K, 1 + d] a rollout, the logit and the embedding of every step."""
        with np.load(self.statistics, allow_pickle=False) as file:
            lower, reference = factor(file[self.form], self.ridge), file["reference"]
        finite = [bool(np.isfinite(rows).all()) for rows in predictions]
        known = [rows for rows, good in zip(predictions, finite, strict=True) if good]
        stacked = np.concatenate([np.zeros((0, 1 + len(reference))), *known])
        logits, embeddings = stacked[:, 0], stacked[:, 1:]
        differences = embeddings - reference
        paper = self.form == "paper"
        radius = math.sqrt(self.radius) if paper else self.radius
        _, changes = worst_case(lower, differences, radius)
        plain, moved = _sigmoid(logits), _sigmoid(logits + changes)
        sigma = (
            plain
            * (1.0 - plain)
            * self.scale
            * uncertainty(lower, embeddings if paper else differences)
        )
        ends = np.cumsum([len(rows) for rows in known])[:-1]
        scores = iter(zip(np.split(moved, ends), np.split(sigma, ends), strict=True))
        return [
            _scores(*next(scores), version)
            if good
            else Failure(reason="not_finite", detail=f"{self.source} version {version}")
            for good in finite
        ]


def _sigmoid(logits: NDArray) -> NDArray:
    return 1.0 / (1.0 + np.exp(-logits))


def _scores(values: NDArray, sigma: NDArray, version: int) -> StepScores:
    return StepScores(values=values.astype(np.float32), version=version, log_sigma=log_of(sigma))


async def measure(learner: LearnerRole, samples: LabelSamples, file: Path) -> None:
    """Write the statistics of a trained PRM for `AdvPo`: 'reference' [d], [d, d] for each form.

    Args:
        learner: with the very weights that are to score.
        samples: what it was trained on. Of each problem all pairs of trained positions with unequal
            targets count, the higher target as the better side.
        file: the .npz to write.

    Raises:
        ValueError: no problem has two steps with unequal targets.
    """
    at = [np.flatnonzero(s.loss_mask) for s in samples.sequences]
    rows = await learner.embed([s.token_ids for s in samples.sequences], at)
    by_prompt: dict[str, list[int]] = {}
    for i, s in enumerate(samples.sequences):
        by_prompt.setdefault(s.prompt_id, []).append(i)
    totals: dict[Form, NDArray] = {"paper": np.zeros(()), "differences": np.zeros(())}
    better, pairs = np.zeros(()), 0
    for members in by_prompt.values():
        embeddings = np.concatenate([rows[i][:, 1:] for i in members]).astype(np.float64)
        targets = np.concatenate([samples.targets[i][at[i]] for i in members])
        above = targets[:, None] > targets[None, :]
        totals = {f: total + spread(embeddings, above, f) for f, total in totals.items()}
        better = better + above.sum(axis=1) @ embeddings
        pairs += int(above.sum())
    if not pairs:
        raise ValueError("samples: no problem has two steps with unequal targets; AdvPo needs some")
    np.savez(
        file,
        reference=better / pairs,
        paper=totals["paper"],
        differences=totals["differences"],
    )
