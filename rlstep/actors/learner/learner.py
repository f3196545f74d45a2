"""The update: from samples to optimizer steps on one rank of a learner.

Dimensions: N sequences of a mini-batch, n of a micro-batch, L tokens (padded).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlstep.actors.learner.learner_rank import LearnerRank
from rlstep.actors.learner.models import Wanted, model_inputs
from rlstep.actors.learner.rank_gradients import ModuleGradients
from rlstep.actors.learner.watch import WeightWatch, logprob_figures
from rlstep.interfaces import Batch
from rlstep.plugins import naming_plugins
from rlstep.tensors.batching import PackedBatch, collate, count, mini_batches
from rlstep.types import Counts, Floats, Samples, TokenIds

Sums: TypeAlias = defaultdict[str, float]
Objective: TypeAlias = Callable[[Tensor, list[int]], Tensor]
"""Predictions [n, L] or [n, L, outputs] of a micro-batch and its positions in the mini-batch ->
what to minimise."""


@dataclass
class _Tally:
    """What one pass over samples adds up to, this rank's share: sums over ranks are the totals."""

    sums: Sums = field(default_factory=lambda: defaultdict(float))
    """Metrics, each summed over the updates that were made."""
    updates: int = 0
    skipped: int = 0
    tokens: int = 0
    """Tokens that went through forward and backward."""
    shared: int = 0
    """Those of them that were another sequence's tokens, and computed once for both."""
    padded: int = 0
    """What was computed, with padding."""

    def share(self, rank: int, seconds: float) -> dict[str, float]:
        share = {name: total / self.updates for name, total in self.sums.items()}
        share |= {"tokens": float(self.tokens), "padded_tokens": float(self.padded)}
        if rank == 0:
            share |= {"updates": float(self.updates), "skipped_updates": float(self.skipped)}
            share["seconds"] = seconds
        return share


@dataclass(frozen=True)
class _Start:
    """Predictions from before the first update on some samples, by the identity of the sequence."""

    old: dict[int, Floats] | None
    ref: dict[int, Floats] | None
    now: frozenset[str]
    """Columns that are the predictions of the forward at hand, there being only one update."""

    def rows(self, samples: Samples) -> tuple[list[Floats], list[Floats]]:
        """Old and reference logprobs of every sequence, zeros where nothing reads them."""
        zeros = {id(s): np.zeros(len(s.token_ids), np.float32) for s in samples.sequences}
        keys = list(zeros)
        return (
            [(self.old or zeros)[key] for key in keys],
            [(self.ref or zeros)[key] for key in keys],
        )


