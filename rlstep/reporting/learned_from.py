"""Which problems a step model learned from: hashes of their ids, in its exported folder.

    learned_from.json    {"problems": 768, "sha256": ["0f3a...", ...]}

A PRM scores solutions of problems that it has learned from better than it scores others, so figures
on these say nothing of it. Hashes tell whether a problem is among them, and nothing else of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlstep.interfaces import PromptSet
from rlstep.reporting.files import read_json, write_json

LEARNED = "learned_from.json"
OTHERS, UNKNOWN = "other problems", "unknown"
_DIGITS = 16


def hash_id(prompt_id: str) -> str:
    """The first 16 hexadecimal digits of the sha256 of an id."""
    return hashlib.sha256(prompt_id.encode()).hexdigest()[:_DIGITS]


def write_learned(folder: Path, prompt_ids: Iterable[str], began_with: str) -> None:
    """Write the file into an export.

    Args:
        prompt_ids: of what it was trained on.
        began_with: the model it started from, whose problems, where they are known, are its too.
    """
    found = {hash_id(name) for name in prompt_ids} | (learned(Path(began_with)) or set())
    write_json(folder / LEARNED, {"problems": len(found), "sha256": sorted(found)})


def learned(folder: Path) -> set[str] | None:
    """The hashes in a model's folder, None where it does not say.

    Raises:
        ValueError: the file is not what an export has.
    """
    file = folder.expanduser() / LEARNED
    if not file.is_file():
        return None
    hashes = read_json(file).get("sha256")
    if not isinstance(hashes, list) or not all(isinstance(each, str) for each in hashes):
        raise ValueError(f"{file}: 'sha256' must be a list of hashes of problem ids")
    return set(hashes)


def check_unseen(source: str, folder: str, prompts: PromptSet, cut: int | None) -> str:
    """Refuse to evaluate with a step model on problems that it learned from.

    Args:
        source: the model's.
        folder: of its weights.
        cut: how many problems of each set are evaluated; None for all.

    Returns:
        OTHERS, or UNKNOWN where the folder does not say.

    Raises:
        ValueError: names the model, and how many of which set it learned from.
    """
    seen = learned(Path(folder))
    if seen is None:
        return UNKNOWN
    for name, held_out in {"": prompts.evaluation, **prompts.sets}.items():
        evaluated = [prompt.prompt_id for prompt in held_out[:cut]]
        if known := [each for each in evaluated if _seen(each, name, seen)]:
            which = f" of {name}" if name else ""
            raise ValueError(
                f"step_models ({source}): it learned from {len(known)} of the {len(evaluated)}"
                f" evaluated problems{which}, such as {_some(known)}, as {LEARNED} in {folder}"
                " says; evaluate on others, or by another model"
            )
    return OTHERS


def _seen(prompt_id: str, name: str, seen: set[str]) -> bool:
    """By its id, and by that which it has outside of its set."""
    own = prompt_id.removeprefix(f"{name}/") if name else prompt_id
    return not {hash_id(prompt_id), hash_id(own)}.isdisjoint(seen)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3]))
