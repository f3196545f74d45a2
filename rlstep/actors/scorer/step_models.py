"""A step model with what computes its predictions: scoring and training rollouts."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.scorer.pooling import PoolingGroup
from rlstep.config import ModelConfig
from rlstep.interfaces import Reader, StepInputs, StepModel
from rlstep.plugins import crashed
from rlstep.reporting.stages import stage
from rlstep.tensors.inputs import at_steps, own_inputs, to_model
from rlstep.types import Failure, Floats, Rollout, Score

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepModelRole:
    """One step model of a run."""

    model: StepModel
    learner: LearnerGroup | PoolingGroup
    read: Reader | None
    """See `StepModel.reader`."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A reader holds tokenizers and changes their settings: no two calls may run at once."""

    async def score(self, rollouts: Sequence[Rollout], version: int) -> list[Score]:
        """The model's score of every rollout, in order."""
        inputs = await self._inputs(rollouts)
        readable = [
            (rollout, given)
            for rollout, given in zip(rollouts, inputs, strict=True)
            if not isinstance(given, Failure)
        ]
        rows = await self._predict(readable) if readable else []
        scores = iter(self._read_out([r for r, _ in readable], rows, version))
        return [given if isinstance(given, Failure) else next(scores) for given in inputs]

    def _read_out(
        self, rollouts: Sequence[Rollout], rows: Sequence[Floats], version: int
    ) -> Sequence[Score]:
        try:
            return self.model.read_out_all(rollouts, rows, version)
        except Exception as error:
            return [crashed(error, self.model)] * len(rollouts)

    async def _inputs(self, rollouts: Sequence[Rollout]) -> list[StepInputs | Failure]:
        if (read := self.read) is None:
            return [own_inputs(rollout) for rollout in rollouts]
        # Tokenizing is work, and the loop serves others meanwhile.
        async with self.reading:
            inputs = await asyncio.to_thread(
                lambda: [self._given(read, rollout) for rollout in rollouts]
            )
        self._warn([given for given in inputs if isinstance(given, Failure)], len(rollouts))
        return inputs

    def _given(self, read: Reader, rollout: Rollout) -> StepInputs | Failure:
        try:
            return read(rollout)
        except Exception as error:
            return crashed(error, self.model)

    def _warn(self, failures: Sequence[Failure], rollouts: int) -> None:
        """What cannot be read has no score, which nobody should find out by accident."""
        if failures:
            reasons = dict(Counter(failure.reason for failure in failures))
            logger.warning(
                "%s: %d of %d rollouts could not be read: %s (%s)",
                self.model.source,
                len(failures),
                rollouts,
                reasons,
                failures[0].detail,
            )

    async def _predict(self, readable: Sequence[tuple[Rollout, StepInputs]]) -> list[Floats]:
        sequences = [given.token_ids for _, given in readable]
        if self.model.embeds:
            assert isinstance(self.learner, LearnerGroup)
            return await self.learner.embed(sequences, [given.read_at for _, given in readable])
        rows = await self.learner.predict(sequences, log_ratios=self.model.log_ratios)
        if self.read is None:
            return rows
        return [at_steps(r, given, row) for (r, given), row in zip(readable, rows, strict=True)]

    async def train(self, rollouts: Sequence[Rollout], iteration: int) -> dict[str, float]:
        """Train the model on rollouts that it has scored, and return its metrics.

        There are none where it is never trained, or not in this iteration. (At a lag the rollouts
        of one batch may be of several.)
        """
        if isinstance(self.learner, PoolingGroup) or self.model.loss is None:
            return {}
        if (iteration + 1) % self.model.every:
            return {}
        samples = self.model.samples(rollouts)
        if (read := self.read) is not None:
            async with self.reading:
                samples = await asyncio.to_thread(to_model, samples, rollouts, read)
        return await self.learner.train(samples)


async def start_frozen(
    model: StepModel,
    tokenizer: Any,
    *,
    seed: int,
    deadline_s: float,
    options: Mapping[str, Any],
) -> StepModelRole:
    """Any step model as its folder has it, to be read alone: on a learner's ranks, or in vLLM where
    it has an engine. Adapters that it was trained with are in the weights there.

    Args:
        tokenizer: the policy's.
        options: Ray options of each of its actors.

    Raises:
        ValueError, TimeoutError: see `LearnerGroup.start`, `PoolingGroup.start`.
    """
    read, settings = model.reader(tokenizer), {"name": model.source, "deadline_s": deadline_s}
    if model.engine is not None:
        with stage(f"{model.source} (in vLLM)"):
            pooling = await PoolingGroup.start(
                model.learner, model.engine, actor_options=options, **settings
            )
        return StepModelRole(model, pooling, read)
    whole = model.learner.model
    plain = ModelConfig(path=whole.path, dtype=whole.dtype, attention=whole.attention)
    with stage(f"{model.source} (frozen)"):
        learner = await LearnerGroup.start(
            replace(model.learner, model=plain), None, seed=seed, actor_options=options, **settings
        )
    return StepModelRole(model, learner, read)