class LearnerWorker(LearnerRank):
    """One rank that trains. `train` is collective: all ranks are handed the same samples."""

    watch: WeightWatch | None = None
    """Made before the first update, where it is asked for."""

    def train(self, samples: Samples) -> dict[str, float]:
        """`epochs` passes of at most `mini_batches` updates over the samples.

        Returns:
            This rank's share of the metrics; the sums over the ranks are the totals.

        Raises:
            RuntimeError: `skipped_updates_limit` updates in a row had no finite loss and gradient.
        """
        begin = time.perf_counter()
        tally, due = _Tally(), self._watched()
        found: dict[str, float] = {}
        if samples.sequences:
            passes = mini_batches(samples, self.config.mini_batches) * self.config.epochs
            start = self._start(samples, updates=len(passes))
            look = self._logprobs_before(samples, start) if due else None
            for number, mini_batch in enumerate(passes):
                self._update(mini_batch, start, number == 0, tally)
            found = look() if look else {}
        if due and self.watch is not None:
            found |= self.watch.look(self.device)
        share = tally.share(self.rank, time.perf_counter() - begin)
        if self.config.shared_prefixes:
            share["shared_tokens"] = float(tally.shared)
        return share | found if self.rank == 0 else share

    def _watched(self) -> bool:
        """Counts a batch, and says whether it is looked at."""
        self.batches += 1
        every = self.config.statistics_every
        if every and self.watch is None:
            self.watch = WeightWatch(self.engine.module)
        return every > 0 and self.batches % every == 0

    def _logprobs_before(
        self, samples: Samples, start: _Start
    ) -> Callable[[], dict[str, float]] | None:
        """What to ask after the updates for where the samples' logprobs went; None of a head that
        has none. These forwards are beside the training, which they do not change."""
        if not self._head.of_next:
            return None
        keys = [id(s) for s in samples.sequences]
        before = start.old or self._by_sequence(samples, self.engine)
        ref = start.ref or before

        def after() -> dict[str, float]:
            now = self._by_sequence(samples, self.engine)
            rows = ([found[key] for key in keys] for found in (before, now, ref))
            return logprob_figures(samples, *rows)

        return after

    def _start(self, samples: Samples, updates: int) -> _Start:
        """The predictions that the loss reads, from before the first update on the samples."""
        reads, own = self.loss.reads, self.config.reference == "iteration"
        wants_old = "old_logprobs" in reads or ("ref_logprobs" in reads and own)
        if wants_old and self.loss.separable and updates == 1:
            # The only forward is the first: each micro-batch's predictions are its old ones.
            old, now = None, {"old_logprobs", "ref_logprobs"} if own else {"old_logprobs"}
        else:
            old, now = self._by_sequence(samples, self.engine) if wants_old else None, set()
        ref = old if own else None
        if "ref_logprobs" in reads and self.config.fixed_reference is not None:
            with self.fixed_reference() as model:
                ref = self._by_sequence(samples, model)
        return _Start(old=old, ref=ref, now=frozenset(now))

    def rows_of(self, samples: Samples) -> Sequence[Any]:
        """What the model reads of every sequence, each with a length; see `pack`."""
        return [s.token_ids for s in samples.sequences]

    def _by_sequence(self, samples: Samples, model: Any) -> dict[int, Floats]:
        rows = self.all_rows(self.rows_of(samples), model)
        return {id(s): row for s, row in zip(samples.sequences, rows, strict=True)}

    def _update(self, samples: Samples, start: _Start, first: bool, tally: _Tally) -> None:
        """One optimizer step on a mini-batch, or none where something is not finite."""
        token_ids = self.rows_of(samples)
        batch = collate(samples, *start.rows(samples)).to(self.device)
        metrics: Sums = defaultdict(float)
        if self.loss.separable:
            objective = self._separable(batch, count(samples), start.now, metrics)
        else:
            known = first and start.old is not None
            leaf = batch.old_logprobs.clone() if known else self._all_predictions(token_ids, batch)
            objective = self._joint(leaf, batch, count(samples), metrics)
        lengths = [len(row) for row in token_ids]
        for part in self.parts(token_ids):
            packed = self.pack(token_ids, part)
            positions = list(chain(*part))
            with naming_plugins():
                predictions = self.forward(self.engine, packed, self._wanted(packed))
            value = objective(predictions, positions) if positions else predictions.sum() * 0.0
            if not torch.isfinite(value):
                value = predictions.sum() * math.nan  # so that the step sees it, on every rank
            # DeepSpeed averages gradients over the ranks; the loss is already a global mean.
            self.engine.backward(value * self.config.world_size, scale_wrt_gas=False)
            tally.tokens += sum(lengths[p] for p in positions)
            tally.shared += packed.saved if positions and self.config.shared_prefixes else 0
            tally.padded += packed.token_ids.numel() if positions else 0
        self._step(metrics, tally)

    def _wanted(self, batch: PackedBatch) -> Wanted:
        """What the loss reads of a micro-batch's distributions. The reference's logits are there
        for this one alone, so that no more than a micro-batch of them ever exists."""
        wanted = Wanted(entropies="entropies" in self.loss.reads, temperature=self.temperature)
        if "divergences" not in self.loss.reads:
            return wanted
        with self.fixed_reference() as model, torch.no_grad():
            reference = batch.ahead(model(**model_inputs(batch)).logits)
        distance = partial(self.loss.divergences, reference=reference, temperature=self.temperature)
        return replace(wanted, divergences=distance)

    def _separable(
        self, batch: Batch, counts: Counts, now: frozenset[str], metrics: Sums
    ) -> Objective:
        """The loss itself, called with each micro-batch's rows."""

        def objective(predictions: Tensor, positions: list[int]) -> Tensor:
            padding = batch.token_ids.shape[1] - predictions.shape[1]
            several = predictions.ndim == 3  # logprobs and columns, or a wider head's outputs
            predictions = F.pad(predictions, (0, 0, 0, padding) if several else (0, padding))
            logprobs = predictions[..., 0] if several else predictions
            part = batch.rows(torch.tensor(positions, device=self.device))
            part = replace(part, **dict.fromkeys(now, logprobs.detach()))
            return self._evaluate(predictions, part, counts, metrics)

        return objective

    def _joint(self, leaf: Tensor, batch: Batch, counts: Counts, metrics: Sums) -> Objective:
        """The gradient of the whole mini-batch's loss by its predictions, float32 [N, L]; each
        micro-batch carries its rows of it through the model (the chain rule)."""
        leaf.requires_grad_()
        # Every rank evaluates the same loss; only rank 0 reports it.
        value = self._evaluate(
            leaf, batch, counts, metrics if self.rank == 0 else defaultdict(float)
        )
        (gradient,) = torch.autograd.grad(value, leaf)
        if not torch.isfinite(value):
            gradient.fill_(math.nan)

        def objective(predictions: Tensor, positions: list[int]) -> Tensor:
            rows = gradient[torch.tensor(positions, device=self.device), : predictions.shape[1]]
            return (rows * predictions).sum()

        return objective

    def _all_predictions(self, token_ids: Sequence[TokenIds], batch: Batch) -> Tensor:
        leaf = torch.zeros_like(batch.old_logprobs)
        for i, row in enumerate(self.all_rows(token_ids, self.engine)):
            leaf[i, : len(row)] = torch.from_numpy(row)
        return leaf

    def _evaluate(self, predictions: Tensor, batch: Batch, counts: Counts, metrics: Sums) -> Tensor:
        with naming_plugins():
            output = self.loss(predictions, batch, counts)
        metrics["loss"] += output.loss.item()
        for name, number in output.metrics.items():
            metrics[name] += float(number)
        return output.loss

    def _step(self, metrics: Sums, tally: _Tally) -> None:
        rate = self.engine.get_lr()[0]
        with naming_plugins():
            told = self.config.aggregation.aggregate(ModuleGradients(self.engine.module))
        if self.rank == 0:
            metrics.update(told)
        self.engine.step()
        if not self.engine.was_step_applied():
            tally.skipped += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row >= self.config.skipped_updates_limit:
                raise RuntimeError(
                    f"learner {self.name!r}: {self.skipped_in_a_row} updates in a row were skipped"
                    f" for a non-finite loss or gradient (the loss here was {metrics['loss']})"
                )
            return
        self.skipped_in_a_row = 0
        self.updates += 1
        tally.updates += 1
        for name, value in metrics.items():
            tally.sums[name] += value
        if self.rank == 0:
            tally.sums["grad_norm"] += float(self.engine.get_global_grad_norm())  # type: ignore[arg-type]
            tally.sums["learning_rate"] += rate
