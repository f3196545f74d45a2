"""What is found of an answer in a text: marks, phrases, thoughts, and texts that were cut off."""

import pytest

from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.thoughts import ThoughtTags
from rlstep.types import Verdict

OPENED = ThoughtTags(opened=True)
OTHER = ThoughtTags(start="[THINK]", end="[/THINK]")


@pytest.mark.parametrize(
    ("text", "extracted"),
    [
        # a heading is no answer, a line that holds a value is
        ("#### 2. Double it\nso \\boxed{18}", "18"),
        ("so \\boxed{18}\n#### 2. Double it", "18"),
        ("so \\boxed{18}\n#### 2) Double it", "18"),
        ("so \\boxed{18}\n#### (2) Double it", "18"),
        ("so \\boxed{18}\n#### 2: Double it", "18"),
        ("so \\boxed{18}\n#### 2.1. the second half", "18"),
        ("so \\boxed{18}\n#### 2 Double it", "18"),
        ("so \\boxed{18}\n#### 3 ways to see that it holds", "18"),
        ("so \\boxed{18}\n#### Step 2", "18"),
        ("so \\boxed{18}\n#### 2. $x$ is doubled", "18"),
        ("#### 18 miles per hour", "18 miles per hour"),
        ("#### 5 USD", "5 USD"),
        ("#### 2.5", "2.5"),
        ("#### 1,000", "1,000"),
        ("#### $\\frac{1}{2}$", "$\\frac{1}{2}$"),
        ("#### (2, 3)", "(2, 3)"),
        ("#### \N{MINUS SIGN}3", "-3"),
        ("it is \N{MINUS SIGN}3", "-3"),
        # of box and line the later
        ("\\boxed{4}\n#### 5", "5"),
        ("#### 5\n\\boxed{4}", "4"),
        # boxes
        ("\\boxed{3}, checked: \\boxed{}", "3"),
        ("\\boxed{3}, checked: \\boxed{ }", "3"),
        ("\\boxed{}", ""),
        ("\\boxed{3}, so \\boxed{4", ""),
        ("\\boxed {3}", "3"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("x=\\boxed{3} or x=\\boxed{5}", "3, 5"),
        ("$x=\\boxed{3}$ or $x=\\boxed{5}$.", "3, 5"),
        ("$\\boxed{3}$, $\\boxed{5}$ and $\\boxed{7}$", "3, 5, 7"),
        ("\\boxed{3} \\text{ or } \\boxed{5}", "3, 5"),
        ("\\boxed{3} or \\boxed{3}", "3"),
        ("first \\boxed{3}, then we see \\boxed{5}", "5"),
        ("\\boxed{3} or so. Now x=\\boxed{5}", "5"),
        # phrases
        ("The answer is 18 because 9 * 2 is 18.", "18"),
        ("The answer is 18, because 9 * 2 is 18", "18"),
        ("The answer is 18, since it is 3 * 6.", "18"),
        ("The answer is 18, which is 3 * 6.", "18"),
        ("The answer is **58** (see 12)", "58"),
        ("The answer is **58**, as 12 shows", "58"),
        ("The answer is 58 (see 12)", "58"),
        ("The answer is therefore 18.", "18"),
        ("The answer is 18 when you add up 12 and 6.", "18"),
        ("The answer is 18 dollars because of 12", "18 dollars"),
        ("The answer is $\\frac{1}{2}$ since 1/2 is half", "$\\frac{1}{2}$"),
        ("The answer is Paris because of the tower.", "Paris"),
        ("The answer is 5 (mod 7).", "5 (mod 7)"),
        ("The answer is x**2 + 1.", "x**2 + 1"),
        ("**Answer:** **12** apples", "12"),
        ("Final Answer: The final answer is $14$. I hope it is correct.", "$14$"),
        ("**Final Answer**: the answer is 14", "14"),
        ("The correct option is B.", "B"),
        ("The best choice is (C).", "(C)"),
        ("the answer is 7, not 8.", "7"),
        ("the answer is 7 rather than 8", "7"),
        ("The answer is not 5.", "not 5"),
        ("The answer is approximately 3.14.", "3.14"),
        ("The answer is about $29$ cm.", "$29$ cm"),
        ("answer is 5 apples and that is 2 more than 3", "5 apples"),
        ('The answer is "7".', "7"),
        ("The answer is\n\n$$\\frac{1}{2}$$", "$$\\frac{1}{2}$$"),
        ("The answer is:\n\n12", "12"),
        ("Answer:\n**12**", "12"),
        ("Answer:\nWe add 3 and 4, which makes 7. So it is 9", "9"),
        ("#### A", "A"),
        ("so \\boxed{18}\n#### Conclusion", "18"),
        ("#### Yes", "Yes"),
        ("#### \\boxed{18}", "\\boxed{18}"),
        # the tag that Format asks for
        ("<answer>18</answer>", "18"),
        ("<answer>\\boxed{18}</answer>", "18"),
        ("<answer>The answer is 18 because 9 * 2</answer>", "18"),
        ("\\boxed{4} <answer> 18 </answer> of 20", "18"),
        ("<answer>4</answer> no, <answer>18</answer>", "18"),
        ("<answer>18</answer><answer></answer>", "18"),
        ("<answer>#### 18</answer>", "18"),
    ],
)
def test_what_is_extracted(text, extracted):
    assert MathAnswer().extract(text) == extracted


THOUGHTS = [
    (ThoughtTags(), "<think>\\boxed{5}</think> It is 7.", "7"),
    (ThoughtTags(), "<think>#### 5</think>\n\\boxed{7}", "7"),
    (ThoughtTags(), "<think>The answer is 5.</think> so 7", "7"),
    (ThoughtTags(), "<think>\\boxed{5}", ""),
    (ThoughtTags(), "\\boxed{7} <think>\\boxed{5}", ""),
    (ThoughtTags(), "<think>a</think> \\boxed{7} <think> or 5", ""),
    (ThoughtTags(), "<think>\\boxed{5}</think>", ""),
    (ThoughtTags(), "\\boxed{5}</think>\\boxed{7}", "7"),
    (ThoughtTags(), "<think>a</think>3<think>b</think>7", "7"),
    (ThoughtTags(), "<think>a <think> b</think>7", "7"),
    (ThoughtTags(), "\\boxed{7}", "7"),
    (ThoughtTags(), "<think></think>7", "7"),
    (ThoughtTags(), "<think><answer>5</answer></think><answer>7</answer>", "7"),
    (OPENED, "\\boxed{5}", ""),
    (OPENED, "\\boxed{5}</think> 7", "7"),
    (OPENED, "<think>\\boxed{5}</think> 7", "7"),
    (OPENED, "a</think> 7 <think> 5", ""),
    (OPENED, "", ""),
    (OTHER, "[THINK]\\boxed{5}[/THINK]7", "7"),
    (OTHER, "[THINK]\\boxed{5}", ""),
    (OTHER, "<think>\\boxed{5}</think>7", "5"),
]


@pytest.mark.parametrize(("thoughts", "text", "extracted"), THOUGHTS)
def test_what_counts_stands_after_the_thought(thoughts, text, extracted):
    assert MathAnswer(thoughts=thoughts).extract(text) == extracted
    if not extracted:
        assert MathAnswer(thoughts=thoughts).verify(text, "5").verdict is Verdict.UNPARSABLE


def test_an_exact_answer_inside_a_thought_is_none():
    verifier = ExactAnswer(pattern="#([0-9]+)")
    assert verifier.verify("#5</think>#7", "7").verdict is Verdict.CORRECT
    assert verifier.verify("<think>#5</think>", "5").verdict is Verdict.UNPARSABLE
    assert verifier.verify("<think>#5", "5").verdict is Verdict.UNPARSABLE


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("#### 18", False),
        ("#### 18 ", False),
        ("#### 18.", False),
        ("#### 18,", False),
        ("#### 18\n", True),
        ("The answer is 18", False),
        ("The answer is 18.", False),
        ("The answer is 18 because of", True),
        ("The answer is **18**", True),
        ("so it is 18", False),
        ("so it is 18 apples", True),
        ("\\boxed{18}", True),
        ("<answer>18</answer>", True),
    ],
)
def test_an_answer_at_which_the_text_was_cut_off_is_not_believed(text, whole):
    assert MathAnswer().verify(text, "18").verdict is Verdict.CORRECT
    cut = MathAnswer().verify(text, "18", finish_reason="length")
    assert cut.verdict is (Verdict.CORRECT if whole else Verdict.UNPARSABLE)
    assert cut.value == float(whole)


def test_an_exact_answer_at_which_the_text_was_cut_off_is_not_believed():
    verifier = ExactAnswer(pattern="#([0-9]+)")
    assert verifier.verify("#18", "18", "length").verdict is Verdict.UNPARSABLE
    assert verifier.verify("#18\n", "18", "length").verdict is Verdict.CORRECT
    assert verifier.verify("#18", "18", "stop").verdict is Verdict.CORRECT
    assert {"finish_reason"} == verifier.asks == MathAnswer().asks
