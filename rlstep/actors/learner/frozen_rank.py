"""One rank of a model that is only read: no optimizer, no gradients, no files."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist

from rlstep.actors.learner.deepspeed_config import zero_stage
from rlstep.actors.learner.learner_rank import ModelRank
from rlstep.types import Floats, TokenIds


class FrozenRank(ModelRank):
    """Loads a complete model and predicts; under ZeRO-3 its weights are spread over the ranks."""

    def join(self, host: str, port: int) -> None:
        """Meet the other ranks, load the model.

        Raises:
            ValueError: the folder lacks weights, be it only the head's.
        """
        self.meet(host, port)
        self.engine = self.load_frozen(self.config.model, complete=True)

    def predict(self, token_ids: Sequence[TokenIds], log_ratios: bool = False) -> dict[int, Floats]:
        """This rank's part: float32 [L] by position in `token_ids`."""
        assert not log_ratios, f"{self.name}: a frozen model is its own reference"
        rows = self.own_rows(token_ids, self.engine)
        return {position: row.cpu().numpy() for position, row in rows.items()}

    def close(self) -> None:
        if zero_stage(self.config) < 3:
            dist.destroy_process_group()
            return
        import deepspeed

        self.engine.destroy()
        deepspeed.comm.destroy_process_group()
