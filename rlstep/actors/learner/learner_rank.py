"""One rank of a model: its start, its predictions; and under DeepSpeed its files and end.

Dimensions: n sequences of a micro-batch, L tokens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ray.util import get_node_ip_address
from torch import Tensor, nn

from rlstep.actors.learner import models, saved_state
from rlstep.actors.learner.deepspeed_config import (
    deepspeed_config,
    frozen_config,
    lay_out,
    make_optimizer,
    make_scheduler,
    set_optimizer,
    zero_stage,
)
from rlstep.actors.learner.heads import make_head
from rlstep.actors.learner.shared_prefixes import use_branch_attention
from rlstep.actors.learner.vocabulary_head import use_vocabulary_head
from rlstep.actors.weights.merged import merged_weights
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import Loss
from rlstep.measuring.peak_memory import peak_gib
from rlstep.tensors.batching import PackedBatch, Rows, micro_batches, pack
from rlstep.tensors.bundles import Bundles, pack_bundles, shared_micro_batches
from rlstep.types import Floats, TokenIds

_COUNTERS = ("updates", "batches", "skipped_in_a_row")
"""What a checkpoint has of a learner's own."""


class Place(TypedDict):
    """Who and where a rank is."""

    name: str
    """The role's, for messages."""
    rank: int
    """0 .. world_size - 1."""
    device: str
    """'cpu' or 'cuda'; a rank sees one GPU."""
    seed: int
    """Of everything random."""
    timeout_s: float
    """How long a collective operation waits for the other ranks."""


