import math_verify
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import MatrixSymbol, Symbol

from rlstep.scoring.answers import symbolic
from rlstep.scoring.answers.math_answer import MathAnswer, compare
from rlstep.scoring.answers.unicode_text import straight
from rlstep.types import Verdict

CORRECT, WRONG, UNPARSABLE = Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSABLE


@pytest.mark.parametrize(
    ("text", "extracted"),
    [
        # the four rules, each reading its last occurrence
        ("9 * 2 = <<9*2=18>>18\n#### 18", "18"),
        ("#### 18\nno:\n#### 20", "20"),
        (r"so \boxed{1}, no, \boxed{2}", "2"),
        ("The answer is 4. No, the answer is 18.", "18"),
        ("The final answer is $18 per day. I hope it is correct.", "$18 per day"),
        ("She has <<1+2=3>>3.\nA: 1,000", "1,000"),
        ("**Answer:** 3.5 kg.", "3.5 kg"),
        ("Final answer: -7\n", "-7"),
        ("so 16 - 3 - 4 = 9 and 9 * 2 = 18 dollars", "18"),
        ("it is 5-3", "3"),
        ("it is -3", "-3"),
        ("that makes 1,250.50.", "1,250.50"),
        # precedence
        (r"The answer is 3, \boxed{4}, or #### 5", "5"),
        (r"The answer is 3, or \boxed{4}. Or 6", "4"),
        ("The answer is 3.\nBy the way, 4", "3"),
        # a Markdown heading is no answer
        ("#### Conclusion\nThe answer is 18.", "18"),
        # braces
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{1, \frac{1}{2}\right\}} or so", r"\left\{1, \frac{1}{2}\right\}"),
        (r"\boxed{}, and the answer is 5", ""),
        (r"first \boxed{3}, then \boxed{12", ""),
        ("I do not know.", ""),
        ("", ""),
    ],
)
def test_extract(text, extracted):
    assert MathAnswer().extract(text) == extracted


def test_rules_are_configurable():
    text = r"\boxed{4} #### 5"
    assert MathAnswer(rules=("boxed", "hashes")).extract(text) == "4"
    assert MathAnswer(rules=("phrase",)).verify("it is 7", "7").verdict is UNPARSABLE


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((), "rules is empty"),
        (("boxd",), "'boxd'; did you mean 'boxed'"),
        (("hash",), "'hash'; did you mean 'hashes'"),
    ],
)
def test_refused_rules(rules, message):
    with pytest.raises(ValueError, match=message):
        MathAnswer(rules=rules)


