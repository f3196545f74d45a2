from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.steps.sentence import SentenceSplitter
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from tests.steps.test_splitters import completion, texts, tokenized


def sentences(text: str) -> list[str]:
    return texts(SentenceSplitter(), completion([*text]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", " Two!", " Three?", " Four"]),
        ("Pi is 3.14. So e<3.", ["Pi is 3.14.", " So e<3."]),
        ('He says "no." Then?! (Yes.) End.', ['He says "no."', " Then?!", " (Yes.)", " End."]),
        ("No end\n\nof these\n \nthree", ["No end\n\n", "of these\n \n", "three"]),
        ("A line\nand another. x", ["A line\nand another.", " x"]),
        ("See x.y and 1,000.5 m", ["See x.y and 1,000.5 m"]),
    ],
)
def test_sentences(text: str, expected: list[str]):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So $a. b$ is. Next", ["So $a. b$ is.", " Next"]),
        (r"So \(a. b\) is. Next", [r"So \(a. b\) is.", " Next"]),
        ("So\n$$a.\n\nb! c$$ is. Next", ["So\n$$a.\n\nb! c$$ is.", " Next"]),
        (r"So \[a. b\] is. Next", [r"So \[a. b\] is.", " Next"]),
        (r"So $a\$. b$ is. Next", [r"So $a\$. b$ is.", " Next"]),
    ],
)
def test_nothing_is_cut_inside_mathematics(text: str, expected: list[str]):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $5. He pays $3. Done", ["It costs $5.", " He pays $3.", " Done"]),
        ("From $5 to $7. Then", ["From $5 to $7.", " Then"]),
        (r"It is \$5. He pays \$3. Done", [r"It is \$5.", r" He pays \$3.", " Done"]),
        (r"Left \(open. And on", [r"Left \(open.", " And on"]),
        ("Left $open. And on", ["Left $open.", " And on"]),
    ],
)
def test_money_and_what_is_never_closed_is_text(text: str, expected: list[str]):
    assert sentences(text) == expected


def test_the_number_of_an_item_belongs_to_it():
    text = "Now:\n1. Add. \n  2. Take 2. away\n3) End"
    assert sentences(text) == ["Now:\n1. Add. \n", "  2. Take 2.", " away\n3) End"]


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_real_tokens(make):
    made = tokenized(make(), "We get $3.5. 2$ 🙂. Then 6·7=42.\n\nSo #42")
    # ' Then' is one token, so the space has to open its sentence; a newline closes one.
    assert texts(SentenceSplitter(), made) == [
        "We get $3.5. 2$ 🙂.", " Then 6·7=42.\n\n", "So #42"]  # fmt: skip


MATH = st.sampled_from(["$x. y$", r"\(x! y\)", "$$x? y$$", r"\[x. y\]", "word", "3.14"])


@given(st.lists(st.lists(MATH, min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_sentence_of_any_words_and_formulas_is_one_step(made: list[list[str]]):
    expected = [" ".join([" So", *words, "holds"]) + "." for words in made]
    assert sentences("".join(expected)) == expected


@pytest.mark.parametrize("text", [r"\(" * 30_000, "$x " * 30_000, "a. " * 60_000, "a" * 200_000])
def test_it_gets_through_long_texts(text: str):
    SentenceSplitter().split(completion([text]))  # quadratic searches would not end
