"""What an export says of itself: lineage.json for programs, README.md as a model card for people.

    export/lineage.json   hash, run, recipe, methods, data, parents by hash, figures
           README.md      the same as Hugging Face shows it, with its YAML front matter

Both hold names and hashes: no path, no host, no user. The run keeps a line of it in models.jsonl,
by which `rlstep runs lineage` finds the run of a model that was moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlstep.reporting.files import write_json
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.ledger import Figure, figures, iterations
from rlstep.reporting.origins import is_hub_id, now, short
from rlstep.reporting.recorded_run import RecordedRun
from rlstep.reporting.run_directory import RunDirectory

LINEAGE = "lineage.json"
CARD = "README.md"
_PIPELINES = {"language_model": "text-generation", "two_token": "text-generation"}
"""Of a learner's head; those that are no language model label tokens."""


def sign(
    folder: Path,
    directory: RunDirectory,
    iteration: int,
    versions: Mapping[str, int],
    *,
    source: str = "",
) -> dict[str, Any]:
    """Write lineage and card into an export, and its line into the run's models.jsonl.

    Args:
        folder: with the weights.
        directory: of the run that made them.
        iteration: after which.
        versions: by model, of what was trained by then.
        source: of a step model; '' of the policy.

    Returns:
        What is in lineage.json.

    Raises:
        ValueError: a file of the run is not what a run writes; names it.
    """
    lineage = describe(RecordedRun.read(directory), iteration, versions, source=source)
    try:
        lineage = {"sha256": hash_weights(folder), **lineage}
    except ValueError as error:
        lineage = {"unknown": str(error), **lineage}
    write_json(folder / LINEAGE, lineage)
    (folder / CARD).write_text(card(lineage))
    if "sha256" in lineage:
        line = {name: lineage[name] for name in ("iteration", "sha256", "versions", "made")}
        directory.models.append({**line, "source": source} if source else line)
    return lineage


def describe(
    run: RecordedRun, iteration: int, versions: Mapping[str, int], *, source: str = ""
) -> dict[str, Any]:
    """What made a run's model of an iteration, but for the hash of its weights.

    Args:
        source: of a step model, of which the run's accuracies say nothing; '' of the policy.
    """
    learner = run.config.get("policy") or run.config.get("learner") or {}
    if source:
        models = run.config.get("step_models", ())
        learner = next((m["learner"] for m in models if m.get("source") == source), {})
    measured = None if source else figures(run, iteration)
    kept = run.versions
    return {
        "run": run.directory.name,
        **({"step_model": source} if source else {}),
        "recipe": kept.get("recipe"),
        "head": learner.get("head", "language_model"),
        "iteration": iteration,
        "versions": dict(versions),
        "made": now(),
        "code": {
            "rlstep": kept.get("packages", {}).get("rlstep"),
            "commit": (kept.get("git") or {}).get("commit"),
        },
        "methods": kept.get("methods") or _classes(run.config),
        "data": kept.get("data"),
        "parents": kept.get("models"),
        "figures": {
            "iterations": iterations(run, iteration),
            "updates": _total(run, "train/updates", iteration),
            "prompts_asked": _total(run, "rollout/groups", iteration),
            "seconds": round(_total(run, "time/iteration", iteration)),
            "measured": [_plain(figure) for figure in measured or ()],
        },
    }


def _total(run: RecordedRun, name: str, iteration: int) -> int:
    rows = (row for row in run.metrics if int(row["iteration"]) <= iteration and name in row)
    return int(sum(float(row[name]) for row in rows))


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "value": figure.value,
        "standard_error": figure.error,
        "iteration": figure.iteration,
        "problems": figure.problems,
    }