# Each pair is worked by hand; the extracted answer first, then the reference.
COMPARISONS = [
    # plain numbers
    ("1,000", "1000", CORRECT),
    ("1000", r"1{,}000", CORRECT),
    (r"10,\!236", "10236", CORRECT),
    ("0.5", "1/2", CORRECT),
    (r"\frac{1}{2}", "0.5", CORRECT),
    ("18.00", "18", CORRECT),
    (r"\$18", "18", CORRECT),
    ("-3", "3", WRONG),
    ("0.33", "1/3", WRONG),
    ("0.333333", "1/3", CORRECT),  # rounded to 6 decimals where one side is a decimal
    ("0.33333", "1/3", WRONG),
    ("2/6", "1/3", CORRECT),
    ("3333333/10000000", "1/3", WRONG),  # neither is a decimal
    ("2.5", "3", WRONG),
    ("1.8 million", "1.8", WRONG),
    # units
    ("18 dollars", "18", CORRECT),
    ("3.5 miles per hour", "3.5", CORRECT),
    (r"5 \text{ cm}", "5", CORRECT),
    (r"90^\circ", "90", CORRECT),
    ("2 pi", "2", WRONG),
    ("5x", "5", WRONG),
    # percent: 50% is 50 and 0.5 alike, since references leave the sign out as often as not
    (r"50\%", "50", CORRECT),
    (r"50\%", r"\frac{1}{2}", CORRECT),
    ("50%", "5", WRONG),
    # algebra
    ("x^2+2x+1", "(x+1)^2", CORRECT),
    ("x^2+2x", "(x+1)^2", WRONG),
    (r"2\sqrt{2}", r"\sqrt{8}", CORRECT),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", CORRECT),
    (r"\sin^2 x + \cos^2 x", "1", CORRECT),
    ("x + 1", "y + 1", WRONG),
    ("x = 5", "5", CORRECT),
    ("5", "x=5", CORRECT),
    (r"\infty", r"-\infty", WRONG),
    (r"\frac{1}{0}", "3", WRONG),
    # an infinity inside a value, and a pole of the gamma function: found by fuzzing
    (r"|\ln \sqrt{\infty}|", "|6|", WRONG),
    (r"\frac{6}{\infty}", "6", WRONG),
    (r"\lfloor -1 \rfloor!", "6", WRONG),
    (r"\infty", r"+\infty", CORRECT),
    (r"(3, \infty)", "x > 3", CORRECT),
    (r"\{1, \infty\}", r"\{\infty, 1\}", CORRECT),
    # tuples have an order, sets have none
    ("(1, 2)", "(1,2)", CORRECT),
    ("(2, 1)", "(1, 2)", WRONG),
    ("(1, 2, 3)", "(3, 2, 1)", WRONG),
    ("2, 1", "1, 2", CORRECT),
    (r"\{2, 1\}", r"\{1,2\}", CORRECT),
    ("1, 2, 3", "1, 2", WRONG),
    # intervals
    ("[0,1)", "[0, 1)", CORRECT),
    ("[0,1)", "[0,1]", WRONG),
    (r"x \in [0,1)", "[0,1)", CORRECT),
    (r"(-\infty, 3]", r"\left(-\infty,3\right]", CORRECT),
    # matrices
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", CORRECT),
    (r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", WRONG),
    # words
    (r"\text{Evelyn}", "Evelyn", CORRECT),
    ("June 20", r"\text{June 20}", CORRECT),
    (r"\text{(C)}", "C", CORRECT),
    ("Paris", "London", WRONG),
    # nothing to compare
    ("", "5", UNPARSABLE),
    ("$ $", "5", UNPARSABLE),
    ("3/", "3", UNPARSABLE),
    ("((", "3", UNPARSABLE),
    ("\x00", "5", UNPARSABLE),
    ("\ud800", "5", UNPARSABLE),
    ("\N{VULGAR FRACTION ONE HALF}", "1/2", CORRECT),
    ("9" * 10_000, "9", UNPARSABLE),
    ("9" * 10_000, "9" * 10_000, CORRECT),
]


@pytest.mark.parametrize(("extracted", "answer", "verdict"), COMPARISONS)
def test_compare(extracted, answer, verdict):
    assert compare(extracted, answer) is verdict


def test_value_follows_the_verdict():
    verifier = MathAnswer()
    assert verifier.verify(r"\boxed{0.5}", "1/2").value == 1.0
    assert verifier.verify(r"\boxed{0.4}", "1/2").value == 0.0
    assert verifier.verify(r"\boxed{}", "1/2").value == 0.0


def test_an_empty_reference_is_an_error():
    with pytest.raises(ValueError, match="reference answer is empty"):
        MathAnswer().verify("#### 5", " ")


@given(st.integers(-10_000, 10_000), st.integers(-10_000, 10_000))
def test_integers_agree_with_arithmetic_both_ways(first, second):
    expected = CORRECT if first == second else WRONG
    assert compare(f"{first:,}", str(second)) is expected
    assert compare(str(second), f"{first:,}") is expected


@given(st.text(max_size=200))
def test_extraction_takes_any_text(text):
    extracted = MathAnswer().extract(text)
    assert extracted == extracted.strip()
    assert extracted in straight(text)


@pytest.mark.parametrize(
    "piece",
    ["\\boxed{", "####", "answer", "answer: ", "answer:\n", "A: ", "1,", "{", "}", " ", "$", "é"],
)
def test_extraction_gets_through_long_texts(piece):
    MathAnswer().extract(piece * (200_000 // len(piece)))  # a quadratic rule would not end


# relations that hold for all letters or for none; Math-Verify takes any two of them for equal
SIDES_DIFFER = [
    ("3 = 5.5", "1 = 2"),
    ("7 = 7", "5 = 5"),
    ("0 = 1", "0 = 2"),
    ("2 + 2 = 4", "3 + 3 = 6"),
    ("2 + 3 = 6", "3 + 4 = 9"),
    (r"\sqrt{2} = 2", r"\sqrt{3} = 3"),
    ("f(2) = 10", "7 = 7"),
    ("f(0.5) = 10", r"3 \approx 5.5"),
    ("f(0.5) = 10", r"\sqrt{2} \approx 1.41"),
    ("g(3.7) = 2", r"4 \approx 9"),
    ("10 = f(2)", "20 = f(2)"),
    ("10 = f(2)", "10 = f(3)"),
    ("10 = f(2)", "10 = g(2)"),
    ("P(A) = 0.5", "P(B) = 0.7"),
    ("x = x", "y = y"),
    ("x = x + 1", "5 = 6"),
    ("x + 1 = x + 2", "x + 1 = x + 3"),
    ("1 = 2", "x + y = 1"),
    ("3 < 5", "1 < 2"),
    ("3 > 5", "1 > 2"),
    (r"1 \le 2", "1 < 2"),
    (r"2 \ge 1", r"5 \ge 1"),
    (r"1 \ne 2", r"3 \ne 4"),
    ("f(x) = 2x", "g(y) = 10"),
]
SIDES_AGREE = [
    ("10 = f(2)", "f(2) = 10"),
    ("1 = 2", "2 = 1"),
    ("7 = 7", r"7 = \frac{14}{2}"),
    ("2 < 3", "3 > 2"),
    (r"1 \le 2", r"2 \ge 1"),
    ("P(A) = 0.5", r"P(A) = \frac{1}{2}"),
    ("x + y = 1", "y = 1 - x"),
    ("x < 2", "2 > x"),
]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [*((*pair, False) for pair in SIDES_DIFFER), *((*pair, True) for pair in SIDES_AGREE)],
)
def test_relations_without_letters_are_equal_where_their_sides_are(one, other, equal):
    assert (compare(one, other) is CORRECT) == equal
    assert (compare(other, one) is CORRECT) == equal


SYMMETRIC = [
    # worked by hand; both ways round
    ("18", "18 dollars", CORRECT),
    ("5", "x = 5", CORRECT),
    ("5", "2 + 3 = 5", CORRECT),
    ("6", r"2 \times 3 = 6", CORRECT),
    ("6", "A = 2 + 4 = 6", CORRECT),
    (r"\frac{3}{5}", r"\cos \theta = \frac35", CORRECT),
    (r"30^\circ", r"\angle ABC = 30", CORRECT),
    ("2", "f^{-1}(3) = 2", CORRECT),
    ("(1, 2)", "(x, y) = (1,2)", CORRECT),
    ("1,000", "x = 1000", CORRECT),
    ("2x + 3", "y = 3 + 2x", CORRECT),
    ("1 < x < 2", "(1,2)", CORRECT),
    # a constraint is not the number on its right
    ("5", "2x + 3y = 5", WRONG),
    ("6", "2x = 6", WRONG),
    ("4", "x^2 = 4", WRONG),
    ("1", "x + y = 1", WRONG),
    ("1", r"\frac{x}{2} = 1", WRONG),
    ("2", "x = 1, y = 2", WRONG),
    ("1", r"\frac{1}{0}", WRONG),
    ("18 dollars", "19 euros", WRONG),
    # rounding never makes a small number 0, or another one
    ("0.0", r"\frac{1}{13983816}", WRONG),
    ("0.0", "2^{-30}", WRONG),
    ("0.0", "0.00000016", WRONG),
    ("0.0", r"1.6\times 10^{-19}", WRONG),
    ("0", r"1.6\times 10^{-19}", WRONG),
    (r"\ln(1)", r"\frac{1}{6^{25}}", WRONG),
    (r"1.7\times 10^{-19}", r"1.6\times 10^{-19}", WRONG),
    (r"1.6\times 10^{-19}", r"9.1\times 10^{-31}", WRONG),
    ("0.0000001", "0.0000002", WRONG),
    ("x = 0.0", "x = 2^{-30}", WRONG),
    (r"x = \ln(1)", r"x = \frac{1}{6^{25}}", WRONG),
    (r"\{0.0, 1\}", r"\{2^{-30}, 1\}", WRONG),
    ("[0.0, 1)", "[2^{-30}, 1)", WRONG),
    (r"\begin{pmatrix}0.0\\1\end{pmatrix}", r"\begin{pmatrix}2^{-30}\\1\end{pmatrix}", WRONG),
    (r"1.60\times 10^{-19}", r"1.6\times 10^{-19}", CORRECT),
    (r"\frac{2}{6^{26}}", r"\frac{1}{3 \cdot 6^{25}}", CORRECT),
    ("0.333333", r"\frac{1}{3}", CORRECT),
    ("0.016667", "1/60", CORRECT),  # 0.00002 of it away: 6 decimals are five digits of it
    ("0.016667", r"\frac{1}{60}", CORRECT),
    (r"\{0.333333, 1\}", r"\{1, \frac{1}{3}\}", CORRECT),
    ("1000000.5", "1000001", WRONG),
    (r"\sqrt{5+2\sqrt{6}}-\sqrt{2}-\sqrt{3}", "0", CORRECT),  # (sqrt 2 + sqrt 3)^2 = 5 + 2 sqrt 6
    (r"\sin(\pi)", "0.0", CORRECT),
    (r"33.333333\%", r"\frac{1}{3}", CORRECT),
    (r"100\%", "1", CORRECT),
    (r"\gcd(4, 6)", "2", CORRECT),  # which evalf leaves as it is
    # words that change the value are no units
    ("12 quarters", "12", CORRECT),  # coins
    ("5 thirds", "5", WRONG),
    ("1 third of the cake", "1", WRONG),
    ("5 hundreds", "5", WRONG),
    ("18 hundredths", "18", WRONG),
    ("5 factorial", "5", WRONG),
    ("5 xy", "5", WRONG),
    (r"18\text{ million}", "18", WRONG),
    (r"18\ \text{million}", "18", WRONG),
    (r"\frac{1}{2} \text{ billion dollars}", "1/2", WRONG),
    (r"3\text{ dozen}", "3", WRONG),
    (r"3\mathrm{ dozen}", "3", WRONG),
    ("5 seconds", "5", CORRECT),
    (r"5 \text{ seconds}", "5", CORRECT),
    ("12 third graders", "12", CORRECT),
    ("50 percent", r"50\%", CORRECT),
    # a number in another base is another number
    ("2516_{9}", "2516_8", WRONG),
    ("101_3", "101_2", WRONG),
    ("2516_{8}", "2516_8", CORRECT),
    ("n = 2516_{8}", "2516_8", CORRECT),
    ("2A_{16}", "2A_{16}", CORRECT),
    ("2516", "2516_8", CORRECT),  # the question names the base
    # a space between digits
    ("3 1/4", "31/4", WRONG),
    ("3 1/4", r"\frac{31}{4}", WRONG),
    ("3 1/4", "13/4", CORRECT),
    ("3 1/4", r"\frac{13}{4}", CORRECT),
    ("3 1/4", r"3\frac{1}{4}", CORRECT),
    ("3 1/4", "3.25", CORRECT),
    ("3 1/4 cups", "13/4", CORRECT),
    ("x = -3 1/4", r"-\frac{13}{4}", CORRECT),
    ("(3 1/4, 2)", r"(\frac{13}{4}, 2)", CORRECT),
    ("3\\,1/4", "31/4", WRONG),
    ("2 3", "23", WRONG),
    ("2 3", "5", WRONG),
    ("2 3", "6", WRONG),
    ("10 000", "10000", CORRECT),
    ("10 000", "10,000", CORRECT),
    ("10 000 dollars", "10000", CORRECT),
    (r"x = 10\,000", "10000", CORRECT),
    (r"\frac 1 2", r"\frac12", CORRECT),
]


@pytest.mark.parametrize(("one", "other", "verdict"), SYMMETRIC)
def test_equality_is_symmetric(one, other, verdict):
    assert compare(one, other) is verdict
    assert compare(other, one) is verdict


@pytest.mark.parametrize(
    "text", ["__import__", "x.real", "open('x')", 'f"x"', "x#y", "x`y", "@x", "({[" * 17 + "x", "é"]
)
def test_what_is_not_of_mathematics_never_reaches_the_grammar(text, monkeypatch):
    monkeypatch.setattr(
        "rlstep.scoring.answers.symbolic._parse", lambda _: pytest.fail("was parsed")
    )
    assert compare(text, "x + 1") is UNPARSABLE
    assert compare("x + 1", text) is WRONG
    assert compare(text, text) is CORRECT


def test_a_division_by_zero_that_only_the_digits_show_equals_nothing(monkeypatch):
    def divides(first, second):
        raise ZeroDivisionError

    monkeypatch.setattr(symbolic, "_verified", divides)
    assert symbolic.symbols_equal("x+1", "1+x") is False


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (r"x \ne 3", r"x \neq 3", True),
        (r"x \ne 3", r"3 \ne x", True),
        (r"a \ne b", r"b \ne a", True),
        (r"x \ne 3", r"(-\infty, 3) \cup (3, \infty)", True),
        (r"x \ne 3", r"\mathbb{R} \setminus \{3\}", True),
        (r"x \ne 3", r"x \ne 4", False),
        (r"x \ne 3", r"y \ne 3", False),
        (r"x \ne 3", "x = 3", False),
        (r"x \ne 3", "x > 3", False),
        (r"x \ne 3", r"x \le 3", False),
        (r"x \ne 3", r"3 < x", False),
        (r"x \ne 3", "3", False),
    ],
)
def test_what_a_value_is_not_is_a_relation_like_others(one, other, equal):
    """Math-Verify (0.9) raises a KeyError for two relations of which one is this."""
    for pair in ((one, other), (other, one)):
        assert (compare(*pair) is CORRECT) is equal


