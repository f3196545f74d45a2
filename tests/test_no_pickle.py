"""Nothing of ours unpickles what a file or a peer says, since that runs what it says; nor does it
pickle, so that there is nothing to unpickle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODULES = {
    *("pickle", "_pickle", "pickletools", "cloudpickle", "dill", "joblib", "jsonpickle"),
    *("shelve", "marshal", "copyreg", "ray.cloudpickle", "torch.multiprocessing"),
    *("multiprocessing.connection", "multiprocessing.managers", "multiprocessing.pool"),
    *("concurrent.futures.process", "torch.distributed.rpc", "torch.package"),
}
"""None is imported, nor anything out of it."""

CALLS = {
    **dict.fromkeys(("load", "save"), "torch"),
    **dict.fromkeys(("read_pickle", "to_pickle"), ""),
    **dict.fromkeys(("send_pyobj", "recv_pyobj"), ""),  # zmq
    **dict.fromkeys(("all_gather_object", "gather_object", "scatter_object_list"), ""),
    **dict.fromkeys(("broadcast_object_list", "send_object_list", "recv_object_list"), ""),
    **dict.fromkeys(("save_checkpoint", "load_checkpoint"), ""),  # DeepSpeed
    **dict.fromkeys(("get_fp32_state_dict_from_zero_checkpoint", "zero_to_fp32"), ""),
    **dict.fromkeys(("ProcessPoolExecutor", "Pool", "Manager", "Pipe"), ""),  # multiprocessing
    **dict.fromkeys(("full_load", "unsafe_load"), ""),  # yaml
}
"""By name, and the module that the name is called of; '' for any."""

EXCEPTIONS = {
    ("rlstep/actors/generator/generator.py", "VLLM_ALLOW_INSECURE_SERIALIZATION"): (
        "transfer='ipc' alone: handles of GPU memory, from the learner to the engine beside it on"
        " one machine, which vLLM 0.32 has no other form for"
    ),
}
"""What is found and stays, by file and name, with the reason. Not found by this, since it is not
ours: Ray pickles arguments and results of actors, between processes that have shown its token."""


def found(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that pickles or unpickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from torch import load` is called without its module's name.
            names += [alias.name for alias in node.names if CALLS.get(alias.name) == node.module]
            names += [alias.name for alias in node.names if CALLS.get(alias.name) == ""]
        elif isinstance(node, ast.Call):
            names = list(_called(node))
        elif isinstance(node, ast.Constant) and node.value == "VLLM_ALLOW_INSECURE_SERIALIZATION":
            names = [str(node.value)]
        else:
            continue
        for name in names:
            if _is_known(name) or isinstance(node, ast.Call | ast.Constant) or name in CALLS:
                yield node.lineno, name


def _is_known(module: str) -> bool:
    return any(module == known or module.startswith(f"{known}.") for known in MODULES)


def _called(call: ast.Call) -> Iterator[str]:
    function = call.func
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name in CALLS and CALLS[name] in ("", owner):
        yield f"{owner}.{name}" if owner else name
    if name in ("__import__", "import_module"):
        named = [each.value for each in call.args if isinstance(each, ast.Constant)]
        yield from (str(each) for each in named if _is_known(str(each)))
    for keyword in call.keywords:
        off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not off:
            yield "allow_pickle"
        if keyword.arg == "weights_only" and off:
            yield "weights_only=False"


def test_nothing_of_ours_pickles() -> None:
    unexpected, used = [], set[tuple[str, str]]()
    for path in sorted([*ROOT.glob("rlstep/**/*.py"), *ROOT.glob("recipes/**/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        for line, what in found(ast.parse(path.read_text(), name)):
            if (name, what) in EXCEPTIONS:
                used.add((name, what))
            else:
                unexpected.append(f"{name}:{line}: {what}")
    assert unexpected == []
    assert used == EXCEPTIONS.keys(), "an exception that is no longer needed"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p", "pickle"),
        ("from pickle import loads", "pickle.loads"),
        ("from ray import cloudpickle", "ray.cloudpickle"),
        ("def f():\n    import joblib", "joblib"),
        ("import importlib\nimportlib.import_module('dill')", "dill"),
        ("import torch\ntorch.load('f', weights_only=True)", "torch.load"),
        ("import torch\ntorch.save({}, 'f')", "torch.save"),
        ("from torch import load", "load"),
        ("import numpy as np\nnp.load('f', allow_pickle=True)", "allow_pickle"),
        ("engine.load_checkpoint('f')", "engine.load_checkpoint"),
        ("from torch.distributed import broadcast_object_list", "broadcast_object_list"),
        ("dist.all_gather_object(rows, row)", "dist.all_gather_object"),
        ("frame.to_pickle('f')", "frame.to_pickle"),
        ("socket.recv_pyobj()", "socket.recv_pyobj"),
        ("from multiprocessing.pool import Pool", "multiprocessing.pool.Pool"),
        ("ProcessPoolExecutor(2)", "ProcessPoolExecutor"),
        ("{'VLLM_ALLOW_INSECURE_SERIALIZATION': '1'}", "VLLM_ALLOW_INSECURE_SERIALIZATION"),
    ],
)
def test_it_would_be_found(code: str, name: str) -> None:
    assert name in [what for _, what in found(ast.parse(code))]


@pytest.mark.parametrize(
    "code",
    [
        "import json\njson.load(file)",
        "from safetensors.torch import load_file, save_file",
        "np.load('f', allow_pickle=False)",
        "np.save('f', rows)",
        "import multiprocessing\nmultiprocessing.parent_process()",
        "learner.save('f')",
    ],
)
def test_what_does_not_is_left_alone(code: str) -> None:
    assert list(found(ast.parse(code))) == []
