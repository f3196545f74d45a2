"""The partition law for every splitter, over fake completions and over real tokenizers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.commands.catalog import plugins
from rlstep.steps.adaptive import AdaptiveStepSplitter
from rlstep.steps.blank_line import BlankLineSplitter
from rlstep.steps.fixed_length import FixedLengthSplitter
from rlstep.steps.marker import MarkerSplitter
from rlstep.steps.newline import NewlineSplitter
from rlstep.steps.pattern import PatternSplitter
from rlstep.tensors.text import decode_with_ends
from rlstep.thoughts import ThoughtTags
from rlstep.types import Completion, VersionSpan
from tests.real_tokenizers import (
    SPECIAL,
    TAGS,
    byte_level_tokenizer,
    byte_level_with_tags,
    sentencepiece_tokenizer,
    sentencepiece_with_tags,
)

CLASSES = plugins("steps")  # so that a new file is covered without being named here
SPLITTERS = [
    *(c() for c in CLASSES if c is not PatternSplitter),
    PatternSplitter(pattern=r"(?<=[.!?])\s"),
    PatternSplitter(pattern=r""),
    FixedLengthSplitter(tokens=1),
    FixedLengthSplitter(tokens=3),
    AdaptiveStepSplitter(quantile=0.4),
    AdaptiveStepSplitter(quantile=0.0, threshold=0.5),
    AdaptiveStepSplitter(quantile=0.0, threshold=0.5, side="start"),
]
every_splitter = pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda s: type(s).__name__)
both_tokenizers = pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])


def completion(pieces=(), *, ids=None, text="", ends=None):
    """One token per piece (an empty piece is a special token), or the given ids, text and ends.

    The sampler's logprobs are 0, -0.5, -1, -1.5, 0, ...
    """
    if ids is None:
        ids, text = range(len(pieces)), "".join(pieces)
        ends = np.cumsum([len(p) for p in pieces])
    return Completion(
        token_ids=np.array(ids, np.int32),
        logprobs=(np.arange(len(ids)) % 4 * -0.5).astype(np.float32),
        text=text,
        ends=np.array(ends, np.int32),
        finish_reason="stop",
        stop_reason=None,
        versions=(VersionSpan(version=0, start=0, end=len(ids)),) if len(ids) else (),
    )


def tokenized(tokenizer, text):
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    text, ends = decode_with_ends(tokenizer, ids)
    return completion(ids=ids, text=text, ends=ends)


def texts(splitter, made):
    """The text of every step, as a rollout would slice it."""
    starts = [0, *made.ends]
    return [made.text[starts[s.start] : starts[s.end]] for s in splitter.split(made)]


def bounds(splitter, made):
    return [(s.start, s.end) for s in splitter.split(made)]


def assert_partition(splitter, made):
    steps = splitter.split(made)
    assert [s.start for s in steps] + [len(made.token_ids)] == [0] + [s.end for s in steps]
    assert all(s.start < s.end for s in steps)
    assert splitter.split_all([made]) == [steps]
    if not isinstance(splitter, PatternSplitter):
        return  # it cuts by tokens alone, so a step may be blank
    if made.text.strip():
        assert all(text.strip() for text in texts(splitter, made))
    else:
        assert len(steps) == (len(made.token_ids) > 0)


PIECES = st.lists(
    st.one_of(
        st.text(max_size=4),
        st.sampled_from(
            ["", "\n", "\n\n", ".\n\n", " ", "Step 2:", "x", "x\ny\nz", "\n\nStep", ". ", "$"]
        ),
    ),
    max_size=12,
)


@every_splitter
@given(pieces=PIECES)
def test_steps_partition_any_completion(splitter, pieces):
    assert_partition(splitter, completion(pieces))


@every_splitter
@both_tokenizers
@settings(max_examples=25)
@given(pieces=PIECES)
def test_steps_partition_real_tokens(make, splitter, pieces):
    assert_partition(splitter, tokenized(make(), "".join(pieces)))


@every_splitter
@pytest.mark.parametrize("make", [byte_level_with_tags, sentencepiece_with_tags])
@settings(max_examples=25)
@given(pieces=st.lists(st.sampled_from([*SPECIAL, "Step 1: so.", "\n\n", " 2.", "\n", " "])))
def test_steps_partition_completions_whose_tags_are_special_tokens(make, splitter, pieces):
    made = tokenized(make(), "".join(pieces))
    assert made.text.count("<think>") == pieces.count("<think>")
    assert_partition(splitter, made)
    assert "".join(texts(splitter, made)) == made.text


@given(pieces=PIECES)
def test_without_straddling_tokens_no_step_holds_two_nonblank_lines(pieces):
    characters = completion([c for piece in pieces for c in piece])
    for text in texts(NewlineSplitter(), characters):
        assert sum(bool(line.strip()) for line in text.split("\n")) <= 1


def test_the_separator_belongs_to_the_step_before_it():
    made = completion(["a", "\n", "b", "\n", "c", ""])
    assert bounds(NewlineSplitter(), made) == [(0, 2), (2, 4), (4, 6)]  # the last: c and EOS


def test_a_straddling_token_goes_to_the_earlier_step():
    made = completion(["one", ".\n\nSo", " two"])
    assert texts(BlankLineSplitter(), made) == ["one.\n\nSo", " two"]


def test_two_boundaries_in_one_token_are_one():
    made = completion(["a", "\nb\nc", "d\n", "e"])
    assert texts(NewlineSplitter(), made) == ["a\nb\nc", "d\n", "e"]


def test_a_separator_merged_into_a_longer_token():
    tokenizer = byte_level_tokenizer()
    made = tokenized(tokenizer, "We get 5.\n\nThen 6.\n\n")
    assert ".ĊĊ" in tokenizer.convert_ids_to_tokens(made.token_ids.tolist())
    assert texts(BlankLineSplitter(), made) == ["We get 5.\n\n", "Then 6.\n\n"]
    assert texts(NewlineSplitter(), made) == ["We get 5.\n\n", "Then 6.\n\n"]
    assert BlankLineSplitter().split(made)[-1].end == len(made.token_ids)  # with EOS


def test_white_space_alone_joins_a_neighbour():
    made = completion(["\n", "\n", "a", "\n", " ", "\n", "b", "\n", "\n", ""])
    assert texts(NewlineSplitter(), made) == ["\n\na\n \n", "b\n\n"]


def test_a_blank_line_may_hold_spaces():
    made = completion([*"a\nb\n \t\n\nc"])
    assert texts(BlankLineSplitter(), made) == ["a\nb\n \t\n\n", "c"]


def test_the_marker_begins_its_step():
    text = "We add.\nStep 1: 2+3\n**Step 2:** is Step 3: not\n  ### Step 12: end"
    assert texts(MarkerSplitter(), completion([*text])) == [
        "We add.\n",
        "Step 1: 2+3\n",
        "**Step 2:** is Step 3: not\n",
        "  ### Step 12: end",
    ]


@both_tokenizers
def test_markers_in_real_tokens(make):
    made = tokenized(make(), "Step 1: 你好 🙂\nStep 2: 6·7=42.\nStep 3: ᚠ")
    assert texts(MarkerSplitter(), made) == [
        "Step 1: 你好 🙂\n", "Step 2: 6·7=42.\n", "Step 3: ᚠ"]  # fmt: skip


def test_bytes_of_a_character_stay_in_the_step_that_they_begin():
    # After the newline come the three byte tokens of U+16A0; the first two write nothing yet.
    tokenizer = sentencepiece_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["▁a", "<0x0A>", "<0xE1>", "<0x9A>", "<0xA0>", "</s>"])
    text, ends = decode_with_ends(tokenizer, ids)
    assert bounds(NewlineSplitter(), completion(ids=ids, text=text, ends=ends)) == [(0, 2), (2, 6)]


def test_any_regular_expression():
    made = completion([*"a; b; c"])
    assert texts(PatternSplitter(pattern=r";\s*"), made) == ["a; ", "b; ", "c"]


@every_splitter
@both_tokenizers
@pytest.mark.parametrize("text", ["", "x", " ", "\n \n", "🙂", "3.14"])
def test_next_to_nothing(make, splitter, text):
    assert_partition(splitter, tokenized(make(), text))


@every_splitter
def test_no_tokens_no_steps_and_one_token_one_step(splitter):
    assert splitter.split(completion([])) == ()
    assert splitter.split_all([]) == []
    assert splitter.split_all([completion([]), completion(["x"])])[0] == ()
    assert bounds(splitter, completion(["x"])) == [(0, 1)]
    assert_partition(splitter, completion([" ", "\n\n", "\n\n"]))


def test_patterns_take_special_tokens_and_white_space_alone_for_one_step():
    for splitter in SPLITTERS:
        if isinstance(splitter, PatternSplitter):
            assert bounds(splitter, completion(["", ""])) == [(0, 2)]
            assert bounds(splitter, completion([" ", "\n\n", "\n\n"])) == [(0, 3)]


def test_ten_thousand_steps():
    assert len(NewlineSplitter().split(completion(["x\n"] * 10_000))) == 10_000


def test_a_broken_pattern_is_refused():
    with pytest.raises(ValueError, match=r"splitter\.pattern is '\(', no regular expression"):
        PatternSplitter(pattern="(")


@pytest.mark.parametrize(
    ("pieces", "steps"),
    [
        (
            ["<think>", "\n", "a\n", "b\n", "</think>", "\n", "c"],
            ["<think>\na\n", "b\n</think>\n", "c"],
        ),
        (["<think>\n", "a\n", "</think>\n", "c"], ["<think>\na\n</think>\n", "c"]),
        (["a\n", "</think>\n", "c"], ["a\n</think>\n", "c"]),
        (["<think>\n", "</think>\n", "c"], ["<think>\n</think>\nc"]),
        (["[T]\n", "c"], ["[T]\n", "c"]),
    ],
)
def test_a_tag_alone_is_no_step(pieces, steps):
    assert texts(NewlineSplitter(), completion(pieces)) == steps


@pytest.mark.parametrize("make", [byte_level_with_tags, sentencepiece_with_tags])
def test_a_tag_that_is_a_special_token_alone_is_no_step(make):
    made = tokenized(make(), "<think>\na\nb\n[/THINK]<|final|>\nc")
    splitter = PatternSplitter(pattern="\n", thoughts=ThoughtTags(start=TAGS[0], end=TAGS[1]))
    assert texts(splitter, made) == ["<think>\na\n", "b\n[/THINK]<|final|>\n", "c"]
