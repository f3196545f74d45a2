"""decode_with_ends against its definition: the longest prefix of the text that is certain."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.tensors.templates import PromptEncoder, PromptTemplate, continuation_ids
from rlstep.tensors.text import decode_with_ends
from rlstep.tensors.tokenizers import reading_tags
from tests.real_tokenizers import (
    SPECIAL,
    byte_level_tokenizer,
    byte_level_with_tags,
    sentencepiece_tokenizer,
    sentencepiece_with_tags,
    with_special,
)

REAL = [
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    byte_level_with_tags,
    sentencepiece_with_tags,
]
TAGGED = REAL[2:]
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="ab \n.你🙂é\u200d\ufffd", max_size=30),
    st.lists(st.sampled_from(["Step 1:", " 2+3=5", ".\n\n", "🙂", "  ", "\\frac{1}{2}"])).map(
        "".join
    ),
)


def shared_length(a, b):
    return next(i for i in range(len(a), -1, -1) if a[:i] == b[:i])


def ends_by_definition(tokenizer, ids):
    """Decodes every prefix anew: T decodes of up to T tokens."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    ends = [
        shared_length(tokenizer.decode(ids[: t + 1], skip_special_tokens=True), text)
        for t in range(len(ids))
    ]
    return text, list(np.maximum.accumulate(ends))


def test_a_character_counts_from_the_token_that_completes_it():
    # U+16A0 is E1 9A A0 in UTF-8; this vocabulary has no token for it, so SentencePiece spells the
    # bytes: '▁a' writes 'a' (1 character), '▁' a space (2), two bytes nothing, the third 'ᚠ' (3).
    tokenizer = sentencepiece_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["▁a", "▁", "<0xE1>", "<0x9A>", "<0xA0>", "</s>"])
    text, ends = decode_with_ends(tokenizer, ids)
    assert text == "a ᚠ"
    assert ends.tolist() == [1, 2, 2, 2, 3, 3]
    assert ends.dtype == np.int32


def test_a_character_level_tokenizer_counts_one_by_one():
    tokenizer = arithmetic_tokenizer()
    text, ends = decode_with_ends(tokenizer, [*tokenizer.encode("1+2=3\n#3"), 1])
    assert text == "1+2=3\n#3"
    assert ends.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_spaces_between_sentencepiece_tokens_are_kept():
    tokenizer = sentencepiece_tokenizer()
    text, ends = decode_with_ends(tokenizer, np.array(tokenizer.encode("So we add"), np.int32))
    assert text == "So we add"
    assert ends.tolist() == [2, 5, 9]


@pytest.mark.parametrize("make", REAL)
def test_nothing_decodes_to_nothing(make):
    text, ends = decode_with_ends(make(), [])
    assert (text, ends.tolist()) == ("", [])
    text, ends = decode_with_ends(make(), [make().eos_token_id])
    assert (text, ends.tolist()) == ("", [0])


@pytest.mark.parametrize("make", REAL)
@given(text=TEXTS, special=st.lists(st.tuples(st.integers(0, 30), st.integers(0)), max_size=4))
def test_agrees_with_the_definition_on_texts(make, text, special):
    tokenizer = make()
    ids = tokenizer.encode(text, add_special_tokens=False)
    for position, which in special:
        ids.insert(position, special_ids(tokenizer)[which % len(special_ids(tokenizer))])
    expected = ends_by_definition(tokenizer, ids)
    found, ends = decode_with_ends(tokenizer, ids)
    assert (found, ends.tolist()) == expected


@pytest.mark.parametrize("make", REAL)
@given(data=st.data())
def test_any_ids_keep_the_laws(make, data):
    tokenizer = make()
    some = st.one_of(st.integers(0, 300), st.integers(0, len(tokenizer) - 1))  # bytes come first
    ids = data.draw(st.lists(some, min_size=1, max_size=25))
    text, ends = decode_with_ends(tokenizer, ids)
    assert text == tokenizer.decode(ids, skip_special_tokens=True)
    assert ends[0] >= 0 and np.all(np.diff(ends) >= 0)
    assert ends[-1] == len(text)


def special_ids(tokenizer) -> list[int]:
    return sorted(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)


@pytest.mark.parametrize("make", TAGGED)
def test_tags_that_are_special_tokens_stand_in_the_text_of_a_completion(make):
    # A tag may be several tokens and text; of other special tokens nothing is written, nor of a tag
    # where nobody asked for it.
    tokenizer = make()
    ids, ends, text = [], [], ""
    for piece in ("So", "<think>", "\n", "1", "<|other|>", "+", "[/THINK]", "<|final|>", "2", ""):
        if piece in SPECIAL:
            ids += tokenizer.convert_tokens_to_ids([piece])
        elif piece:
            ids += continuation_ids(tokenizer, piece)
        else:
            ids.append(tokenizer.eos_token_id)
        text += piece if piece != "<|other|>" else ""
        ends += [len(text)] * (len(ids) - len(ends))
    assert text == "So<think>\n1+[/THINK]<|final|>2"
    decoded, found = decode_with_ends(tokenizer, ids)
    assert (decoded, found.tolist()) == (text, ends)


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_of_tags_that_no_setting_has_nothing_is_written(make):
    tokenizer = with_special(make(), "<think>")
    ids = [*tokenizer.encode("So"), tokenizer.convert_tokens_to_ids("<think>")]
    for tags in ((), ("<thunk>",)):
        reader = reading_tags(tokenizer, tags)
        assert reader is tokenizer
        assert decode_with_ends(reader, ids)[0] == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("make", TAGGED)
def test_in_a_prompt_such_a_tag_is_text_as_before(make):
    tokenizer = make()
    ids = PromptEncoder(PromptTemplate(), tokenizer).problem("Say <think> and [/THINK].")
    assert not {*tokenizer.convert_tokens_to_ids(list(SPECIAL))} & {*ids}
    assert "Say <think> and [/THINK]." in tokenizer.decode(ids)


def test_finds_its_way_back_after_invalid_bytes():
    # D8 A9 is a letter, but the bad byte 92 before it makes the decoder write a mark for every byte
    # of the run, which a window that begins after it cannot see. The words that come later must
    # have their own ends (3 marks, then 3 characters a word), not all be put on the last token.
    tokenizer = sentencepiece_tokenizer()
    run = tokenizer.convert_tokens_to_ids(["<0x92>", "<0xD8>", "<0xA9>"])
    ids = run + tokenizer.convert_tokens_to_ids(["▁so"]) * 20
    text, ends = decode_with_ends(tokenizer, ids)
    assert text == "\ufffd" * 3 + " so" * 20
    assert ends[-12:].tolist() == list(range(3 + 9 * 3, 3 + 20 * 3 + 1, 3))


@pytest.mark.parametrize("make", REAL)
def test_the_work_grows_with_the_length_not_its_square(make):
    tokenizer = make()
    ids = tokenizer.encode("So 12 + 30 = 42.\n\nStep 2: 你好 🙂 ", add_special_tokens=False) * 400

    def decoded(part: list[int]) -> int:
        """How many tokens are decoded on the way, in windows that none was decoded before."""
        counting: Any = Counting(tokenizer)
        decode_with_ends(counting, part)
        return counting.tokens

    # Eight times the tokens: linear work decodes at most 8 times as many, quadratic work 64 times.
    assert decoded(ids) <= 9 * decoded(ids[: len(ids) // 8])


class Counting:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer, self.tokens = tokenizer, 0

    def decode(self, token_ids, **options) -> str:
        self.tokens += len(token_ids)
        return self._tokenizer.decode(token_ids, **options)
