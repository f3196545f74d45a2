"""The files of a benchmark: one, or a folder of them, as they were published."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

ENDINGS = (".jsonl", ".json", ".parquet")


def files_of(path: str, field: str) -> dict[str, Path]:
    """The data files at a path, by their place within it without the ending: one for a file.

    Args:
        path: a file, or a folder that is looked through to its bottom; what is hidden is left out.
        field: that names it, for messages.

    Raises:
        ValueError: there is no such file or folder, or no data file in it.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return {stem(place): place}
    if not place.is_dir():
        names = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        near = get_close_matches(place.name, names, 1)
        hint = f"; did you mean {str(place.parent / near[0])!r}?" if near else ""
        raise ValueError(f"{field} is {path!r}, and there is no such file or folder{hint}")
    found: dict[str, Path] = {}
    for file in sorted(place.rglob("*")):
        inside = file.relative_to(place)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or not file.is_file() or not file.name.removesuffix(".gz").endswith(ENDINGS):
            continue
        name = str(inside.with_name(stem(file)))
        if name in found:
            raise ValueError(f"{field} is {path!r}, where {found[name]} and {file} are both {name}")
        found[name] = file
    if not found:
        endings = ", ".join(ENDINGS[:-1])
        raise ValueError(f"{field} is {path!r}, a folder without a {endings} or {ENDINGS[-1]} file")
    return found


def stem(file: Path) -> str:
    """Its name without endings: 'gsm8k' of 'gsm8k.jsonl.gz'."""
    return Path(file.name.removesuffix(".gz")).stem
