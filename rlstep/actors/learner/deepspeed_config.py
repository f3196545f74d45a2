"""What DeepSpeed is told, and the optimizer and schedule it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from rlstep.config import LearnerConfig
from rlstep.optimizers.optimizer import Optimizer
from rlstep.optimizers.sgd_sai import Span


def zero_stage(config: LearnerConfig) -> int:
    """The stage that is used.

    bfloat16 needs float32 master weights, which DeepSpeed keeps only with ZeRO; at stage 1 it picks
    an optimizer that fails on a zero gradient.
    """
    return max(config.zero_stage, 2) if config.model.dtype == "bfloat16" else config.zero_stage


def deepspeed_config(config: LearnerConfig) -> dict[str, Any]:
    """DeepSpeed's own settings.

    Gradients accumulate until `step()` is called, which is the update, and are never divided by a
    number of micro-batches: losses are normalised by global counts.
    """
    zero: dict[str, Any] = {"stage": zero_stage(config)}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # Without ZeRO our own optimizer clips, see Checked.
        "gradient_clipping": config.optimizer.gradient_clip if zero["stage"] else 0.0,
        "zero_optimization": zero,
        # DeepSpeed's own CPU Adam is compiled on first use, for most of a minute.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.model.dtype == "bfloat16"},
        "steps_per_print": None,
    }


def frozen_config(config: LearnerConfig) -> dict[str, Any]:
    """The settings of a ZeRO-3 sharded model that is only ever read."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": config.model.dtype == "bfloat16"},
        "steps_per_print": None,
    }


class Checked(torch.optim.Optimizer):
    """Before another optimizer's class: clips, and takes no step from a non-finite gradient.

    DeepSpeed's ZeRO optimizers do both; without ZeRO nobody does. The engine reads `overflow` and
    `_global_grad_norm` after every step, as it does of its own optimizers.
    """

    overflow = False
    _global_grad_norm = 0.0
    clip = 0.0
    """Largest norm; 0 turns clipping off."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        trained = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        self._global_grad_norm = norm.item()
        self.overflow = not math.isfinite(self._global_grad_norm)
        if self.overflow:
            return
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip, norm)
        super().step(closure)


def make_optimizer(config: LearnerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The configured one over what is trainable; matrices decay, biases and norms do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    decay = config.optimizer.weight_decay
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    kind: Any
    kind, options = config.optimizer.torch_class()
    if zero_stage(config) == 0:
        clips = {"clip": config.optimizer.gradient_clip}
        kind = type(f"Checked{kind.__name__}", (Checked, kind), clips)
    return kind(groups, lr=config.optimizer.learning_rate, **options)


def lay_out(config: LearnerConfig, engine: Any) -> None:
    """Tell an optimizer that reads whole tensors where they lie in this rank's flat pieces.

    Raises:
        AttributeError: this DeepSpeed keeps them elsewhere.
    """
    if not config.optimizer.whole_tensors or zero_stage(config) == 0:
        return

    def over_ranks(sums: Tensor) -> Tensor:
        everywhere = sums.to(engine.device)  # an offloaded optimizer's are the CPU's
        dist.all_reduce(everywhere)
        return everywhere

    zero = engine.optimizer
    if zero_stage(config) == 3:
        pairs = zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True)
        layout = {flat: _partitions(tensors) for flat, tensors in pairs}
    else:
        pairs = zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True)
        layout = {flat: [_fragment(tensor) for tensor in tensors] for flat, tensors in pairs}
    zero.optimizer.lay_out(layout, over_ranks)


def _fragment(tensor: Any) -> Span:
    """At ZeRO 1 and 2 one flat row of all tensors is cut into equal parts, a rank each."""
    if tensor._hp_mapping is None:
        return Span(0, 0, tensor.numel())
    address = tensor._hp_mapping.get_hp_fragment_address()
    return Span(address.start, address.numel, tensor.numel())


def _partitions(tensors: Sequence[Any]) -> list[Span]:
    """At ZeRO 3 every tensor is cut into equal parts, of which the last ranks' can be padding."""
    spans, start = [], 0
    for tensor in tensors:
        width = tensor.partition_numel()
        left = tensor.ds_numel - dist.get_rank() * width
        spans.append(Span(start, min(max(left, 0), width), tensor.ds_numel))
        start += width
    return spans


def make_scheduler(config: LearnerConfig, optimizer: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda update: learning_rate_factor(config.optimizer, update))


def set_optimizer(optimizer: Any, scheduler: Any, groups: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer that was loaded the settings of each of its groups, its moments and the
    number of updates as they are; the learning rate is what the schedule makes of it now."""
    rates = [settings["initial_lr"] for settings in groups]
    scheduler.base_lrs = rates
    for group, settings, rate, factor in zip(
        optimizer.param_groups, groups, rates, scheduler.lr_lambdas, strict=True
    ):
        group.update(settings)
        group["lr"] = rate * factor(scheduler.last_epoch)


def learning_rate_factor(config: Optimizer, update: int) -> float:
    """What the learning rate is multiplied by at update 0, 1, 2, ...

    Linear warm-up that is complete at update `warmup_updates - 1` (the first update already moves),
    then constant, or a linear or cosine decay that reaches 0 at `total_updates`.
    """
    if update < config.warmup_updates:
        return (update + 1) / config.warmup_updates
    if config.schedule == "constant":
        return 1.0
    span = config.total_updates - config.warmup_updates
    left = max(0.0, 1.0 - (update - config.warmup_updates) / span)
    return left if config.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))