class ModelRank:
    """One rank of a model: its start, and its predictions."""

    def __init__(self, config: LearnerConfig, outputs: int = 1, **place: Unpack[Place]) -> None:
        self.config = config
        self.name = place["name"]
        self.rank = place["rank"]
        self.device = torch.device(place["device"])
        self.engine: Any = None
        """What is called for predictions, once joined: DeepSpeed's engine, or a frozen model."""
        self._seed = place["seed"]
        self._timeout = timedelta(seconds=place["timeout_s"])
        self._meeting_point: Any = None
        if self.device.type == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
            torch.set_num_threads(config.threads)
        self._outputs = outputs
        self._head = make_head(config, outputs)

    # --- start and end ---------------------------------------------------------------------------

    def address(self) -> tuple[str, int]:
        """Rank 0 opens the meeting point on a port that the system picks, and keeps it open; one
        that is alone opens it to this machine only."""
        host = "127.0.0.1" if self.config.world_size == 1 else get_node_ip_address()
        # Bound here: on its own the store listens on every interface.
        listen = socket.create_server((host, 0))
        port = listen.getsockname()[1]
        self._meeting_point = self._store(host, port, listen.detach())
        return host, port

    def _store(self, host: str, port: int, listen: int | None = None) -> Any:
        """Rank 0's listens on a socket that it takes over."""
        return dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            host,
            port,
            self.config.world_size,
            listen is not None,
            self._timeout,
            wait_for_workers=False,
            master_listen_fd=listen,
        )

    def meet(self, host: str, port: int) -> None:
        """Meet the other ranks."""
        os.environ.update(
            RANK=str(self.rank),
            WORLD_SIZE=str(self.config.world_size),
            LOCAL_RANK="0",
            LOCAL_SIZE="1",
            MASTER_ADDR=host,
            MASTER_PORT=str(port),
        )
        dist.init_process_group(
            "nccl" if self.device.type == "cuda" else "gloo",
            store=self._meeting_point or self._store(host, port),
            rank=self.rank,
            world_size=self.config.world_size,
            timeout=self._timeout,
        )
        import deepspeed  # it picks its accelerator when it is imported

        # DeepSpeed's shared-memory all-reduce is compiled in the actor and spins without a deadline
        # where another rank has died; gloo does neither.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    def peak_gib(self) -> float:
        """See `measuring.peak_memory`."""
        return peak_gib()

    def load_frozen(self, model_config: ModelConfig, *, complete: bool) -> Any:
        """A model that is only read, sharded at ZeRO-3; see `models.load_model`."""
        import deepspeed

        config = replace(self.config, model=model_config)
        model = models.load_model(config, self._seed, self._outputs, complete=complete)
        model = model.to(self.device).eval().requires_grad_(False)
        self._make_ready(model)
        if zero_stage(self.config) < 3:
            return model
        return deepspeed.initialize(model=model, config=frozen_config(self.config))[0]

    def _make_ready(self, model: nn.Module) -> None:
        """Checks what a whole model on its device can do."""
        if self.config.packing:
            models.check_packing(model, self.pack)
        if self.config.shared_prefixes:
            use_branch_attention(model)
        if self._head.of_next:
            use_vocabulary_head(model)

    # --- predictions -----------------------------------------------------------------------------

    def pack(self, token_ids: Sequence[TokenIds], rows: Rows) -> PackedBatch:
        """A micro-batch as the model reads it."""
        if isinstance(rows, Bundles):
            return pack_bundles(token_ids, rows).to(self.device)
        if self.config.packing and self.config.model.attention == "flash_attention_2":
            # transformers (5.19) sees packed sequences there in a single row only, silently.
            rows = [[position for row in rows for position in row]] if rows else []
        return pack(token_ids, rows).to(self.device)

    def forward(
        self, model: Any, batch: PackedBatch, wanted: models.Wanted = models.Wanted()
    ) -> Tensor:
        """float32 [n, longest], with further columns [n, longest, 1 + columns], of a wider head
        [n, longest, outputs] (see `interfaces.Loss`)."""
        return models.predict_tokens(model, batch, self._head, wanted)

    def parts(self, token_ids: Sequence[Any]) -> list[Rows]:
        """This rank's micro-batches of what `pack` takes."""
        limits, packing = (self.config.token_budget, self.config.world_size), self.config.packing
        if self.config.shared_prefixes:
            return shared_micro_batches(token_ids, *limits, packing=packing)[self.rank]
        return micro_batches([len(row) for row in token_ids], *limits, packing=packing)[self.rank]

    @torch.no_grad()
    def own_rows(
        self, token_ids: Sequence[Any], model: Any, temperature: float = 1.0
    ) -> dict[int, Tensor]:
        """Predictions of the sequences that fall to this rank, by position; they are what `pack`
        takes."""
        rows: dict[int, Tensor] = {}
        for part in self.parts(token_ids):
            batch, wanted = self.pack(token_ids, part), models.Wanted(temperature=temperature)
            values = self.forward(model, batch, wanted)
            each = zip(chain(*part), values, strict=False)
            rows |= {p: row[: len(token_ids[p])] for p, row in each}
        return rows


