"""The shipped policy is the one that the README speaks of."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlstep.tasks.arithmetic import AnswerLine, Arithmetic
from rlstep.types import Verdict

FOLDER = Path(__file__).parents[1] / "recipes" / "policies" / "arithmetic"
TASK = Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20)
SHA256 = "7aeb1f5ecaf724d291c6b91a9f364c162431b4d1be506e6f673c5a805eebbb69"


def test_weights_are_those_that_were_shipped() -> None:
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() == SHA256
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 4 << 20


def test_it_solves_about_three_in_five_unseen_problems_greedily() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(FOLDER)
    prompts = replace(TASK, train=1, evaluation=256).load(tokenizer, 64).evaluation
    batch = tokenizer([p.text for p in prompts], return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=72,
            do_sample=False,
        )
    completions = out[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    verdicts = [
        AnswerLine().verify(text, p.answer).verdict for text, p in zip(texts, prompts, strict=True)
    ]
    accuracy = sum(v is Verdict.CORRECT for v in verdicts) / len(verdicts)
    assert accuracy == pytest.approx(0.6, abs=0.05)
