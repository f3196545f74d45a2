"""The policy as the model behind a judge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.judges.judgment_text import UNPARSABLE
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Completion, Failure, Request, Sampling


@dataclass(frozen=True, kw_only=True)
class GeneratorModel(JudgeModel):
    """The run's own generators answer: the policy, as it is by then, judges itself.

    Its questions are batched by the engines with everything else that they sample. Under the
    tokenizer's chat template, where it has one, a question is what the user says; special tokens in
    a judged text are encoded as plain text.
    """

    sampling: Sampling = Sampling(max_tokens=512, temperature=0.7)
    """How judgments are drawn; one that is cut at max_tokens has no verdict."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a question ('{problem}')."""

    @asynccontextmanager
    async def open(self, context: AskContext) -> AsyncIterator[Ask]:
        encoder = PromptEncoder(self.template, context.tokenizer)

        def request(question: Question) -> Request:
            return Request(
                request_id=question.question_id,
                prefix_ids=np.array(encoder.problem(question.text), dtype=np.int32),
                n=1,
                seed=request_seed(context.seed, question.question_id),
                sampling=self.sampling,
            )

        async def ask(questions: Sequence[Question]) -> list[str | Failure]:
            answers: dict[str, str | Failure] = {}
            requests = [request(question) for question in questions]
            async for asked, answer in context.generator.generate(requests):
                failed = isinstance(answer, Failure)
                answers[asked.request_id] = answer if failed else _text(answer[0])
            return [answers[question.question_id] for question in questions]

        yield ask


def _text(completion: Completion) -> str | Failure:
    if completion.truncated:
        tokens = len(completion.token_ids)
        return Failure(reason=UNPARSABLE, detail=f"the judgment was cut at {tokens} tokens")
    return completion.text
