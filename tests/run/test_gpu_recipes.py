"""The GPU recipes' own code on this CPU: a tiny model with a real tokenizer, 20 real problems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_tokenizers import byte_level_tokenizer

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not here"),
]

CPU = """
    --generator.dtype float32 --generator.transfer rlstep_gloo --generator.parity-tolerance 1e-3
    --generator.enforce-eager True --generator.kv-cache-mib 64 --generator.block-size 32
    --generator.replicas 1 --placement.generator-gpus 0 --placement.policy-gpus 0
    --placement.step-model-gpus 0
    --policy.model.dtype float32 --step-models.0.learner.model.dtype float32
    --policy.model.lora.rank 4 --step-models.0.learner.model.lora.rank 4
    --prompts-per-iteration 4 --iterations 2 --evaluation.problems 4 --task.limit 20
""".split()


def tiny_model(folder: Path) -> str:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        (
            "gsm8k_full_step_dpo",
            f"--task.path {SHARED}/gsm8k/train.jsonl --task.subset= --task.held-out 4"
            " --rollouts.sampling.max-tokens 24 --rollouts.samples-per-prompt 2",
        ),
        (
            "math_step_dpo",
            f"--task.path {SHARED}/math500/test.jsonl --task.split train --task.held-out 4"
            " --rollouts.base.sampling.max-tokens 24 --rollouts.base.samples-per-prompt 2",
        ),
    ],
)
def test_two_iterations(tmp_path: Path, recipe: str, overrides: str) -> None:
    model = tiny_model(tmp_path / "model")
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", str(ROOT / "recipes" / f"{recipe}.py")),
            *("--run-dir", str(tmp_path / "runs"), "--name", "tiny"),
            *("--policy.model.path", model, "--step-models.0.learner.model.path", model),
            *CPU,
            *overrides.split(),
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    summary = json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())
    assert summary["iterations"] == 2 and summary["complete"]
    assert summary["max_parity_error"] <= 1e-3
