"""The problems of a run: what of them is refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from rlstep.interfaces import PromptSet, Task, Tokenizer, Verifier
from rlstep.running.run import load_prompts
from rlstep.tasks.arithmetic import AnswerLine, arithmetic_tokenizer
from rlstep.testing.small import small_config, small_prompts
from rlstep.types import OutcomeScore, Verdict


@dataclass(frozen=True, kw_only=True)
class Given(Task):
    prompts: PromptSet

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        return self.prompts


@dataclass(frozen=True, kw_only=True)
class ReadsRow(Verifier):
    def verify(self, text: str, answer: str, row: Mapping[str, Any]) -> OutcomeScore:
        return OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted="")


def loaded(verifier: Verifier, **meta: Any) -> PromptSet:
    """Two training problems and one for evaluation; the meta is of that one."""
    first, second, third = small_prompts(3)
    prompts = PromptSet(train=[first, second], evaluation=[replace(third, meta=meta)])
    config = small_config(task=Given(prompts=prompts), verifier=verifier)
    return load_prompts(config, arithmetic_tokenizer())


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.arange(3), "meta.extra is of type ndarray"),
        (date(2026, 1, 2), "meta.extra is of type date"),
        ({"A": [b""]}, r"meta\.extra\.A\.0 is of type bytes"),
    ],
)
def test_a_row_that_cannot_be_sent_is_refused_by_name(value: object, named: str) -> None:
    with pytest.raises(ValueError, match=rf"prompt 'c': {named}, .* and ReadsRow reads the row"):
        loaded(ReadsRow(), level=1, extra=value)


def test_a_verifier_that_does_not_read_the_row_minds_nothing_in_it() -> None:
    assert len(loaded(AnswerLine(), extra=np.arange(3)).evaluation) == 1
    assert len(loaded(ReadsRow(), extra=[1, {"a": None}]).evaluation) == 1
