"""Models behind judges that say what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.testing.roles import FakeGenerator
from rlstep.testing.tokenizer import ByteTokenizer
from rlstep.types import Failure

Say = Callable[[Question], "str | Failure"]


@dataclass(frozen=True, kw_only=True)
class Scripted(JudgeModel):
    """Answers are a function of the question; notes what it was asked, and its opening."""

    say: Say
    asked: list[Question] = field(default_factory=list, compare=False)
    opened: list[str] = field(default_factory=list, compare=False)

    async def ask(self, questions: Sequence[Question]) -> list[str | Failure]:
        self.asked.extend(questions)
        return [self.say(question) for question in questions]

    @asynccontextmanager
    async def open(self, context: AskContext) -> AsyncIterator[Ask]:
        self.opened.append("open")
        try:
            yield self.ask
        finally:
            self.opened.append("closed")


def saying(*answers: str | Failure) -> Scripted:
    """Its first answer to the first question, ..."""
    rest = iter(answers)
    return Scripted(say=lambda _: next(rest))


def ask_context(generator: FakeGenerator | None = None, seed: int = 0) -> AskContext:
    generator = generator or FakeGenerator(lambda prefix, child, seed: "")
    return AskContext(generator=generator, tokenizer=ByteTokenizer(), seed=seed)
