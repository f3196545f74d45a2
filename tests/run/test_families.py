"""Every family that README's table names is trained, served, exported and read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.actors.families import FAMILIES, make_family
from tests.run import run_kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPE = run_kit.ROOT / "tests" / "family_recipe.py"
SERVED = Path(__file__).with_name("served_export.py")
CASES: list[tuple[str, dict[str, object], tuple[str, ...]]] = [
    *[(family, {}, ()) for family in FAMILIES],  # as released, float32
    ("Llama", {"tied": True}, ()),
    *[(family, {"tied": False}, ()) for family in ("GPT2", "Falcon")],
    *[(family, {"dtype": "bfloat16"}, ()) for family in ("Qwen2", "GPT2")],
    *[(family, {}, ("--policy.model.lora.rank", "4")) for family in ("Llama", "Mistral")],
    ("Qwen3", {}, ("--policy.model.lora.rank", "4", "--generator.transfer", "adapter")),
]
FLAGS = {
    "Gemma2": ("--policy.model.attention", "eager"),  # 'sdpa' leaves its soft cap out
    "Falcon": ("--policy.packing", "False"),  # its sequences see each other
}
BFLOAT16 = (
    *("--policy.model.dtype", "bfloat16", "--generator.dtype", "bfloat16"),
    *("--generator.parity-tolerance", "0.2"),
)


@pytest.mark.parametrize(
    ("family", "model", "flags"),
    CASES,
    ids=["-".join(map(str, (f, *m.values(), *a[1:2]))) for f, m, a in CASES],
)
def test_two_iterations_and_the_export(
    tmp_path: Path,
    family: str,
    model: dict[str, object],
    flags: tuple[str, ...],
) -> None:
    from rlstep.tasks.arithmetic import arithmetic_tokenizer

    path = make_family(tmp_path / "start", family, **model)  # type: ignore[arg-type]
    arithmetic_tokenizer().save_pretrained(path)
    dtype = str(model.get("dtype", "float32"))
    half = BFLOAT16 if dtype == "bfloat16" else ()
    options = (*FLAGS.get(family, ()), *flags, *half)
    run_kit.train(path, tmp_path / "runs", *options, recipe=RECIPE)
    run = tmp_path / "runs" / "family"
    records = run_kit.records(run, "metrics.jsonl")
    parity = [r["sync/parity_error"] for r in records if "sync/parity_error" in r]
    tolerance = 0.2 if half else 1e-4
    assert len(parity) == 2 and max(parity) <= tolerance
    assert sum(r.get("train/updates", 0) for r in records) >= 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] is True and summary["generators_recreated"] == 0
    served = subprocess.run(
        [sys.executable, str(SERVED), str(run / "export"), dtype],
        env={
            **os.environ,
            "PYTHONPATH": str(run_kit.ROOT),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert served.returncode == 0, served.stderr[-3000:]
    difference = float(served.stdout.rpartition("difference")[2])
    print(f"{family}: parity {max(parity):.1e}, export {difference:.1e} nats")
    assert difference <= tolerance