def _classes(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The methods of a run that did not write them down: names of classes, without their papers."""
    return [
        {"part": part, "class": str(value["class"]).rpartition(".")[2], "about": "", "papers": []}
        for part in ("task", "examples", "rollouts", "samples", "loss")
        if isinstance(value := config.get(part), Mapping) and "class" in value
    ]


# --- the card ------------------------------------------------------------------------------------


def card(lineage: Mapping[str, Any]) -> str:
    """The model card of a lineage, in Markdown."""
    return f"---\n{_front_matter(lineage)}\n---\n\n" + "\n".join(_body(lineage)) + "\n"


def _front_matter(lineage: Mapping[str, Any]) -> str:
    """YAML as the hub reads it. What only the hub's own names may stand for (base model, data
    sets) is left out where they are none, and so is the licence, which nobody here knows."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline = _PIPELINES.get(lineage["head"], "token-classification")
    papers = {paper for method in lineage["methods"] for paper in method["papers"]}
    measured = lineage["figures"]["measured"]
    shares = [figure for figure in measured[-1:] if figure["name"] != "nll"]
    data = lineage["data"] or {"name": "unknown", "from": []}
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=data["name"].lower(),
            dataset_name=data["name"],
            metric_type="accuracy",
            metric_name=f"held-out {figure['name'].replace('_', ' ')}",
            metric_value=round(figure["value"], 4),
        )
        for figure in shares
    ]
    base = (lineage["parents"] or {}).get("policy") or (lineage["parents"] or {}).get("learner")
    return ModelCardData(
        base_model=base["name"] if base and "revision" in base else None,
        datasets=[name for name in data["from"] if is_hub_id(name) and "/" in name] or None,
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=["rlstep", *(f"arxiv:{paper}" for paper in sorted(papers))],
        model_name=lineage["run"] if results else None,
        eval_results=results or None,
    ).to_yaml()


def _body(lineage: Mapping[str, Any]) -> Iterator[str]:
    recipe = f"`{lineage['recipe']}`" if lineage["recipe"] else "a recipe that is unknown"
    sha256 = lineage.get("sha256")
    yield f"# {lineage['run']}"
    yield ""
    yield f"Trained with rlstep by {recipe}, to iteration {lineage['iteration']}."
    yield f"Weights: sha256 `{sha256}`." if sha256 else f"Hash unknown: {lineage['unknown']}."
    yield from ("", "## Figures", "", "| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in figure_rows(lineage))
    yield from ("", "## Trained by", "", "| part | method | papers |", "|---|---|---|")
    for method in lineage["methods"]:
        papers = ", ".join(f"[{p}](https://arxiv.org/abs/{p})" for p in method["papers"])
        about = f": {method['about']}".replace("|", "\\|") if method["about"] else ""
        yield f"| {method['part']} | `{method['class']}`{about} | {papers or '-'} |"
    yield from ("", "## Data", "")
    yield from data_lines(lineage["data"])
    yield from ("", "## Parents", "")
    yield from parent_lines(lineage["parents"])
    code = lineage["code"]
    yield ""
    yield f"Code: rlstep {code['rlstep'] or 'unknown'}, commit {code['commit'] or 'unknown'}."


def figure_rows(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of a lineage in words, each with its name."""
    found = lineage["figures"]
    measured = [Figure(error=f["standard_error"], **_without(f)) for f in found["measured"]]
    for place, figure in zip(("start", "end"), measured, strict=False):
        on = f", on {figure.problems} held-out problems" if figure.problems else ""
        what = "negative log-likelihood" if figure.name == "nll" else figure.name.replace("_", " ")
        yield f"{what}, {place}", f"{figure} (iteration {figure.iteration}{on})"
    if not measured:
        yield "accuracy", "not measured"
    yield "iterations", f"{found['iterations']:,}"
    yield "updates", f"{found['updates']:,}"
    if found["prompts_asked"]:
        yield "prompts asked", f"{found['prompts_asked']:,}"
    yield "seconds of training", f"{found['seconds']:,}"
    if lineage["versions"]:
        numbers = (f"{name} {number}" for name, number in lineage["versions"].items())
        yield "versions", ", ".join(numbers)


def _without(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figure.items() if name != "standard_error"}


def data_lines(data: Mapping[str, Any] | None) -> Iterator[str]:
    """What a run was trained and measured on: names, sizes and hashes."""
    if not data:
        yield "unknown: the run was made before data had hashes"
        return
    source = f" of {', '.join(f'`{name}`' for name in data['from'])}" if data["from"] else ""
    yield f"`{data['name']}`{source}"
    for split, entry in data.items():
        if isinstance(entry, Mapping):
            sizes = (f"{number:,} {what}" for what, number in entry.items() if what != "sha256")
            yield f"* {split}: {', '.join(sizes)}, sha256 `{short(entry)}`"


def parent_lines(parents: Mapping[str, Mapping[str, Any]] | None) -> Iterator[str]:
    """The models that a run began with, by their roles."""
    if not parents:
        yield "unknown: the run was made before models had hashes"
        return
    for role, entry in parents.items():
        sha256 = f"sha256 `{entry['sha256']}`" if "sha256" in entry else entry["unknown"]
        yield f"* {role}: `{entry['name']}`, {sha256}"
