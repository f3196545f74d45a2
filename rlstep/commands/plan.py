"""What `--dry-run` prints: the resolved configuration, the placement, memory by role."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rlstep.benchmarks.benchmark_config import BenchmarkConfig, Recipe
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.fit_config import FitConfig
from rlstep.interfaces import StepModel

_GIB = 1 << 30


def print_plan(config: Recipe, found: Sequence[tuple[str, str]] = ()) -> None:
    """Print the plan of a run. Starts nothing and loads no ray, vllm or deepspeed.

    Args:
        found: what `preflight` found, by what it looked at.
    """
    from rich.console import Console
    from rich.pretty import Pretty
    from rich.table import Table

    console = Console()
    console.print(Pretty(config, expand_all=True))
    table = Table(title="Placement and memory (weights, gradients, optimizer; no activations)")
    for heading in ("role", "actors", "GPUs each", "parameters", "GiB each"):
        table.add_column(heading, justify="left" if heading == "role" else "right")
    for row in rows(config):
        table.add_row(*row)
    console.print(table)
    for name, text in found:
        console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)


def rows(config: Recipe) -> list[tuple[str, str, str, str, str]]:
    """One row a role: name, actors, GPUs of each, parameters, memory of each."""
    if isinstance(config, FitConfig):
        if not config.learner.model.path:
            return [_row("learner", config.learner.world_size, config.gpus, None, None)]
        return [_learner_row("learner", config.learner, config.gpus)]
    if isinstance(config, BenchmarkConfig):
        return [_step_model_row(config.model, config.gpus)]
    place = config.placement
    size = _all(config.policy.model)
    serving = 2 if config.generator.dtype == "bfloat16" else 4
    cache = config.generator.kv_cache_mib / 1024
    engine = None if size is None else size * serving / config.generator.tensor_parallel_size
    table = [
        _row("generator", config.generator.replicas, place.generator_gpus, size, engine, cache),
        _learner_row("policy learner", config.policy, place.policy_gpus),
    ]
    table += [_step_model_row(model, place.step_model_gpus) for model in config.step_models]
    return [*table, _row("scorer", config.scorer.replicas, 0.0, None, None)]


def _learner_row(name: str, config: LearnerConfig, gpus: float) -> tuple[str, str, str, str, str]:
    sizes, other = parameters(config.model), config.reference_model
    reference = parameters(other) if other else (0, 0)
    if sizes is None or reference is None:
        return _row(name, config.world_size, gpus, _all(config.model), None)
    need = learner_bytes(config, *sizes) + reference_bytes(config, reference[0])
    return _row(name, config.world_size, gpus, _all(config.model), need)


def _step_model_row(model: StepModel, gpus: float) -> tuple[str, str, str, str, str]:
    learner, engine = model.learner, model.engine
    if model.loss is not None:
        return _learner_row(f"{model.source} learner", learner, gpus)
    size = _all(learner.model)
    need = None if size is None else frozen_bytes(model, size)
    if engine is None:
        return _row(f"{model.source} (frozen)", learner.world_size, gpus, size, need)
    cache = engine.kv_cache_mib / 1024
    return _row(f"{model.source} (pooling)", engine.replicas, gpus, size, need, cache)


def frozen_bytes(model: StepModel, parameters: int) -> float:
    """Bytes one actor holds of a model that is only read: its weights, or its share of them."""
    learner, engine = model.learner, model.engine
    width = 2 if learner.model.dtype == "bfloat16" else 4
    if engine is not None:
        return parameters * width / engine.tensor_parallel_size
    return parameters * width / (learner.world_size if learner.zero_stage >= 3 else 1)


def reference_bytes(config: LearnerConfig, parameters: int) -> float:
    """Bytes one rank holds of its reference model: its weights, under ZeRO-3 its share of them."""
    if config.reference_model is None:
        return 0.0
    width = 2 if config.reference_model.dtype == "bfloat16" else 4
    return parameters * width / (config.world_size if config.zero_stage >= 3 else 1)


def learner_bytes(config: LearnerConfig, parameters: int, trained: int) -> float:
    """Bytes one rank holds in weights, gradients and optimizer, and in a frozen copy of the start.

    ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, section 3): stage 1 splits what the optimizer
    keeps (see `optimizer_bytes`) over the ranks, 2 the gradients too, 3 everything.

    Args:
        parameters: of the whole model, adapters included.
        trained: those that have gradients: all, or the adapters'.
    """
    width = 2 if config.model.dtype == "bfloat16" else 4
    ranks = config.world_size
    optimizer = optimizer_bytes(config)
    stage = config.zero_stage
    weights = width / (ranks if stage >= 3 else 1)
    gradients = width / (ranks if stage >= 2 else 1)
    states = 0.0 if config.offload_optimizer else optimizer / (ranks if stage >= 1 else 1)
    reference = weights if config.reference == "initial" and not config.model.adapters else 0.0
    return parameters * (weights + reference) + trained * (gradients + states)


def optimizer_bytes(config: LearnerConfig) -> int:
    """Of each trained parameter: its moments, 4 bytes each, and in bfloat16 its fp32 master weight.
    AdamW has two moments: 8 bytes, in bfloat16 12."""
    return 4 * config.optimizer.moments + (4 if config.model.dtype == "bfloat16" else 0)


def _row(
    name: str,
    actors: int,
    gpus: float,
    size: int | None,
    need: float | None,
    extra_gib: float = 0.0,
) -> tuple[str, str, str, str, str]:
    memory = "unknown" if need is None else f"{need / _GIB + extra_gib:.2f}"
    return name, str(actors), f"{gpus:g}", "-" if size is None else f"{size:,}", memory


@cache
def parameters(model: ModelConfig) -> tuple[int, int] | None:
    """Numbers of all and of trained parameters, counted on empty weights.

    None where the model is not at hand: no such folder, or a hub model that was never downloaded.
    """
    from rlstep.actors.learner.models import empty_model

    try:
        empty = empty_model(model.path)
    except (OSError, ValueError):
        return None
    if adapter := model.adapters:
        empty = adapter.put_on(empty)
    sizes = [(p.numel(), p.requires_grad) for p in empty.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def _all(model: ModelConfig) -> int | None:
    sizes = parameters(model)
    return None if sizes is None else sizes[0]
