"""Passages of a folder, by words."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlstep.tools.retrieval import Retrieval


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_text("a cat sat\n\na dog ran\n \na cat and a cat and dog\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.md").write_text("# Owls\n\nNobody sat.")
    (tmp_path / "c.py").write_text("cat")
    return tmp_path


def found(folder: Path, query: str, **fields: float) -> list[str]:
    answer = Retrieval(folder=str(folder), **fields).call({"query": query})  # type: ignore[arg-type]
    return answer.split("\n\n")


def test_a_ranking_worked_by_hand(folder: Path):
    # 5 passages of 1, 2, 3, 3 and 7 words, 3.2 in the mean. 'cat' stands in 2 of them:
    # idf = ln(1 + 3.5 / 2.5) = 0.875. 'a cat sat': f = 1, l = 3, so 1 / (1 + 1.2 (0.25 + 0.75 3 /
    # 3.2)) = 0.466; 'a cat and a cat and dog': f = 2, l = 7, so 2 / (2 + 1.2 (0.25 + 0.75 7 / 3.2))
    # = 0.469.
    long, short = found(folder, "CAT")
    assert short == "[b.txt]\na cat sat" and long == "[b.txt]\na cat and a cat and dog"


def test_lengths_are_told_by_b(folder: Path):
    assert found(folder, "cat", b=1.0)[0] == "[b.txt]\na cat sat"
    assert found(folder, "cat", b=0.0)[0] == "[b.txt]\na cat and a cat and dog"


def test_rare_words_count_more(folder: Path):
    assert found(folder, "a cat ran", results=1) == ["[b.txt]\na dog ran"]
    assert found(folder, "owls")[0] == "[below/a.md]\n# Owls"


def test_a_tie_goes_by_file_and_place(folder: Path):
    (folder / "d.txt").write_text("twice\n\ntwice")
    (folder / "a.txt").write_text("twice")
    everything = found(folder, "twice")
    assert everything == ["[a.txt]\ntwice", "[d.txt]\ntwice", "[d.txt]\ntwice"]
    assert found(folder, "twice nothing twice") == everything


@pytest.mark.parametrize("query", ["", "  ", "zebra", "?!"])
def test_nothing(folder: Path, query: str):
    assert found(folder, query) == ["[nothing was found]"]


def test_what_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"retrieval\.folder is 'texts'.*must be absolute: '/"):
        Retrieval(folder="texts")
    for name in ("none", "below/empty"):
        with pytest.raises(ValueError, match=r"no \.txt or \.md file holds a word"):
            Retrieval(folder=str(tmp_path / name)).check(5.0)
    for field, wrong in (("results", 0), ("k1", 0.0), ("b", 1.5)):
        with pytest.raises(ValueError, match=rf"retrieval\.{field} is {wrong}"):
            Retrieval(folder=str(folder), **{field: wrong})  # type: ignore[arg-type]
    (folder / "z.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"z\.txt is no UTF-8"):
        Retrieval(folder=str(folder)).check(5.0)
