"""Time of a learner's `train` over that of a bare DeepSpeed loop on identical tensors.

    python tests/bench/learner.py [--pairs 20] [--json FILE]

Both sides run in one process, alternating, from the same weights, over the same micro-batches, with
the same optimizer, so their losses must stay equal while they are timed. The bare loop is what one
writes by hand for one loss: tensors are collated and cut before the clock starts, and there are no
records, metrics or checks. For a pair loss, whose gradient joins the whole batch, both compute the
reference (the policy before the update); a separable loss on fresh samples needs no extra forward.

A third comparison is of layouts: completions of long-tailed lengths (lognormal, sigma 1), which the
learner packs, while the bare loop pads sequences of like length to the longest of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstep.actors.learner.deepspeed_config import deepspeed_config, make_optimizer, make_scheduler
from rlstep.actors.learner.models import load_model
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import Batch, Loss
from rlstep.losses.dpo import Dpo
from rlstep.losses.kl import Kl
from rlstep.losses.ppo import Ppo
from rlstep.tensors.batching import collate, count, micro_batches
from rlstep.tensors.logprobs import token_logprobs
from rlstep.types import AdvantageSamples, Pair, PairSamples, Samples, Sequence

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from wherever
from tests.actors.learner.learner_kit import make_model, running

PROMPTS, SAMPLES, PROMPT_TOKENS = 8, 4, 16
COMPLETION_TOKENS = (24, 97)
TAIL_MEDIAN, TAIL_LONGEST = 48, 480
WARM_UP = 2


def sequences(vocabulary: int, *, tails: bool = False) -> tuple[Sequence, ...]:
    random = np.random.default_rng(0)
    lengths = random.integers(*COMPLETION_TOKENS, PROMPTS * SAMPLES)
    if tails:
        lengths = (TAIL_MEDIAN * random.lognormal(0.0, 1.0, len(lengths))).astype(int)
    made = []
    for i, completion in enumerate(lengths.clip(2, TAIL_LONGEST).tolist()):
        length = PROMPT_TOKENS + completion
        index = np.concatenate([np.full(PROMPT_TOKENS, -1), np.arange(completion) // 12])
        made.append(
            Sequence(
                sequence_id=str(i),
                prompt_id=f"p{i // SAMPLES}",
                token_ids=random.integers(2, vocabulary, length).astype(np.int32),
                loss_mask=index >= 0,
                step_index=index.astype(np.int32),
                rollout_logprobs=np.zeros(length, np.float32),
                step_scores=np.zeros(int(index.max()) + 1, np.float32),
                oldest_version=0,
            )
        )
    return tuple(made)


def pair_samples(vocabulary: int) -> PairSamples:
    """The first half of each prompt's sequences is preferred to the second, two by two."""
    firsts = [p * SAMPLES + i for p in range(PROMPTS) for i in range(SAMPLES // 2)]
    pairs = tuple(
        Pair(
            chosen=i,
            rejected=i + SAMPLES // 2,
            shared_prefix=PROMPT_TOKENS,
            chosen_score=1.0,
            rejected_score=0.0,
            provenance="bench",
        )
        for i in firsts
    )
    return PairSamples(sequences=sequences(vocabulary), pairs=pairs, groups=PROMPTS)


def advantage_samples(vocabulary: int, *, tails: bool = False) -> AdvantageSamples:
    rows = sequences(vocabulary, tails=tails)
    advantages = tuple(
        np.where(s.loss_mask, 1.0 if i % 2 else -1.0, 0.0).astype(np.float32)
        for i, s in enumerate(rows)
    )
    return AdvantageSamples(sequences=rows, advantages=advantages, groups=PROMPTS)


class BareLoop:
    """One update by hand. Needs a process group: made while a learner is running."""

    def __init__(self, config: LearnerConfig, loss: Loss, samples: Samples) -> None:
        import deepspeed

        self.loss, self.counts = loss, count(samples)
        zeros = [np.zeros(len(s.token_ids), np.float32) for s in samples.sequences]
        self.batch: Any = collate(samples, zeros, zeros)
        lengths = [len(s.token_ids) for s in samples.sequences]
        self.micro_batches = []
        for rows in micro_batches(lengths, config.token_budget, 1, packing=False)[0]:
            positions = [position for (position,) in rows]
            index = torch.tensor(positions)
            width = max(lengths[p] for p in positions)
            mask = torch.arange(width) < self.batch.lengths[index][:, None]
            self.micro_batches.append((index, self.batch.token_ids[index, :width], mask.long()))
        model = load_model(config, 0)
        optimizer = make_optimizer(config, model)
        self.engine: Any = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=make_scheduler(config, optimizer),  # type: ignore[arg-type]
            config=deepspeed_config(config),
        )[0]

    def logprobs(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.engine(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return token_logprobs(logits, ids)

    def train(self) -> float:
        value = self.separable() if self.loss.separable else self.joint()
        self.engine.step()
        return value

    def separable(self) -> float:
        total = 0.0
        for index, ids, mask in self.micro_batches:
            part: Batch = self.batch.rows(index)
            logprobs = self.logprobs(ids, mask)
            logprobs = torch.nn.functional.pad(
                logprobs, (0, part.token_ids.shape[1] - logprobs.shape[1])
            )
            part.old_logprobs.copy_(logprobs.detach())
            part.ref_logprobs.copy_(logprobs.detach())
            value = self.loss(logprobs, part, self.counts).loss
            self.engine.backward(value, scale_wrt_gas=False)
            total += value.item()
        return total

    def joint(self) -> float:
        with torch.no_grad():
            for index, ids, mask in self.micro_batches:
                self.batch.ref_logprobs[index, : ids.shape[1]] = self.logprobs(ids, mask)
        leaf = self.batch.ref_logprobs.clone().requires_grad_()
        value = self.loss(leaf, self.batch, self.counts).loss
        (gradient,) = torch.autograd.grad(value, leaf)
        for index, ids, mask in self.micro_batches:
            part = (gradient[index, : ids.shape[1]] * self.logprobs(ids, mask)).sum()
            self.engine.backward(part, scale_wrt_gas=False)
        return value.item()


def timed(call: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    return call(), time.perf_counter() - begin


def compare(config: LearnerConfig, loss: Loss, samples: Samples, pairs: int) -> dict[str, float]:
    """Medians in seconds an update, the median ratio, and how far the losses ever were apart."""
    with running(config, loss) as worker:
        bare = BareLoop(config, loss, samples)
        rows = []
        for number in range(WARM_UP + pairs):
            sides = [lambda: worker.train(samples)["loss"], bare.train]
            if number % 2:  # each side goes first half of the time
                sides.reverse()
            answers = [timed(side) for side in sides]
            rows.append(answers[::-1] if number % 2 else answers)
        difference = max(abs(ours[0] - theirs[0]) for ours, theirs in rows)
        rows = rows[WARM_UP:]
        return {
            "ratio": statistics.median(ours[1] / theirs[1] for ours, theirs in rows),
            "ours": statistics.median(ours[1] for ours, _ in rows),
            "baseline": statistics.median(theirs[1] for _, theirs in rows),
            "max_loss_difference": difference,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a learner over a bare DeepSpeed loop")
    parser.add_argument("--pairs", type=int, default=20, help="timed pairs of updates per loss")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures as one flat object")
    options = parser.parse_args()
    vocabulary = 512
    with tempfile.TemporaryDirectory() as folder:
        config = LearnerConfig(
            model=ModelConfig(
                path=make_model(Path(folder), vocabulary=vocabulary, hidden=128, layers=4)
            ),
            token_budget=1024,
            packing=False,
            threads=options.threads,
            optimizer=OptimizerConfig(learning_rate=1e-4),
        )
        ppo = Ppo(kl=Kl(coefficient=0.01))
        found = {
            "pair": compare(config, Dpo(), pair_samples(vocabulary), options.pairs),
            "separable": compare(config, ppo, advantage_samples(vocabulary), options.pairs),
            "packed": compare(
                replace(config, packing=True),
                ppo,
                advantage_samples(vocabulary, tails=True),
                options.pairs,
            ),
        }
    print(f"{'loss':10} {'ours, s':>9} {'bare, s':>9} {'ratio':>7} {'loss apart by':>14}")
    for name, row in found.items():
        print(
            f"{name:10} {row['ours']:9.4f} {row['baseline']:9.4f} {row['ratio']:7.3f}"
            f" {row['max_loss_difference']:14.2g}"
        )
    if options.json:
        worst = max(found.values(), key=lambda row: row["ratio"])
        flat = {**worst, "pairs": options.pairs}
        flat["max_loss_difference"] = max(row["max_loss_difference"] for row in found.values())
        flat |= {f"{name}_ratio": row["ratio"] for name, row in found.items()}
        options.json.write_text(json.dumps(flat))


if __name__ == "__main__":
    main()
