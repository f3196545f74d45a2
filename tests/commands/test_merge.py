"""`rlstep merge`: folders in, a folder out, and what is refused with nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlstep.cli import look
from rlstep.interfaces import Merger
from rlstep.merging.merge import prepared
from rlstep.merging.models import ModelFolder
from rlstep.merging.task_arithmetic import TaskArithmetic
from rlstep.reporting.card import CARD, LINEAGE
from rlstep.reporting.hashing import hash_weights
from tests.run.run_kit import make_policy

HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
NUMBERS = 24 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128 + 2 * 64) + 64
"""Embeddings, tied; two layers of q, k, v, o, three matrices and two norms; the last norm."""

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_policy(tmp_path_factory.mktemp("models") / "base"))


@pytest.fixture
def child(base: Path, tmp_path: Path) -> Callable[..., str]:
    """Copies the base under a name, with its weights changed."""

    def make(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> str:
        folder = shutil.copytree(base, tmp_path / name)
        save({key: change(value) for key, value in weights(base).items()}, folder)
        return str(folder)

    return make


def weights(folder: Path | str) -> Weights:
    return load_file(Path(folder) / "model.safetensors")


def save(found: Weights, folder: Path | str) -> None:
    whole = {name: value.contiguous() for name, value in found.items()}
    save_file(whole, Path(folder) / "model.safetensors", metadata={"format": "pt"})


def noisy(seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda w: w + 0.01 * torch.randn(w.shape, generator=generator)


def filled(value: float, dtype: torch.dtype = torch.float32) -> Callable[[Any], torch.Tensor]:
    return lambda w: torch.full_like(w, value, dtype=dtype)


def merge(*words: Any) -> int:
    return look("merge", list(map(str, words)))


# --- what is written -----------------------------------------------------------------------------


def test_by_hand(
    child: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Base 1, models 2 and 5: 1 + 0.5 (1 + 4) = 3.5. Both differ by a constant: their cosine is 1;
    the lengths are 1 and 4 times the root of how many numbers there are."""
    models = [child("begin", filled(1.0)), child("two", filled(2.0)), child("five", filled(5.0))]
    out = tmp_path / "made" / "here"
    assert merge(*models, "--scale", 0.5, "--out", out) == 0
    assert all((w == 3.5).all() and w.dtype == torch.float32 for w in weights(out).values())
    long = NUMBERS**0.5
    assert capsys.readouterr().out.splitlines() == [
        "TaskArithmetic(scale=(0.5,))",
        f"task vector of {models[1]}: length {long:.4g}, {long / 2:.4g} of it goes in",
        f"task vector of {models[2]}: length {4 * long:.4g}, {2 * long:.4g} of it goes in",
        f"cosine of {models[1]} and {models[2]}: 1.0000, 1.0000 merged",
        f"{NUMBERS:,} weights in float32,"
        f" {sum(f.stat().st_size for f in out.iterdir()):,} bytes: {out}",
    ]
    assert [p.name for p in out.parent.iterdir()] == ["here"]


