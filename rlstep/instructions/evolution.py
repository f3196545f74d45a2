"""Instructions that a model makes of others, round after round."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlstep.checks import at_least
from rlstep.instructions.duplicates import Duplicates
from rlstep.instructions.ways import WAYS, Way
from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.judgment_text import render
from rlstep.types import Failure, Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evolved:
    """An instruction and where it comes from."""

    text: str
    parent: str
    """The instruction that it was made of."""
    way: str
    """The name of the way."""
    round: int
    """From 1."""


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """Every way on every instruction, and on what comes of them, for some rounds.

    The evolution of Evol-Instruct (Xu et al. 2023, arXiv:2304.12244) with the sampling of
    arXiv:2412.11231: temperature 0.7, at most 2048 tokens. What is no instruction (empty, over
    `longest`, or with the tags of the question) or a duplicate of any that is there already is left
    out and counted.
    """

    model: JudgeModel = GeneratorModel(sampling=Sampling(max_tokens=2048, temperature=0.7))
    """Who writes: the run's own generators, or an `Endpoint`."""
    ways: tuple[Way, ...] = WAYS
    """Each is asked of each instruction."""
    rounds: int = 1
    """In each, what the last one brought is evolved."""
    longest: int = 4000
    """Characters of an instruction."""
    duplicates: Duplicates = Duplicates()
    """What counts as there already."""

    def __post_init__(self) -> None:
        at_least("evolution.rounds", self.rounds, 1)
        at_least("evolution.longest", self.longest, 1)
        names = [way.name for way in self.ways]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"evolution.ways are named {names}; name at least one, each once")

    async def evolve(
        self, instructions: Sequence[str], context: AskContext
    ) -> tuple[list[Evolved], Counter[str]]:
        """New instructions in the order of rounds, instructions and ways; and how many were left
        out, by reason."""
        async with self.model.open(context) as ask:
            return await self._rounds(instructions, ask)

    async def _rounds(
        self, instructions: Sequence[str], ask: Ask
    ) -> tuple[list[Evolved], Counter[str]]:
        known = self.duplicates.among(instructions)
        made: list[Evolved] = []
        left_out: Counter[str] = Counter()
        parents = list(instructions)
        for number in range(1, self.rounds + 1):
            asked = [(parent, way) for parent in parents for way in self.ways]
            answers = await ask(
                [
                    Question(
                        question_id=f"evolve{number}/{i}/{way.name}",
                        text=render(way.question, {"instruction": parent}),
                    )
                    for i, (parent, way) in enumerate(asked)
                ]
            )
            fresh: list[Evolved] = []
            for (parent, way), answer in zip(asked, answers, strict=True):
                text = self._read(answer)
                if isinstance(text, Failure):
                    left_out[text.reason] += 1
                elif (reason := known.add(text)) is not None:
                    left_out[reason] += 1
                else:
                    fresh.append(Evolved(text=text, parent=parent, way=way.name, round=number))
            made += fresh
            parents = [each.text for each in fresh]
        if left_out:
            logger.warning("evolved instructions that were left out: %s", dict(left_out))
        return made, left_out

    def _read(self, answer: str | Failure) -> str | Failure:
        if isinstance(answer, Failure):
            return answer
        text = answer.strip()
        if not text or re.search(r"</?instruction-[0-9a-f]{8}>", text):
            return Failure(reason="no_instruction", detail=text[:80])
        if len(text) > self.longest:
            return Failure(reason="too_long", detail=f"{len(text)} characters")
        return text