def test_matrices_are_not_tried_at_points():
    entry = MatrixSymbol("A", 2, 2)[0, 0] + Symbol("x", real=True)  # type: ignore[index]
    assert symbolic._same_function(entry, entry) is False


def test_a_pole_equals_nothing_and_other_errors_are_told(monkeypatch):
    def fails(*args, **options):
        raise ValueError(said)

    monkeypatch.setattr(math_verify, "verify", fails)
    said = "gamma function pole"
    assert symbolic.symbols_equal("y+1", "y+2") is False
    said = "another"
    with pytest.raises(ValueError, match="another"):
        symbolic.symbols_equal("y+1", "y+2")


@pytest.mark.parametrize(
    ("one", "other"), [("x + y = 1", "1"), (r"\sqrt{2}\cdot 0.0000001", "0.0000003")]
)
def test_a_constraint_is_no_value_and_small_numbers_are_not_all_one(one, other):
    assert compare(one, other) is not Verdict.CORRECT
    assert compare(other, one) is not Verdict.CORRECT


@pytest.mark.parametrize(
    ("pair", "other", "equal"),
    [
        ("(x, y) = (1, 2)", "x = 1, y = 2", True),
        ("(x, y) = (1, 2)", "y = 2, x = 1", True),
        ("(x, y) = (1, 2)", "(y, x) = (2, 1)", True),
        ("(x, y, z) = (1, 2, 3)", "x=1, y=2, z=3", True),
        (r"(x, y) = (\frac12, 2)", "x = 0.5, y = 2", True),
        ("(x_1, x_2) = (1, 2)", "x_1 = 1, x_2 = 2", True),
        ("(x, y) = (1, 2)", "(1, 2)", True),
        ("(x, y) = (1, 2)", "(2, 1)", False),
        ("(x, y) = (1, 2)", "x = 2, y = 1", False),
        ("(x, y) = (1, 2)", "(x, y) = (2, 1)", False),
        ("(x, y) = (1, 2)", "(a, b) = (1, 2)", False),
        ("(x, y) = (1, 2)", r"\{1, 2\}", False),
        ("(x, y) = (1, 2)", "x = 1", False),
        (r"A = \{1,2\}", r"A = \{2,1\}", True),
        (r"A = \{1,2\}", r"A = \{1,3\}", False),
        (r"A = \{1,2\}", r"B = \{1,2\}", False),
        (r"S = [1,2)", r"S = [1.0,2)", True),
        (r"S = [1,2)", r"S = [1,2]", False),
        (
            r"A = \begin{pmatrix}1\\2\end{pmatrix}",
            r"A = \begin{pmatrix}1\\ \frac{4}{2}\end{pmatrix}",
            True,
        ),
        (r"A = \begin{pmatrix}1\\2\end{pmatrix}", r"A = \begin{pmatrix}1\\3\end{pmatrix}", False),
    ],
)
def test_a_named_pair_is_the_values_by_name(pair, other, equal):
    assert (compare(pair, other) is CORRECT) == equal
    assert (compare(other, pair) is CORRECT) == equal
