"""The control side of a weight sync: one vLLM sync client for all generator replicas."""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError

ANSWER_S = 5.0
"""How long a generator has to say that it is there, once a transfer has failed, in seconds."""


def _lost(call: ray.ObjectRef) -> bool:
    try:
        ray.get(call)
    except RayError:
        return True
    return False


class ReplicaSyncClient:
    """Drives independent replicas as one unit (vLLM's `VLLMWeightSyncClient` protocol).

    vLLM 0.32's own Ray client gives every replica the same rank and never passes a version; this
    one adds the replica's rank offset and binds the version of the round.

    Args:
        generators: the generator actors.
        engine_world_size: workers of one replica (tensor parallel size).
        deadline_s: longest wait for any call, in seconds.
    """

    def __init__(
        self, generators: list[ActorHandle], engine_world_size: int, deadline_s: float
    ) -> None:
        self._generators = generators
        self._engine_world_size = engine_world_size
        self._deadline_s = deadline_s
        self.version = 0
        """What `finish_weight_update` labels the new weights with."""

    def _all(self, verb: str, arguments: list[tuple[Any, ...]]) -> None:
        """Call one verb on every replica; an error or a deadline names the replica and the verb."""
        calls = [
            getattr(generator, verb).remote(*args)
            for generator, args in zip(self._generators, arguments, strict=True)
        ]
        for index, call in enumerate(calls):
            try:
                ray.get(call, timeout=self._deadline_s)
            except GetTimeoutError as error:
                message = f"generator {index}: {verb} did not finish in {self._deadline_s:.0f} s"
                raise TimeoutError(message) from error
            except RayError as error:
                raise RuntimeError(f"generator {index}: {verb} failed: {error}") from error

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos = []
        for index in range(len(self._generators)):
            info = dict(init_info)
            if "rank_offset" in info:
                info["rank_offset"] += index * self._engine_world_size
            infos.append((info,))
        self._all("init_weight_transfer_engine", infos)

    def start_weight_update(self) -> None:
        self._all("start_weight_update", [()] * len(self._generators))

    def update_weights(self, update_info: Any) -> None:
        self._all("update_weights", [(update_info,)] * len(self._generators))

    def serve_adapter(self, files: dict[str, bytes]) -> None:
        """Have every engine apply the adapter in these files, under the round's version."""
        sent = ray.put(files)
        self._all("serve_adapter", [(sent, str(self.version))] * len(self._generators))

    def blame(self, cause: RuntimeError) -> RuntimeError:
        """The error of a round in which no more weights went through: who does not answer."""
        calls: list[Any] = [each.process_id.remote() for each in self._generators]
        answered, _ = ray.wait(calls, num_returns=len(calls), timeout=ANSWER_S)
        silent = [i for i, call in enumerate(calls) if call not in answered or _lost(call)]
        who = ", ".join(map(str, silent))
        told = f"generator {who} does not answer" if silent else "every generator answers"
        return RuntimeError(f"a weight did not go through, and {told}: {cause}")

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        version = weight_version or str(self.version)
        self._all("finish_weight_update", [(version,)] * len(self._generators))
