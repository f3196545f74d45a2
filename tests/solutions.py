"""Solutions in words, as a policy with a real vocabulary would write them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np

from rlstep.tensors.text import decode_with_ends
from rlstep.types import Prompt, Rollout, Step
from tests.builders import make_completion, make_rollout
from tests.real_tokenizers import byte_level_tokenizer


def qwen_like(special: bool = True) -> Any:
    """ChatML and the tag '<extra_0>', which is a special token or only an added one."""
    tokenizer = copy.deepcopy(byte_level_tokenizer())
    tokenizer.add_tokens(["<extra_0>"], special_tokens=special)
    return tokenizer


def solution(problem: str, *steps: str, name: str = "r", **meta: str) -> Rollout:
    """A rollout of the byte-level vocabulary whose steps read like this, each encoded by itself."""
    tokenizer = byte_level_tokenizer()
    ids, spans = [], []
    for text in steps:
        start = len(ids)
        ids += tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        spans.append(Step(start=start, end=len(ids)))
    text, ends = decode_with_ends(tokenizer, ids)
    prompt = Prompt(
        prompt_id="p",
        token_ids=np.array(
            tokenizer.encode(problem, add_special_tokens=False, split_special_tokens=True), np.int32
        ),
        text=problem,
        answer="",
        meta={"problem": problem, **meta},
    )
    completion = replace(make_completion(ids), text=text, ends=ends)
    empty = make_rollout(name, [[1]], prompt=prompt)
    return replace(empty, completion=completion, steps=tuple(spans))
