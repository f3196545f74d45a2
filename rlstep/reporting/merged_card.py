"""What a merged model says of itself: no run made it, so its card has the models and the method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlstep.interfaces import Merger
from rlstep.reporting.card import CARD, LINEAGE, parent_lines
from rlstep.reporting.files import write_json
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.origins import arxiv_ids, model_entry, now, summary


def sign_merged(
    folder: Path, name: str, merger: Merger, base: str, models: Sequence[str]
) -> dict[str, Any]:
    """Write lineage and card into the folder of a merge, as `card.sign` does for an export.

    Args:
        name: what the model is called.
        base: path of the model that the others began as.
        models: their paths.

    Returns:
        What is in lineage.json.
    """
    kind = type(merger)
    numbered = {f"model {number}": path for number, path in enumerate(models, start=1)}
    lineage = {
        "sha256": hash_weights(folder),
        "made": now(),
        "code": {"rlstep": version("rlstep")},
        "merged": {
            "method": repr(merger),
            "about": summary(kind),
            "papers": arxiv_ids(kind),
        },
        "parents": {role: model_entry(path) for role, path in {"base": base, **numbered}.items()},
    }
    write_json(folder / LINEAGE, lineage)
    (folder / CARD).write_text("\n".join(_card(name, lineage)) + "\n")
    return lineage


def _card(name: str, lineage: Mapping[str, Any]) -> Iterator[str]:
    from huggingface_hub import ModelCardData

    merged, parents = lineage["merged"], lineage["parents"]
    base = parents["base"]
    front = ModelCardData(
        base_model=base["name"] if "revision" in base else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["rlstep", "merge", *(f"arxiv:{paper}" for paper in merged["papers"])],
    )
    papers = "".join(f" [{p}](https://arxiv.org/abs/{p})" for p in merged["papers"])
    yield from ("---", front.to_yaml(), "---", "", f"# {name}", "")
    yield f"Merged with rlstep by `{merged['method']}`: {merged['about']}{papers}"
    yield from ("", f"Weights: sha256 `{lineage['sha256']}`.", "", "## Parents", "")
    yield from parent_lines(parents)
    yield from ("", f"Code: rlstep {lineage['code']['rlstep']}.")
