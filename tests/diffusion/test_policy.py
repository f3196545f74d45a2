"""The shipped diffusion policy is the one that README speaks of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from recipes.diffusion_base import POLICY, TASK
from rlstep.diffusion.canvas import read_canvas
from rlstep.diffusion.unmasking import Pace, sheets, unmask, written
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Request, Sampling, Verdict


def test_the_share_of_unseen_problems_that_it_solves_greedily() -> None:
    """128 problems, by torch alone, at the pace of the recipe."""
    from transformers import AutoModelForMaskedLM

    tokenizer, canvas = read_tokenizer(POLICY), read_canvas(POLICY)
    model: Any = AutoModelForMaskedLM.from_pretrained(POLICY).eval()
    prompts = replace(TASK, train=1, evaluation=128).load(tokenizer, 64).evaluation
    greedy = Sampling(max_tokens=28, temperature=0.0)
    made = [
        sheet
        for prompt in prompts
        for sheet in sheets(
            Request(request_id="", prefix_ids=prompt.token_ids, n=1, seed=0, sampling=greedy),
            canvas,
            Pace(block=8, tokens=1),
        )
    ]
    while waiting := [sheet for sheet in made if sheet.end(canvas) is None]:
        unmask(waiting, lambda seen: model(input_ids=seen).logits, canvas, 0)
    right = 0
    for sheet, prompt in zip(made, prompts, strict=True):
        end = sheet.end(canvas)
        assert end is not None
        text = tokenizer.decode(written(sheet, end)[0].tolist(), skip_special_tokens=True)
        right += AnswerLine().verify(text, prompt.answer).verdict is Verdict.CORRECT
    assert right / len(prompts) == pytest.approx(0.59, abs=0.08)
