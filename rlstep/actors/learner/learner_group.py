"""The learner, seen from the driver: its ranks, their start, and a deadline on every wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from rlstep.actors.learner.diffusion_learner import DiffusionLearner
from rlstep.actors.learner.frozen_rank import FrozenRank
from rlstep.actors.learner.models import check_learner
from rlstep.actors.learner.publisher import PublishingLearner
from rlstep.config import LearnerConfig
from rlstep.interfaces import Loss
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.types import Floats, Samples, TokenIds


class LearnerLost(RuntimeError):
    """The process of a rank has ended; with it the others are of no use."""


class LearnerGroup:
    """All ranks of one learner (implements `interfaces.LearnerRole`). Made by `start`.

    One without a loss is frozen: it predicts, and has no other verb.
    """

    def __init__(self, name: str, actors: Sequence[Any], deadline_s: float) -> None:
        self.name = name
        self.actors = actors
        """By rank."""
        self._deadline_s = deadline_s

    @classmethod
    async def start(
        cls,
        config: LearnerConfig,
        loss: Loss | None,
        *,
        name: str,
        seed: int,
        deadline_s: float,
        actor_options: Mapping[str, Any] | None = None,
        temperature: float = 1.0,
    ) -> LearnerGroup:
        """Start every rank and load the model.

        Args:
            loss: None for a model that is never trained.
            name: the role's name, for messages: 'policy', 'prm', 'critic'.
            deadline_s: the longest any verb may take, the start included.
            actor_options: Ray options of each rank (GPUs, placement).
            temperature: of the distribution that `train` works on, see `LearnerRank`.

        Raises:
            ValueError: see `check_learner`.
            TimeoutError: a rank did not come up.
        """
        check_learner(config, loss)
        options = {"num_cpus": 0, **(actor_options or {})}
        arguments = (config,) if loss is None else (config, loss, temperature)
        kind: Any = ray.remote(
            FrozenRank if loss is None else _RANKS.get(config.head, PublishingLearner)
        )
        device = "cuda" if options.get("num_gpus") else "cpu"
        actors = [
            kind.options(runtime_env=_environment(config, name, rank), **options).remote(
                *arguments,
                name=name,
                rank=rank,
                device=device,
                seed=seed,
                timeout_s=deadline_s,
            )
            for rank in range(config.world_size)
        ]
        group = cls(name, actors, deadline_s)
        try:
            ((host, port),) = await group._call("address", ranks=[0])
            await group._call("join", host, port)
        except BaseException:
            group.kill()
            raise
        return group

    async def train(self, samples: Samples) -> dict[str, float]:
        """See `interfaces.LearnerRole.train`.

        Returns:
            The loss's metrics, 'loss', 'grad_norm' and 'learning_rate', averaged over the updates;
            and 'updates', 'skipped_updates', 'tokens' (forward and backward), 'padding' (the share
            of the computed positions that held no token), 'seconds'; with `shared_prefixes` also
            'shared_tokens' (those of the tokens that were computed as another sequence's).
        """
        totals: defaultdict[str, float] = defaultdict(float)
        for share in await self._call("train", ray.put(samples)):
            for name, value in share.items():
                totals[name] += value
        padded = totals.pop("padded_tokens")
        computed = totals["tokens"] - totals.get("shared_tokens", 0.0)
        return {**totals, "padding": 1.0 - computed / padded if padded else 0.0}

    async def predict(
        self, sequences: Sequence[TokenIds], *, log_ratios: bool = False
    ) -> list[Floats]:
        """Per row of token ids (int32 [L]) float32 [L]: logprobs, or a scalar head's outputs (of a
        wider head [L, outputs]); with `log_ratios` minus those of the reference, which is then the
        first model."""
        rows: dict[int, Floats] = {}
        for share in await self._call("predict", ray.put(list(sequences)), log_ratios):
            rows |= share
        return [rows[position] for position in range(len(sequences))]

    async def embed(
        self, sequences: Sequence[TokenIds], positions: Sequence[NDArray[np.integer]]
    ) -> list[Floats]:
        """See `interfaces.LearnerRole.embed`."""
        rows: dict[int, Floats] = {}
        for share in await self._call("embed", ray.put((list(sequences), list(positions)))):
            rows |= share
        return [rows[position] for position in range(len(sequences))]

    async def save(self, directory: str) -> None:
        await self._call("save", directory)

    async def restore(self, directory: str) -> None:
        await self._call("restore", directory)

    async def export(self, directory: str) -> None:
        await self._call("export", directory)

    async def join_generators(
        self,
        generators: list[ActorHandle],
        *,
        backend: str,
        dtype: str,
        engine_world_size: int,
        deadline_s: float,
        silence_s: float,
    ) -> None:
        """Open the weight transfer; see `publisher.PublishingLearner`."""
        await self._call(
            "join_generators",
            *(generators, backend, dtype, engine_world_size, deadline_s, silence_s),
        )

    async def publish(self, version: int) -> None:
        """Send the weights to every joined generator under this version."""
        await self._call("publish", version)

    async def close(self) -> None:
        """End every rank, by force where it does not answer."""
        try:
            await self._call("close")
        finally:
            self.kill()

    def kill(self) -> None:
        """End every rank by force."""
        for actor in self.actors:
            ray.kill(actor)

    async def _call(
        self, verb: str, *arguments: Any, ranks: Sequence[int] | None = None
    ) -> list[Any]:
        """One verb on every rank (or on some); the first error is raised, whatever others do.

        Raises:
            TimeoutError: naming the role, the rank and the verb.
            LearnerLost: naming them, too.
        """
        ranks = range(len(self.actors)) if ranks is None else ranks
        waits = {
            rank: asyncio.ensure_future(_answer(getattr(self.actors[rank], verb), arguments))
            for rank in ranks
        }
        try:
            await asyncio.wait(
                waits.values(), timeout=self._deadline_s, return_when=asyncio.FIRST_EXCEPTION
            )
            for rank, wait in waits.items():
                if wait.done() and (error := wait.exception()) is not None:
                    if isinstance(error, RayActorError):
                        error = LearnerLost(str(error))
                    error.add_note(f"learner {self.name!r} rank {rank}: {verb}")
                    note_last_lines(error, f"{self.name}-{rank}")
                    raise error
            for rank, wait in waits.items():
                if not wait.done():
                    late = TimeoutError(
                        f"learner {self.name!r} rank {rank}: {verb} did not finish within"
                        f" {self._deadline_s:g} s"
                    )
                    note_last_lines(late, f"{self.name}-{rank}")
                    raise late
            return [wait.result() for wait in waits.values()]
        finally:
            for wait in waits.values():
                wait.cancel()


_RANKS: dict[str, type[PublishingLearner]] = {"masked_diffusion": DiffusionLearner}
"""What a rank that trains is, by its head, where it is of another kind."""


def _environment(config: LearnerConfig, name: str, rank: int) -> dict[str, Any]:
    """The runtime environment of a rank's process."""
    threads = {"OMP_NUM_THREADS": str(config.threads), "TOKENIZERS_PARALLELISM": "false"}
    return {"env_vars": threads | role_environment(f"{name}-{rank}")}


async def _answer(method: Any, arguments: Sequence[Any]) -> Any:
    return await method.remote(*arguments)
