from __future__ import annotations

import re

import pytest

from rlstep.instructions.duplicates import Duplicates
from rlstep.instructions.evolution import Evolution
from rlstep.instructions.ways import CONSTRAIN, DEEPEN, WAYS, Way
from rlstep.interfaces import Question
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.testing.roles import FakeGenerator
from rlstep.types import Failure
from tests.scoring.judges.judge_kit import Scripted, ask_context

EXACT = Duplicates(share=1.0)
FIRST = ["Name a fish", "Say why the sea is salt"]


def longer(question: Question) -> str:
    """The instruction with the way's name behind it."""
    [text] = re.findall(r"<instruction-\w+>\n(.*)\n</instruction", question.text)
    return f" {text} and {question.question_id.rpartition('/')[2]} \n"


async def test_every_way_on_every_instruction_round_after_round() -> None:
    model = Scripted(say=longer)
    evolution = Evolution(model=model, ways=(DEEPEN, CONSTRAIN), rounds=2, duplicates=EXACT)
    made, left_out = await evolution.evolve(FIRST, ask_context())
    assert [(e.round, e.way, e.text) for e in made[:4]] == [
        (1, "deepen", "Name a fish and deepen"),
        (1, "constrain", "Name a fish and constrain"),
        (1, "deepen", "Say why the sea is salt and deepen"),
        (1, "constrain", "Say why the sea is salt and constrain"),
    ]
    assert [e.parent for e in made[4:6]] == ["Name a fish and deepen"] * 2
    assert not left_out and len(made) == 4 + 8
    ids = [question.question_id for question in model.asked]
    assert len(set(ids)) == len(ids) == 12
    assert model.opened == ["open", "closed"]


async def test_what_is_none_or_there_already_is_left_out_and_counted() -> None:
    answers = iter(
        [
            "Name a fish!",  # the instruction itself
            "  ",
            Failure(reason="timeout"),
            "Name a bird",
            "name a bird",  # the one before
            "Now <instruction-0a1b2c3d> is",  # the question's own tags
            "x" * 41,
            "Say why the sea is not salt",
        ]
    )
    model = Scripted(say=lambda _: next(answers))
    made, left_out = await Evolution(model=model, longest=40).evolve(FIRST, ask_context())
    assert [e.text for e in made] == ["Name a bird", "Say why the sea is not salt"]
    assert left_out == {
        "duplicate": 2,
        "no_instruction": 2,
        "timeout": 1,
        "too_long": 1,
    }


async def test_the_generators_write() -> None:
    """Through the generator role: one request a question, in our words around the instruction."""
    generator = FakeGenerator(lambda prefix, child, seed: f"Name {seed % 1000} fish")
    model = GeneratorModel()
    made, _ = await Evolution(model=model).evolve(["Name a fish"], ask_context(generator))
    assert len(generator.asked) == len(WAYS) == len(made)
    texts = [bytes(request.prefix_ids.tolist()).decode() for request in generator.asked]
    assert all(">\nName a fish\n</instruction-" in text for text in texts)
    assert len(set(texts)) == 4 and "{" not in "".join(texts)
    assert len({request.seed for request in generator.asked}) == 4


def test_the_four_ways() -> None:
    assert [way.name for way in WAYS] == ["deepen", "constrain", "concretise", "more_steps"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Evolution(rounds=0), r"evolution\.rounds is 0"),
        (lambda: Evolution(longest=0), r"evolution\.longest is 0"),
        (lambda: Evolution(ways=()), r"evolution\.ways are named \[\]"),
        (lambda: Evolution(ways=(DEEPEN, DEEPEN)), r"each once"),
        (lambda: Way(name="w", question="no place"), r"way\.question of 'w' must hold"),
        (lambda: Way(name="", question="{instruction}"), r"way\.name is ''"),
    ],
)
def test_bad_values_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