class LearnerRank(ModelRank):
    """One rank under DeepSpeed. Every verb but `predict` and `address` is collective: all ranks
    call it alike.

    Args:
        temperature: what a language model's logits are divided by in `train`, for the policy's own
            logprobs, those of old policy and reference, entropies and divergences. What is
            predicted elsewhere (the parity probe, log-ratios) is of temperature 1.
    """

    def __init__(
        self,
        config: LearnerConfig,
        loss: Loss,
        temperature: float = 1.0,
        **place: Unpack[Place],
    ) -> None:
        super().__init__(config, loss.outputs, **place)
        self.loss = loss
        self.temperature = temperature
        self.updates = 0
        self.batches = 0
        """How often it was asked to train."""
        self.skipped_in_a_row = 0
        self.frozen: nn.Module | None = None
        """The fixed reference, where it is not the learner with its adapters switched off."""

    def join(self, host: str, port: int) -> None:
        """Meet the other ranks, load the model, start DeepSpeed."""
        self.meet(host, port)
        import deepspeed

        model = models.load_model(self.config, self._seed, self._outputs).to(self.device)
        self._make_ready(model)
        optimizer = make_optimizer(self.config, model)
        self.engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=make_scheduler(self.config, optimizer),  # type: ignore[arg-type]
            config=deepspeed_config(self.config),
        )
        lay_out(self.config, self.engine)
        fixed = self.config.fixed_reference
        if fixed and not fixed.adapters and self.loss.reads & {"ref_logprobs", "divergences"}:
            self.frozen = self.load_frozen(fixed, complete=False)

    def close(self) -> None:
        import deepspeed

        self.engine.destroy()
        deepspeed.comm.destroy_process_group()

    def predict(self, token_ids: Sequence[TokenIds], log_ratios: bool = False) -> dict[int, Floats]:
        """This rank's part: float32 [L] (of a wider head [L, outputs]) by position in `token_ids`;
        with `log_ratios` minus the first model's."""
        rows = self.own_rows(token_ids, self.engine)
        if log_ratios:
            with self.fixed_reference() as model:
                first = self.own_rows(token_ids, model)
            rows = {position: row - first[position] for position, row in rows.items()}
        return {position: row.cpu().numpy() for position, row in rows.items()}

    @torch.no_grad()
    def embed(
        self, rows: tuple[Sequence[TokenIds], Sequence[NDArray[np.integer]]]
    ) -> dict[int, Floats]:
        """This rank's part, by position in the token ids: float32 [K, 1 + d], a scalar head's
        output and its inputs at K positions of each row."""
        token_ids, at = rows
        found: dict[int, Floats] = {}
        with models.head_inputs(self.engine.module) as inputs:
            for part in self.parts(token_ids):
                batch = self.pack(token_ids, part)
                outputs = self.forward(self.engine, batch)
                read = batch.unpack(inputs.pop().float())
                both = torch.cat([outputs[..., None], read], -1).cpu().numpy()
                found |= {p: row[at[p]] for p, row in zip(chain(*part), both, strict=False)}
        return found

    @contextmanager
    def fixed_reference(self) -> Iterator[Any]:
        """What the model was before any update, or the reference model: a frozen copy, or the
        adapters switched off."""
        if self.frozen is not None:
            yield self.frozen
        else:
            adapter = self.config.model.adapters
            with adapter.off(self.engine.module) if adapter else nullcontext():
                yield self.engine

    def all_rows(self, token_ids: Sequence[Any], model: Any) -> list[Floats]:
        """Predictions of all sequences, on every rank, at the temperature of `train`."""
        ends = np.cumsum([0] + [len(row) for row in token_ids])
        flat = torch.zeros(int(ends[-1]), device=self.device)
        for position, row in self.own_rows(token_ids, model, self.temperature).items():
            flat[ends[position] : ends[position + 1]] = row
        dist.all_reduce(flat)  # one rank wrote each entry, the others add 0
        return np.split(flat.cpu().numpy(), ends[1:-1])

    # --- files -----------------------------------------------------------------------------------

    def save(self, directory: str) -> None:
        """Everything that training needs to go on bit by bit: weights, optimizer, schedule, random
        state, counters."""
        saved_state.save(
            self.engine,
            directory,
            zero_stage(self.config),
            {name: getattr(self, name) for name in _COUNTERS},
            rank=self.rank,
            ranks=self.config.world_size,
        )

    def restore(self, directory: str) -> None:
        """Continue from what `save` wrote. Nothing is unpickled; see `saved_state` for the files.

        Learning rate, betas or momentum, weight decay and schedule are the configuration's, as it
        is now.

        Raises:
            FileNotFoundError: the directory holds no checkpoint of a learner.
            ValueError: it is of another format, model or ZeRO stage, or above ZeRO 0 of another
                number of ranks.
        """
        configured = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.engine.optimizer.param_groups
        ]
        counters = saved_state.restore(
            self.engine,
            directory,
            zero_stage(self.config),
            rank=self.rank,
            ranks=self.config.world_size,
        )
        set_optimizer(self.engine.optimizer, self.engine.lr_scheduler, configured)
        for name in _COUNTERS:
            setattr(self, name, counters[name])

    def export(self, directory: str) -> None:
        """Rank 0 writes a Hugging Face folder, adapters merged, with the model's tokenizer."""
        weights = {
            name: value.to("cpu", copy=True)
            for name, value in merged_weights(self.engine.module)
            if self.rank == 0
        }
        if self.rank == 0:
            models.write_folder(self.engine.module, weights, self.config.model.path, directory)
        dist.barrier()
