from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from rlstep.interfaces import PromptSet
from rlstep.reporting.learned_from import (
    LEARNED,
    OTHERS,
    UNKNOWN,
    check_unseen,
    learned,
    write_learned,
)
from rlstep.testing.small import small_prompt, small_prompts


def test_an_export_says_which_problems_by_hash_alone(tmp_path: Path):
    write_learned(tmp_path, ["5+5*2", "3-1", "5+5*2"], "/nowhere")
    said = json.loads((tmp_path / LEARNED).read_text())
    wanted = {hashlib.sha256(name.encode()).hexdigest()[:16] for name in ("5+5*2", "3-1")}
    assert set(said["sha256"]) == wanted and said["problems"] == 2
    assert "5+5" not in (tmp_path / LEARNED).read_text()


def test_what_it_began_with_had_learned_from_is_its_too(tmp_path: Path):
    early, late = tmp_path / "early", tmp_path / "late"
    early.mkdir()
    late.mkdir()
    write_learned(early, ["a"], "some/policy")
    write_learned(late, ["b"], str(early))
    assert len(learned(late) or ()) == 2 and (learned(early) or set()) < (learned(late) or set())


def test_problems_that_it_learned_from_are_refused(tmp_path: Path):
    write_learned(tmp_path, ["b", "c", "z"], "")
    prompts = PromptSet(train=(), evaluation=small_prompts(3))
    with pytest.raises(ValueError, match=r"step_models \(prm\): it learned from 2 of the 3.*'b'"):
        check_unseen("prm", str(tmp_path), prompts, None)
    assert check_unseen("prm", str(tmp_path), prompts, 1) == OTHERS  # only 'a' is evaluated


def test_a_set_is_known_by_the_ids_that_its_problems_have_elsewhere(tmp_path: Path):
    write_learned(tmp_path, ["b"], "")
    held_out = {"hard": [small_prompt("hard/a"), small_prompt("hard/b")]}
    prompts = PromptSet(train=(), evaluation=(), sets=held_out)
    with pytest.raises(
        ValueError, match=r"1 of the 2 evaluated problems of hard, such as 'hard/b'"
    ):
        check_unseen("prm", str(tmp_path), prompts, None)


def test_a_folder_that_does_not_say(tmp_path: Path):
    prompts = PromptSet(train=(), evaluation=small_prompts(3))
    assert learned(tmp_path) is None
    assert check_unseen("prm", str(tmp_path), prompts, None) == UNKNOWN
    assert check_unseen("prm", "owner/name", prompts, None) == UNKNOWN


@pytest.mark.parametrize("text", ["[]", "{}", '{"sha256": [1]}', "no json"])
def test_a_broken_file_is_named(tmp_path: Path, text: str):
    (tmp_path / LEARNED).write_text(text)
    with pytest.raises(ValueError, match=LEARNED):
        learned(tmp_path)
