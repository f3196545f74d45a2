"""Memory and time of a language model's token logprobs and their gradient, without its logits.

    python tests/bench/head_memory.py [--pairs 5] [--prompt 0.125] [--hidden 128] [--json FILE]

A small random body with a head of 151,936 tokens in bfloat16 reads 8 x 1,024 tokens; the logprobs
of all but the prompts go through a policy gradient loss and back into the weights. One side has the
learner's `VocabularyHead`, the other the model's logits and `token_logprobs`. Each pass has a
process of its own, the sides in turn. Memory is the peak of the pass over what was resident before
it, the gradients of the weights included. Time is that of the processor, kernel included, since a
machine that is shared stretches what a clock shows; the clock's is printed, too. Goal: at most 0.35
times the memory and 1.05 times the time. The limit of memory is the gradients and one chunk.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

import numpy as np
import torch

from rlstep.actors.learner.heads import make_head
from rlstep.actors.learner.models import load_model, predict_tokens
from rlstep.actors.learner.vocabulary_head import find_vocabulary_head, use_vocabulary_head
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.tensors.batching import pack
from tests.bench.losses import forget_peak, resident

SIDES = ("head", "logits")
GOAL = {"memory": 0.35, "time": 1.05}


def make_body(folder: str, options: argparse.Namespace) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=4 * options.hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=options.length,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder)


def measure(folder: str, options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    model = ModelConfig(path=folder, dtype="bfloat16", attention="sdpa")
    config = LearnerConfig(model=model, threads=options.threads)
    module: Any = load_model(config, seed=0)
    if options.measure == "head":
        use_vocabulary_head(module)
        assert find_vocabulary_head(module) is not None
    head = make_head(config)
    random = np.random.default_rng(0)
    shape = (options.batch, options.length)
    advantages = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
    advantages[:, : int(options.prompt * options.length)] = 0.0

    def update(ids: np.ndarray) -> float:
        logprobs = predict_tokens(module, pack(list(ids), [[i] for i in range(len(ids))]), head)
        ratio = (logprobs - logprobs.detach()).exp()
        value = -(ratio * advantages[:, : ids.shape[1]][: len(ids)]).mean()
        value.backward()
        return logprobs.detach().sum().item()

    ids = random.integers(0, options.vocabulary, shape).astype(np.int32)
    update(ids[:2, :8])  # what torch loads on its first use is nobody's memory
    module.zero_grad(set_to_none=True)
    gc.collect()
    forget_peak()
    before, begin, clock = resident("VmRSS"), time.process_time(), time.perf_counter()
    total = update(ids)
    found = {"time_s": time.process_time() - begin, "clock_s": time.perf_counter() - clock}
    square = sum(p.grad.float().square().sum().item() for p in module.parameters())
    memory = resident("VmHWM") - before
    return {**found, "memory_mib": memory, "logprobs": total, "norm": square**0.5}


def in_own_process(side: str, folder: str, arguments: list[str]) -> dict[str, float]:
    """`measure`, in a fresh interpreter.

    Raises:
        RuntimeError: it failed; with what it wrote to stderr.
    """
    command = [sys.executable, __file__, *arguments, "--measure", side, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        make_body(folder, options)
        for number in range(options.pairs):
            order = SIDES[:: -1 if number % 2 else 1]  # each side goes first half of the time
            pair = {side: in_own_process(side, folder, arguments) for side in order}
            pairs.append(pair)
            print(*(f"{side}: {show(pair[side])}" for side in SIDES), sep="   ", flush=True)
    ratios = {
        name: [pair["head"][key] / pair["logits"][key] for pair in pairs]
        for name, key in {"memory": "memory_mib", "time": "time_s"}.items()
    }
    return {"pairs": pairs, "ratios": ratios}


def show(row: dict[str, float]) -> str:
    return (
        f"{row['memory_mib']:7.0f} MiB {row['time_s']:6.2f} s ({row['clock_s']:.2f} by the clock)"
        f" logprobs {row['logprobs']:.1f} gradient {row['norm']:.6g}"
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Token logprobs without logits")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="sequences")
    parser.add_argument("--length", type=int, default=1024, help="tokens of each")
    parser.add_argument("--prompt", type=float, default=0.125, help="share that is not trained on")
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--measure", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.folder, options)))
        return
    found = compare(options, arguments)
    for name, values in found["ratios"].items():
        print(
            f"{name}: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f};"
            f" goal {GOAL[name]})"
        )
    if options.json:
        options.json.write_text(json.dumps({"goal": GOAL, **found}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
