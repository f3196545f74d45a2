import pytest

from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.types import OutcomeScore, Verdict

HASH = ExactAnswer(pattern=r"#(-?[0-9]+)")


@pytest.mark.parametrize(
    ("text", "answer", "verdict", "extracted"),
    [
        ("3+4=7\n#7", "7", Verdict.CORRECT, "7"),
        ("#7 no, #8", "8", Verdict.CORRECT, "8"),  # the last match counts
        ("#7 no, #8", "7", Verdict.WRONG, "8"),
        ("#007", "7", Verdict.CORRECT, "007"),  # equal as numbers
        ("#-3", "-3", Verdict.CORRECT, "-3"),
        ("#-3", "3", Verdict.WRONG, "-3"),
        ("3+4=7", "7", Verdict.UNPARSABLE, ""),
        ("", "7", Verdict.UNPARSABLE, ""),
    ],
)
def test_cases(text, answer, verdict, extracted):
    value = float(verdict is Verdict.CORRECT)
    expected = OutcomeScore(value=value, verdict=verdict, extracted=extracted)
    assert HASH.verify(text, answer) == expected


def test_text_is_compared_as_text():
    verifier = ExactAnswer(pattern=r"<answer>(.*?)</answer>")
    assert verifier.verify("<answer> Paris. </answer>", "Paris").verdict is Verdict.CORRECT
    assert verifier.verify("<answer>paris</answer>", "Paris").verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("#(", "no regular expression"), ("#[0-9]+", "0 groups"), ("(#)([0-9]+)", "2 groups")],
)
def test_refused_patterns(pattern, message):
    with pytest.raises(ValueError, match=rf"exact_answer.pattern .*{message}"):
        ExactAnswer(pattern=pattern)
