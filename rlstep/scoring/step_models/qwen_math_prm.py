"""How Qwen2.5-Math-PRM wants a solution written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import Reader, StepInputs, StepLayout
from rlstep.scoring.step_models.prm_text import Tag, problem_text, step_texts
from rlstep.tensors.inputs import tagged
from rlstep.tensors.templates import PromptEncoder, PromptTemplate, continuation_ids
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class QwenMathPrmLayout(StepLayout):
    """A conversation whose answer has the tag '<extra_0>' behind every step.

    The layout of Qwen/Qwen2.5-Math-PRM-7B and -72B (Zhang et al. 2025, arXiv:2501.07301), whose
    'process_reward' head is read at the tag. Steps lose the white space around them.
    """

    tag: str = "<extra_0>"
    """One token of the PRM's tokenizer."""
    system: str = "Please reason step by step, and put your final answer within \\boxed{}."
    """The system message that the PRM was trained under."""
    end: str = "<|im_end|>\n"
    """What the chat template writes behind an answer."""

    def reader(self, policy: Any, model: Any) -> Reader:
        tag = Tag.of("layout.tag", model, self.tag)
        encoder = PromptEncoder(PromptTemplate(system=self.system), model)
        if not encoder.chats:
            raise ValueError(
                "layout QwenMathPrmLayout needs a model whose tokenizer has a chat template"
            )
        end = continuation_ids(model, self.end, special_tokens=True)

        def read(rollout: Rollout) -> StepInputs:
            problem = tag.escape(encoder.problem(problem_text(rollout)))
            steps = (tag.text(model, text.strip()) for text in step_texts(rollout))
            return tagged(problem, steps, tag.id, end)

        return read
