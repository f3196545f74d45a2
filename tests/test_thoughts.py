import pytest

from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.scoring.processes.confined import decode, encode
from rlstep.thoughts import ThoughtTags


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": ""}, "thoughts.start is ''; it must be a tag, for instance '<think>'"),
        ({"end": " "}, "thoughts.end is ' '; it must be a tag, for instance '</think>'"),
        ({"start": "|", "end": "|"}, "thoughts.end is '|', as thoughts.start"),
    ],
)
def test_refused_tags(fields, message):
    with pytest.raises(ValueError) as error:
        ThoughtTags(**fields)
    assert str(error.value).startswith(message)


def test_a_verifier_takes_its_tags_along_into_its_process():
    verifier = MathAnswer(thoughts=ThoughtTags(start="[T]", end="[/T]", opened=True))
    assert decode(encode(verifier)) == verifier


def test_blanked_tags_move_nothing():
    text = "<think>a</think>b"
    assert ThoughtTags().blanked(text) == " " * 7 + "a" + " " * 8 + "b"
