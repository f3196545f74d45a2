"""A problem of a file as a prompt."""

from __future__ import annotations

import numpy as np

from rlstep.tasks.rows import problem_id
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Prompt


def problem_prompt(encoder: PromptEncoder, template: PromptTemplate, problem: str) -> Prompt:
    """A prompt without an answer, as a task of files makes it.

    Args:
        template: the encoder's.
    """
    ids = encoder.problem(problem)
    return Prompt(
        prompt_id=problem_id(problem),
        token_ids=np.array(ids, np.int32),
        text=encoder.decode(ids),
        answer="",
        meta={"problem": problem, "suffix": template.suffix},
    )
