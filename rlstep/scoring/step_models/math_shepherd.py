"""How Math-Shepherd's released PRM wants a solution written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import Reader, StepInputs, StepLayout
from rlstep.scoring.step_models.prm_text import Tag, numbered, problem_text, step_texts
from rlstep.tensors.inputs import tagged
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class MathShepherdLayout(StepLayout):
    """Problem, then 'Step k: ...' with the tag ' ки' behind each, on lines of their own.

    The layout of peiyi9979/math-shepherd-mistral-7b-prm (Wang et al. 2023, arXiv:2312.08935),
    whose 'two_token' head is read at the tag; the text begins with the tokenizer's first token. A
    step that does not say its number is given it.
    """

    tag: str = " ки"
    """One token of the PRM's tokenizer."""

    def reader(self, policy: Any, model: Any) -> Reader:
        tag = Tag.of("layout.tag", model, self.tag)
        if (first := model.bos_token_id) is None:
            raise ValueError(
                "layout MathShepherdLayout needs a model whose tokenizer has a bos_token"
            )

        def read(rollout: Rollout) -> StepInputs:
            problem = model.encode(
                problem_text(rollout).strip(), add_special_tokens=False, split_special_tokens=True
            )
            steps = [
                tag.text(model, (" " if k == 0 else "\n") + numbered(k + 1, text.strip()))
                for k, text in enumerate(step_texts(rollout))
            ]
            return tagged([first, *tag.escape(problem)], steps, tag.id)

        return read
