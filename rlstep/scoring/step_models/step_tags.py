"""A step tag of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rlstep.interfaces import Reader, StepInputs, StepLayout
from rlstep.scoring.step_models.prm_text import Tag, problem_text, shares_ids, step_texts
from rlstep.tensors.inputs import tagged
from rlstep.tensors.templates import leading_ids
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class StepTags(StepLayout):
    """One tag behind every step, where the step is read out (as in arXiv:2312.08935).

    A PRM that knows the policy's ids reads the policy's own tokens with the tag between them. Any
    other one reads problem, newline and steps, each encoded by its own tokenizer. The policy never
    sees a tag.
    """

    tag: str = " ки"
    """One token of the PRM's tokenizer."""

    def reader(self, policy: Any, model: Any) -> Reader:
        tag = Tag.of("layout.tag", model, self.tag)
        leading = leading_ids(model)

        def own(rollout: Rollout) -> StepInputs:
            completion = rollout.completion.token_ids
            ends = [0, *(step.end for step in rollout.steps)]
            steps = (tag.escape(completion[a:b]) for a, b in pairwise(ends))
            return tagged(tag.escape(rollout.prompt.token_ids), steps, tag.id)

        def anew(rollout: Rollout) -> StepInputs:
            problem = model.encode(
                problem_text(rollout).strip() + "\n",
                add_special_tokens=False,
                split_special_tokens=True,
            )
            steps = (tag.text(model, text) for text in step_texts(rollout))
            return tagged([*leading, *tag.escape(problem)], steps, tag.id)

        return own if shares_ids(policy, model) else anew
