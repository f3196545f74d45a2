"""What a learner says of itself by cadence: how its weights moved, and where logprobs went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlstep.actors.weights.merged import base_model, merged_weights
from rlstep.analysis.displacement import displacement, trained_logprobs
from rlstep.analysis.information import information_figures
from rlstep.analysis.weight_spread import COLUMNS, matrix_sums, spread_figures
from rlstep.types import Floats, PairSamples, Samples


class WeightWatch:
    """Compares the matrices that updates move with what they were when it last looked.

    They are what is sent to generators: whole, with adapters merged, in the dtype that the model is
    held in. Every matrix is the matter of one rank, which keeps a copy of it in the host's memory,
    so that no figure depends on the number of ranks or on the ZeRO stage. Making it and looking
    gather as a weight sync does: all ranks call them alike.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._trained = _trained_owners(module)
        self._before = {
            name: value.to("cpu", copy=True) for name, value, own in self._matrices() if own
        }

    def look(self, device: torch.device) -> dict[str, float]:
        """The figures since the last look (or the start), as `spread_figures` names them."""
        rows: dict[str, Tensor] = {}
        for name, value, own in self._matrices():
            rows[name] = torch.zeros(len(COLUMNS), dtype=torch.float64)
            if own:
                rows[name] = matrix_sums(value, self._before[name].to(value.device))
                self._before[name].copy_(value)
        if not rows:
            return {}
        table = torch.stack(list(rows.values())).to(device)
        dist.all_reduce(table)  # one rank wrote each row, the others add 0
        return spread_figures(dict(zip(rows, table.cpu().numpy(), strict=True)))

    def _matrices(self) -> Iterator[tuple[str, Tensor, bool]]:
        """Every trained matrix, and whether it is this rank's: the next one is that of the rank
        with the fewest entries so far."""
        entries = [0] * dist.get_world_size()
        for name, value in merged_weights(self._module):
            if value.dim() > 1 and name.rpartition(".")[0] in self._trained:
                owner = entries.index(min(entries))
                entries[owner] += value.numel()
                yield name, value, owner == dist.get_rank()


def _trained_owners(module: nn.Module) -> set[str]:
    """Modules with something that is trained in them, an adapter for instance, and all above."""
    owners: set[str] = set()
    for name, parameter in base_model(module).named_parameters():
        if parameter.requires_grad:
            parts = name.split(".")
            owners |= {".".join(parts[:depth]) for depth in range(1, len(parts))}
    return owners


def logprob_figures(
    samples: Samples, before: Sequence[Floats], after: Sequence[Floats], ref: Sequence[Floats]
) -> dict[str, float]:
    """Where the samples' logprobs went, see `analysis.displacement` and `analysis.information`.

    Args:
        before: float32 [L] of each sequence, before the first update on the samples.
        after: after the last one.
        ref: the reference's.
    """
    was, now, of_ref = (trained_logprobs(samples.sequences, rows) for rows in (before, after, ref))
    found = information_figures(samples.sequences, now - of_ref)
    if isinstance(samples, PairSamples):
        found |= displacement(samples, was, now)
    return found