def test_transformers_reads_all_of_it(
    base: Path, child: Callable[..., str], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = child("first", noisy(1)), child("second", noisy(2))
    for method, options in (("Average", ()), ("Awd", ("--alpha", 0.01, "--scale", 1.0, 0.5))):
        out = tmp_path / method
        assert merge(base, first, second, "--method", method, *options, "--out", out) == 0
        loaded: Any = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
        model, info = loaded
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert model.dtype == torch.float32
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert AutoTokenizer.from_pretrained(out).encode("5+5") == [7, 12, 7]
    mean = weights(tmp_path / "Average")
    for name, value in weights(first).items():
        torch.testing.assert_close(mean[name], (value + weights(second)[name]) / 2)


def test_a_merge_says_what_it_came_from(
    base: Path, child: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, models = tmp_path / "merged", [child("one", noisy(1)), child("two", noisy(2))]
    assert look("merge", [str(base), *models, "--out", str(out), "--method", "Awd"]) == 0
    lineage = json.loads((out / LINEAGE).read_text())
    assert lineage["sha256"] == hash_weights(out)
    assert lineage["merged"]["method"].startswith("Awd(scale=(")
    assert lineage["merged"]["papers"] == ["2411.18729"]
    names = {role: entry["name"] for role, entry in lineage["parents"].items()}
    assert names == {"base": "base", "model 1": "one", "model 2": "two"}
    assert lineage["parents"]["model 2"]["sha256"] == hash_weights(Path(models[1]))
    card = (out / CARD).read_text()
    assert (
        "# merged\n" in card
        and str(tmp_path) not in card + json.dumps(lineage)
        and hash_weights(out) in card
    )
    capsys.readouterr()
    assert look("runs", ["lineage", str(out), "--run-dir", str(tmp_path)]) == 0
    told, first = capsys.readouterr().out, hash_weights(Path(models[0]))[:12]
    assert "merged by Awd(" in told and f"model 1 from one, sha256 {first}" in told


def test_one_model_is_itself_bit_by_bit(
    base: Path, child: Callable[..., str], tmp_path: Path
) -> None:
    only = child("only", noisy(3))
    assert merge(base, only, "--scale", 1, "--out", tmp_path / "out") == 0
    assert all(torch.equal(w, weights(tmp_path / "out")[n]) for n, w in weights(only).items())


@pytest.mark.parametrize(
    "method",
    ["Awd", *(pytest.param(m, marks=pytest.mark.slow) for m in ("Average", "TaskArithmetic"))],
)
def test_the_order_of_the_models_changes_nothing(
    method: str, base: Path, child: Callable[..., str], tmp_path: Path
) -> None:
    models = [child(name, noisy(seed)) for seed, name in enumerate("abc")]
    for name, order in (("there", models), ("back", models[::-1])):
        assert merge(base, *order, "--method", method, "--out", tmp_path / name) == 0
    for name, value in weights(tmp_path / "there").items():
        torch.testing.assert_close(value, weights(tmp_path / "back")[name], rtol=1e-6, atol=1e-9)


def test_what_bfloat16_cannot_hold_is_not_lost(child: Callable[..., str], tmp_path: Path) -> None:
    """The models are 1 and the next number up, 1 + 2^-7; their mean has no bfloat16."""
    one, half = torch.bfloat16, 1 + 2**-8
    begin, same = child("begin", filled(0.5, one)), child("one", filled(1.0, one))
    up = child("up", filled(1 + 2**-7, one))
    assert merge(begin, same, up, "--method", "Average", "--out", tmp_path / "out") == 0
    assert all((w == half).all() for w in weights(tmp_path / "out").values())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_what_float32_holds_of_the_base_is_not_lost(
    child: Callable[..., str], tmp_path: Path
) -> None:
    """Base b = 1 + 2^-12, models 2 and 5: b + 0.25 (7 - 2 b) = 1.75 + b / 2 = 2.25 + 2^-13."""
    models = [child("begin", filled(1 + 2**-12)), child("two", filled(2.0))]
    assert merge(*models, child("five", filled(5.0)), "--scale", 0.25, "--out", tmp_path / "o") == 0
    assert all((w == 2.25 + 2**-13).all() for w in weights(tmp_path / "o").values())


def test_a_tied_weight_counts_once(base: Path, child: Callable[..., str]) -> None:
    """Whether or not a folder has it under both of its names."""
    model = child("twice", noisy(4))
    once = prepared(TaskArithmetic(), ModelFolder(str(base)), [ModelFolder(model)])
    found = weights(model)
    save({**found, HEAD: found[EMBEDDING].clone()}, model)
    assert HEAD in weights(model)
    twice = prepared(TaskArithmetic(), ModelFolder(str(base)), [ModelFolder(model)])
    assert once.products == twice.products and once.numbers == twice.numbers == NUMBERS


def test_files_in_parts_are_one_model(
    base: Path, child: Callable[..., str], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    whole, parts = child("whole", noisy(5)), child("parts", noisy(5))
    Path(parts, "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(parts, max_shard_size="100KB")
    assert len(list(Path(parts).glob("*.safetensors"))) > 1
    for model, out in ((whole, "a"), (parts, "b")):
        assert merge(base, model, "--out", tmp_path / out) == 0
    there = weights(tmp_path / "b")
    assert all(torch.equal(w, there[name]) for name, w in weights(tmp_path / "a").items())


def test_a_buffer_is_taken_over_or_refused(
    base: Path, child: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last norm stands for one: no small architecture saves any."""
    monkeypatch.setattr(ModelFolder, "buffers", frozenset({NORM}))
    model = child("model", noisy(6))
    folders = ModelFolder(str(base)), [ModelFolder(model)]
    with pytest.raises(ValueError, match=r"model: its buffer 'model.norm.weight' is not that of"):
        prepared(TaskArithmetic(), *folders)
    save({**weights(model), NORM: weights(base)[NORM]}, model)
    assert prepared(TaskArithmetic(), folders[0], [ModelFolder(model)]).numbers == NUMBERS - 64
    assert merge(base, model, "--out", tmp_path / "out") == 0
    assert torch.equal(weights(tmp_path / "out")[NORM], weights(base)[NORM])


# --- what is refused -----------------------------------------------------------------------------


def edited(file: str, change: Callable[[Any], Any]) -> Callable[[str], None]:
    def edit(folder: str) -> None:
        path = Path(folder) / file
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return edit


def reweighted(change: Callable[[Weights], Weights]) -> Callable[[str], None]:
    return lambda folder: save(change(weights(folder)), folder)


def other_tokens(tokenizer: Any) -> Any:
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["+"], vocabulary["-"] = vocabulary["-"], vocabulary["+"]
    return tokenizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edited("config.json", lambda c: {**c, "architectures": ["MistralForCausalLM"]}),
            "config.json: 'architectures' is ['MistralForCausalLM'], and ['LlamaForCausalLM']",
        ),
        (
            edited("config.json", lambda c: {**c, "rms_norm_eps": 0.5}),
            "config.json: 'rms_norm_eps' is 0.5, and 1e-06 in the base {base}",
        ),
        (
            edited("tokenizer.json", other_tokens),
            "token '+' is 13, and 12 in the base {base}",
        ),
        (
            edited("tokenizer.json", lambda t: {**t, "decoder": None}),
            "tokenizer: 'decoder' is None, and {{'type'",
        ),
        (
            reweighted(lambda w: {n: v for n, v in w.items() if n != NORM}),
            "weight 'model.norm.weight' is absent, and (64,) in the base {base}",
        ),
        (
            reweighted(lambda w: {**w, NORM: w[NORM][:60]}),
            "weight 'model.norm.weight' is (60,), and (64,) in the base {base}",
        ),
        (
            reweighted(lambda w: {**w, NORM: w[NORM] * float("nan")}),
            "it, or the base, has weights that are not finite",
        ),
        (lambda folder: Path(folder, "model.safetensors").write_text("{"), "cannot be read"),
        (lambda folder: Path(folder, "config.json").unlink(), "no model, which has a config.json"),
        (lambda folder: Path(folder, "tokenizer.json").unlink(), "its tokenizer cannot be read"),
    ],
)
def test_models_that_are_not_alike(
    change: Callable[[str], None],
    message: str,
    base: Path,
    child: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = child("good", noisy(7)), child("bad", noisy(8))
    change(bad)
    assert merge(base, good, bad, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"rlstep: {bad}" in said and message.format(base=base) in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "good"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{base}", "{base}"), "{base}: its weights are those of the base {base}; leave it out"),
        (("{base}", "{root}/modle"), "modle: there is no such folder; did you mean '{root}/model'"),
        (("{base}", "{root}/model", "--method", "Avrage"), "the nearest is 'Average'; there are"),
        (("{base}", "{root}/model", "--method", "Awd", "--alfa", "1"), "the nearest is --alpha"),
        (("{base}", "{root}/model", "--steps", "3"), "there is no option --steps"),
        (("{base}", "{root}/model", "--scale", "1", "2"), "merger.scale has 2 numbers for 1 model"),
        (("{base}", "{root}/model", "--scale", "x"), "--scale: invalid float value: 'x'"),
        (("{base}",), "the following arguments are required: MODEL"),
    ],
)
def test_words_that_are_refused(
    words: tuple[str, ...],
    message: str,
    base: Path,
    child: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    child("model", noisy(9))
    told = [word.format(base=base, root=tmp_path) for word in words]
    assert merge(*told, "--out", tmp_path / "out") == 2
    assert message.format(base=base, root=tmp_path) in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_fails_half_way_leaves_nothing(
    base: Path, child: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = child("model", noisy(9))

    def half(found: Weights, folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise RuntimeError("half way")

    monkeypatch.setattr("huggingface_hub.save_torch_state_dict", half)
    with pytest.raises(RuntimeError, match="half way"):
        merge(base, model, "--out", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_not_written_over(
    base: Path, child: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = child("model", noisy(9))
    assert merge(base, model, "--out", model) == 2
    assert "exists, and is not written over; name another with --out" in capsys.readouterr().err


def test_every_field_of_a_merger_is_a_number_or_numbers() -> None:
    """So that it can be an option."""
    import dataclasses

    from rlstep.commands.catalog import plugins

    assert {"Average", "Awd", "TaskArithmetic"} <= {kind.__name__ for kind in plugins("merging")}
    for kind in plugins("merging"):
        assert issubclass(kind, Merger) and dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind):
            values = field.default if isinstance(field.default, tuple) else (field.default,)
            assert values and all(isinstance(value, int | float) for value in values)
