"""Weights from learner to generators: each sync has a version, a proof and a deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np
from ray.exceptions import RayError

from rlstep.actors.generator.epochs import Epoch, GeneratorsLost
from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner_group import LearnerGroup, LearnerLost
from rlstep.measuring.busy import SYNC
from rlstep.role_config import PROBE_TOKENS
from rlstep.types import Floats, Samples, TokenIds

logger = logging.getLogger(__name__)

DEEP_TOKENS = 2
"""After a prompt that is as long as any in use: what is wrong with positions shows at depth."""
DEEP_EVERY = 10
"""The deep probe is asked at the first sync with a replica and at every so many-th after it: of a
small model it may take as long as the rest of a sync."""
DEEP_ROUNDING = 1e-3
"""Nats that float32 alone may cost at depth, up to ten times `parity_tolerance`: the deep prompt
repeats itself, which is like nothing that a policy was trained on. There the logprobs of a policy
of 410,624 weights were 1.3e-4 nats from those in float64; wrong positions cost some tenths."""


class NotFinite(RuntimeError):
    """The policy's own logprobs are no numbers: no generator is to blame, and none is recreated."""


class WeightSync:
    """Keeps every generator on exactly one version of the policy.

    Args:
        learner: the policy's learner.
        generators: all replicas.
        probe: token ids of the parity probe's prompt, at least two cache blocks long, so that a
            prefix cache that survived the sync would be seen.
        longest: tokens of the longest sequence in use, prompt and completion together.
    """

    def __init__(
        self, learner: LearnerGroup, generators: GeneratorGroup, probe: TokenIds, longest: int
    ) -> None:
        assert len(probe) >= generators.config.probe_prompt
        self.version = 0
        self.max_parity_error = 0.0
        self._learner = learner
        self._generators = generators
        self._probes = [(probe, PROBE_TOKENS)]
        if longest > len(probe) + PROBE_TOKENS:
            self._probes.append((np.resize(probe, longest - DEEP_TOKENS), DEEP_TOKENS))
        self._deep_at = 0
        """The version from which on the deep probe is due."""
        self._verified = False
        """Whether any sync has succeeded."""
        self._joined: list[Epoch] = []
        """Whom the learner is connected to."""
        self._sending = False
        """Whether weights are on their way, or were when the learner was lost."""
        generators.on_recreated = self._resync

    async def start(self, version: int) -> float:
        """Connect all replicas and send the first weights. Returns the parity error, in nats.

        Raises:
            RuntimeError: the sync failed. The first one is not tried again: what stops it is wrong
                from the start.
        """
        self.version = version
        async with self._generators.changing:
            return await self._until_verified()

    async def update(self, samples: Samples) -> dict[str, float]:
        """Train on the samples, then bring every generator to the new weights.

        The two are one, so that a replica lost meanwhile is never given weights of the next version
        under the label of the last one.

        Raises:
            RuntimeError: the recoveries are used up; names the generator that failed last.
            LearnerLost: a process of the learner's has ended.
            NotFinite: the update has ruined the policy.
        """
        async with self._generators.changing:
            with self._generators.busy.of("policy"):
                metrics = await self._learner.train(samples)
            self.version += 1
            started = time.monotonic()
            with self._generators.busy.of(SYNC):
                error = await self._until_verified()
            seconds = time.monotonic() - started
            return {**metrics, "sync/parity_error": error, "sync/seconds": seconds}

    async def rejoin(self, learner: LearnerGroup, version: int) -> None:
        """Go on with another learner in the place of one that was lost.

        Args:
            learner: its successor, with the weights of an earlier version.
            version: which.

        Raises:
            RuntimeError, LearnerLost, NotFinite: see `update`.
        """
        async with self._generators.changing:
            if self._sending:  # engines in the middle of a transfer are none any more
                self._sending = False
                await self._generators.replace_all()
            else:  # what the weights that are lost have written is not theirs
                self._generators.renew()
            self._learner, self.version, self._joined = learner, version, []
            await self._until_verified()

    async def _resync(self) -> None:
        """Give recreated replicas (and, the group being one, all others) the current version.

        Whoever recreated them holds `changing`.
        """
        await self._until_verified()

    async def _until_verified(self) -> float:
        """One sync. Replicas that were lost are replaced alone; a sync that fails otherwise poisons
        the engines (vLLM 0.32), so all are recreated."""
        generators = self._generators
        while True:
            try:
                worst = await self._once()
            except (NotFinite, LearnerLost):
                raise
            except GeneratorsLost as error:
                self._raise_first(error)
                await generators.replace(error.lost)
            except (RayError, RuntimeError, TimeoutError) as error:
                self._raise_first(error)
                generators.spend_recovery(f"weight sync {self.version} failed", error)
                logger.warning("weight sync %d failed, retrying: %s", self.version, error)
                await generators.replace_all()
            else:
                self._verified = True
                generators.admit()
                return worst

    def _raise_first(self, error: BaseException) -> None:
        if not self._verified:
            raise RuntimeError(f"the first weight sync failed: {error}") from error

    async def _once(self) -> float:
        # First, since it says who is lost before an engine could be left in the middle of a sync.
        await self._generators.pause()
        if self._joined != self._generators.epochs:
            await self._connect()
        self._sending = True
        await self._learner.publish(self.version)
        self._sending = False
        try:
            await self._generators.resume()
            versions = await self._generators.versions()
            if any(version != self.version for version in versions):
                raise RuntimeError(f"generators serve versions {versions}, expected {self.version}")
            return await self._verify()
        except GeneratorsLost:
            self._generators.renew()
            raise

    async def _connect(self) -> None:
        self._deep_at = self.version
        config = self._generators.config
        await self._learner.join_generators(
            self._generators.actors,
            backend=config.transfer,
            dtype=config.dtype,
            engine_world_size=config.tensor_parallel_size,
            deadline_s=config.deadline_s,
            silence_s=config.sync_silence_s,
        )
        self._joined = list(self._generators.epochs)

    async def _verify(self) -> float:
        """The largest logprob difference on the probes, over all replicas."""
        name = f"probe/{self.version}/{self._generators.recoveries}"
        due = self._probes if self.version >= self._deep_at else self._probes[:1]
        try:
            answered = await asyncio.gather(
                *(
                    self._generators.probe(prompt, tokens, f"{name}/{len(prompt)}")
                    for prompt, tokens in due
                )
            )
        except (GeneratorsLost, RuntimeError):
            await self._predict([self._probes[0][0]])
            raise
        asked = [
            (replica, prompt, answer)
            for (prompt, _), answers in zip(due, answered, strict=True)
            for replica, answer in enumerate(answers)
        ]
        rows = await self._predict(
            [np.concatenate([prompt, answer.token_ids]) for _, prompt, answer in asked]
        )
        worst = 0.0
        for (replica, prompt, answer), row in zip(asked, rows, strict=True):
            error = float(np.abs(row[len(prompt) :] - answer.logprobs).max())
            allowed = self._allowed(len(prompt))
            if not error <= allowed:
                raise RuntimeError(
                    f"generator {replica}: logprobs differ from the learner's by {error:.2g} nats"
                    f" after {len(prompt)} tokens, after sync {self.version} (there"
                    f" generator.parity_tolerance allows {allowed:.2g})"
                )
            worst = max(worst, error)
        if len(due) > 1:
            self._deep_at = self.version + DEEP_EVERY
        self.max_parity_error = max(self.max_parity_error, worst)
        return worst

    async def _predict(self, sequences: Sequence[TokenIds]) -> list[Floats]:
        """The learner's own logprobs. Raises: NotFinite."""
        rows = await self._learner.predict(sequences)
        if not all(np.isfinite(row[1:]).all() for row in rows):
            raise NotFinite(
                f"the policy's own logprobs are not finite at version {self.version}: its"
                " weights hold values that are none, or overflow. Before the first update its"
                " folder (model.path) is at fault, after it a learning rate that is too high, or a"
                " loss"
            )
        return rows

    def _allowed(self, prompt: int) -> float:
        """The largest difference after a probe's prompt of so many tokens, in nats."""
        tolerance = self._generators.config.parity_tolerance
        if prompt == len(self._probes[0][0]):
            return tolerance
        return max(tolerance, min(10 * tolerance, DEEP_ROUNDING))
