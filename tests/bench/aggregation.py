"""Cosine of what aggregators make of the ranks' gradients to the mean of the honest ones.

    PYTHONPATH=. python tests/bench/aggregation.py [--batches 12] [--json FILE]

Real gradients of the shipped arithmetic policy: each rank has 24 careful solutions of its own, and
one rank is wrong (`rlstep/testing/faults.py`). Four ranks, and five for Krum, which needs them. A
stale rank's gradient is that of 20 updates before, on the same solutions. Nothing is started: the
inner products are taken in this process.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from wherever
from rlstep.aggregation.aggregator import Aggregator
from rlstep.aggregation.flag import Flag
from rlstep.aggregation.krum import Krum
from rlstep.aggregation.mean import Mean
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer, sft_samples
from rlstep.testing.faults import Fault, Noise, SignFlip, Stale, Zero
from rlstep.types import LabelSamples

POLICY = Path(__file__).parents[2] / "recipes" / "policies" / "arithmetic"
TASK = Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20)
EACH, BEFORE = 24, 20
FAULTS: dict[str, Fault] = {
    "sign flip": SignFlip(),
    "sign flip x 5": SignFlip(times=5.0),
    "noise": Noise(),
    "noise x 10": Noise(times=10.0),
    "stale": Stale(),
    "zero": Zero(),
}
AGGREGATORS: dict[int, dict[str, Aggregator]] = {
    4: {"mean": Mean(), "flag": Flag(), "flag, r=2": Flag(directions=2)},
    5: {"mean": Mean(), "flag": Flag(), "krum": Krum()},
}


@dataclass
class Rows:
    """One rank's view of the rows [p, d] (implements `aggregation.aggregator.RankGradients`)."""

    rows: Tensor
    products: NDArray[np.float64]
    rank: int

    @property
    def ranks(self) -> int:
        return len(self.rows)

    @property
    def own(self) -> list[Tensor]:
        return [self.rows[self.rank]]

    def gram(self) -> NDArray[np.float64]:
        return self.products

    def scale(self, factor: float) -> None:
        self.rows[self.rank] *= factor


def aggregate(aggregator: Aggregator, rows: Tensor, products: NDArray[np.float64]) -> Tensor:
    changed = rows.clone()
    for rank in range(len(rows)):
        aggregator.aggregate(Rows(changed, products, rank))
    return changed.mean(0)


def gradient(model: Any, samples: LabelSamples) -> list[Tensor]:
    """Of the mean cross-entropy of the completions, by parameter."""
    model.zero_grad()
    ids = padded([torch.tensor(s.token_ids).long() for s in samples.sequences], 0)
    trained = padded([torch.tensor(s.loss_mask) for s in samples.sequences], False)[:, 1:]
    logits = model(ids).logits[:, :-1][trained]  # what is behind a sequence is not seen by it
    torch.nn.functional.cross_entropy(logits, ids[:, 1:][trained]).backward()
    return [p.grad.clone() for p in model.parameters()]


def padded(rows: list[Tensor], fill: Any) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def moved(model: Any, batches: list[LabelSamples], rate: float = 0.02) -> None:
    """Plain gradient steps."""
    for samples in batches:
        for p, g in zip(model.parameters(), gradient(model, samples), strict=True):
            p.data.sub_(g, alpha=rate)


def cosines(
    now: list[list[Tensor]], before: list[Tensor], ranks: int, fault: Fault
) -> Mapping[str, float]:
    """By aggregator, where rank 0 is wrong; a stale one has the gradient from before."""
    if isinstance(fault, Stale):
        fault = replace(fault)
        fault.corrupt([g.clone() for g in before])
    bad = [g.clone() for g in now[0]]
    fault.corrupt(bad)
    rows = torch.stack([torch.cat([g.flatten() for g in r]) for r in [bad, *now[1:ranks]]])
    exact = rows.double()
    products, honest = (exact @ exact.T).numpy(), rows[1:].mean(0)
    return {
        name: torch.cosine_similarity(aggregate(aggregator, rows, products), honest, 0).item()
        for name, aggregator in AGGREGATORS[ranks].items()
    }


def measured(batches: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """By ranks, fault and aggregator, a cosine of every batch."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    rng, tokenizer, most = np.random.default_rng(0), arithmetic_tokenizer(), max(AGGREGATORS)
    needed = EACH * (batches * most + BEFORE)
    problems = replace(TASK, train=needed, evaluation=0).load(tokenizer, 64).train
    parts = [
        sft_samples(problems[i : i + EACH], rng, 0.0, tokenizer) for i in range(0, needed, EACH)
    ]
    model: Any = AutoModelForCausalLM.from_pretrained(POLICY).eval()
    ranked = [parts[i : i + most] for i in range(0, batches * most, most)]
    before = [gradient(model, own[0]) for own in ranked]
    moved(model, parts[batches * most :])
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for own, old in zip(ranked, before, strict=True):
        now = [gradient(model, samples) for samples in own]
        for ranks in AGGREGATORS:
            for name, fault in FAULTS.items():
                table = found.setdefault(str(ranks), {}).setdefault(name, {})
                for aggregator, cosine in cosines(now, old, ranks, fault).items():
                    table.setdefault(aggregator, []).append(cosine)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--json", type=Path, help="where to write the figures as one object")
    options = parser.parse_args()
    found = measured(options.batches)
    for ranks, table in found.items():
        names = list(AGGREGATORS[int(ranks)])
        print(f"{ranks} ranks, one wrong: mean cosine to the honest mean (the smallest)")
        print(f"  {'':14}" + "".join(f"{name:>18}" for name in names))
        for fault, row in table.items():
            cells = [f"{np.mean(row[name]):+.3f} ({min(row[name]):+.3f})" for name in names]
            print(f"  {fault:14}" + "".join(f"{cell:>18}" for cell in cells))
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
