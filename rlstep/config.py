"""The configuration: typed, frozen dataclasses, every check at construction.

A recipe is Python that returns a `Config`. Nothing here imports ray, torch, vllm or deepspeed, so
a wrong value is refused before any process starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from rlstep.interfaces import (
    Loss,
    RolloutStrategy,
    SampleBuilder,
    StepLabeller,
    StepSplitter,
    Task,
    Verifier,
)
from rlstep.types import AdvantageSamples, LabelSamples


def at_least(name: str, value: float, smallest: float) -> None:
    """Refuse what is no number, or under its bound.

    Raises:
        TypeError: naming the field.
        ValueError: naming the field and the nearest valid value.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    if not value >= smallest:  # also refuses NaN
        raise ValueError(f"{name} is {value}; the smallest valid value is {smallest}")


def between(name: str, value: float, smallest: float, largest: float) -> None:
    """Refuse what is no number, or outside of its bounds.

    Raises:
        TypeError: naming the field.
        ValueError: naming the field and the nearest valid value.
    """
    at_least(name, value, smallest)
    if value > largest:
        raise ValueError(f"{name} is {value}; the largest valid value is {largest}")


def named(name: str, source: str) -> None:
    """Refuse an empty name of a source of scores.

    Raises:
        ValueError: naming the field.
    """
    if not source:
        raise ValueError(f"{name} is ''; name the step scores, for instance 'prm'")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (peft). `rank` 0 trains the full model."""

    rank: int = 0
    alpha: float = 16.0
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 0)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and in which numbers."""

    path: str
    """A folder, or a Hugging Face hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    lora: LoraConfig = LoraConfig()
    gradient_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule, counted in updates."""

    learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    warmup_updates: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    total_updates: int = 0
    """Where a linear or cosine schedule reaches 0."""

    def __post_init__(self) -> None:
        at_least("optimizer.learning_rate", self.learning_rate, 0.0)
        at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"optimizer.betas is {self.betas}; both lie in [0, 1)")
        at_least("optimizer.warmup_updates", self.warmup_updates, 0)
        at_least("optimizer.gradient_clip", self.gradient_clip, 0.0)
        if self.schedule != "constant":
            at_least("optimizer.total_updates", self.total_updates, self.warmup_updates + 1)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """One model under DeepSpeed. The policy, a PRM and a critic are all learners."""

    model: ModelConfig
    head: Literal["language_model", "token_classification"] = "language_model"
    """A token-classification head starts at zero, so an untrained PRM scores every step 0.5."""
    optimizer: OptimizerConfig = OptimizerConfig()
    reference: Literal["iteration", "initial", "none"] = "iteration"
    """Whose logprobs are ref_logprobs: the learner's own before its first update on a batch, or the
    first model's (a frozen copy, or the adapter switched off). 'none' where no loss reads them."""
    world_size: int = 1
    """DeepSpeed ranks."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: bool = False
    token_budget: int = 16384
    """Padded tokens of one micro-batch; sets memory, never the result."""
    mini_batches: int = 1
    """Updates per pass over a batch of samples."""
    epochs: int = 1
    threads: int = 2
    """CPU threads of each rank (ignored on GPUs)."""
    skipped_updates_limit: int = 5
    """So many updates in a row without a finite loss and gradient end the run."""

    def __post_init__(self) -> None:
        at_least("learner.skipped_updates_limit", self.skipped_updates_limit, 1)
        if self.offload_optimizer:
            at_least("learner.zero_stage (with offload_optimizer)", self.zero_stage, 1)
        at_least("learner.world_size", self.world_size, 1)
        at_least("learner.token_budget", self.token_budget, 1)
        at_least("learner.mini_batches", self.mini_batches, 1)
        at_least("learner.epochs", self.epochs, 1)
        at_least("learner.threads", self.threads, 1)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The vLLM engines that sample."""

    replicas: int = 1
    """Independent engines, each with the whole policy."""
    tensor_parallel_size: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the engines serve in; published weights are cast to it."""
    context: int = 2048
    """Most tokens of prompt and completion together."""
    concurrency: int = 256
    """Most completions decoded at the same time, per replica."""
    prefill_tokens: int = 8192
    """Most tokens of one scheduling round."""
    kv_cache_mib: int = 256
    """Memory for keys and values; 0 lets vLLM take gpu_memory_utilization of the GPU."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory for engine and cache, where kv_cache_mib is 0."""
    block_size: int = 32
    """Tokens of a cache block: only whole blocks of a prefix are shared (vLLM's CPU default of 128
    would never share a short prompt)."""
    enforce_eager: bool = True
    """False compiles and captures graphs: slower to start, faster on GPUs."""
    threads: int = 1
    """CPU threads of each engine (ignored on GPUs)."""
    transfer: Literal["rlstep_gloo", "nccl", "ipc"] = "rlstep_gloo"
    """How weights arrive: gloo anywhere, nccl between GPUs, ipc on one shared GPU."""
    parity_tolerance: float = 1e-4
    """Largest difference of a probe token's logprob between generator and learner after a sync, in
    nats. 1e-4 holds in float32; bfloat16 needs about 0.1."""
    deadline_s: float = 300.0
    """Longest wait without an answer; then the replica is taken as lost."""
    max_recoveries: int = 3
    """Replicas recreated in one run before it ends."""

    def __post_init__(self) -> None:
        for name in ("replicas", "tensor_parallel_size", "context", "concurrency", "threads"):
            at_least(f"generator.{name}", getattr(self, name), 1)
        for name in ("prefill_tokens", "block_size"):
            at_least(f"generator.{name}", getattr(self, name), 1)
        for name in ("kv_cache_mib", "max_recoveries", "parity_tolerance"):
            at_least(f"generator.{name}", getattr(self, name), 0)
        at_least("generator.deadline_s", self.deadline_s, 1.0)
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise ValueError(
                f"generator.gpu_memory_utilization is {self.gpu_memory_utilization}; it lies in"
                " (0, 1]"
            )


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """The actors that verify answers."""

    replicas: int = 1
    processes: int = 1
    """Verifier processes of each replica."""
    deadline_s: float = 5.0
    """Longest time for one verdict; then its process is killed and the item is a Failure."""

    def __post_init__(self) -> None:
        at_least("scorer.replicas", self.replicas, 1)
        at_least("scorer.processes", self.processes, 1)
        at_least("scorer.deadline_s", self.deadline_s, 0.01)


@dataclass(frozen=True, kw_only=True)
class PrmConfig:
    """A process reward model trained in the loop, on labels that the policy itself provides."""

    learner: LearnerConfig
    """With head 'token_classification'; it usually starts from the policy's own weights."""
    loss: Loss
    labeller: StepLabeller

    def __post_init__(self) -> None:
        if self.learner.head != "token_classification":
            raise ValueError(
                f"prm.learner.head is {self.learner.head!r}; a PRM needs 'token_classification'"
            )
        if self.loss.takes is not LabelSamples:
            raise ValueError(f"prm.loss {type(self.loss).__name__} takes no step labels")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Greedy accuracy on held-out problems, before the first iteration, by cadence, and after."""

    every: int = 0
    """Iterations between evaluations; 0 evaluates only before the first and after the last."""
    problems: int = 0
    """How many of the held-out problems; 0 takes all."""
    max_tokens: int = 0
    """Longest completion; 0 takes the rollouts' own limit."""
    prm_problems: int = 256
    """Held-out problems whose sampled steps measure the PRM, where the task has a step oracle."""

    def __post_init__(self) -> None:
        for name in ("every", "problems", "max_tokens", "prm_problems"):
            at_least(f"evaluation.{name}", getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """GPUs of one actor of each role; 0 runs it on the CPU. Shares of less than 1 are one GPU
    together, if they add up to at most 1: everything on one GPU is 0.4, 0.4 and 0.2, say."""

    generator_gpus: float = 0.0
    policy_gpus: float = 0.0
    prm_gpus: float = 0.0
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK"] = "PACK"
    """Ray's placement strategy for all actors of the run."""

    def __post_init__(self) -> None:
        for name in ("generator_gpus", "policy_gpus", "prm_gpus"):
            at_least(f"placement.{name}", getattr(self, name), 0.0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. The plug-ins stand here themselves, with their hyper-parameters as fields."""

    name: str
    """Of the run; its directory is <run_dir>/<name>."""
    task: Task
    policy: LearnerConfig
    loss: Loss
    samples: SampleBuilder
    """Scored groups to what the loss takes."""
    rollouts: RolloutStrategy
    splitter: StepSplitter
    verifier: Verifier
    generator: GeneratorConfig = GeneratorConfig()
    scorer: ScorerConfig = ScorerConfig()
    prm: tuple[PrmConfig, ...] = ()
    """None or one."""
    evaluation: EvaluationConfig = EvaluationConfig()
    placement: PlacementConfig = PlacementConfig()
    iterations: int = 100
    train_seconds: float = 0.0
    """Start no iteration after this many seconds of training; 0 sets no limit."""
    prompts_per_iteration: int = 64
    max_prompt_tokens: int = 512
    """Longer prompts are dropped when the task is loaded, and counted."""
    max_policy_lag: int = 0
    """How many versions older than the policy a trained sample may be. 0 is synchronous."""
    checkpoint_every: int = 0
    """Iterations between checkpoints; 0 saves only at the end (and when the run is stopped)."""
    seed: int = 0
    run_dir: str = ""
    """Absolute. Empty: the environment variable RLSTEP_RUN_DIR, or a default that is printed."""
    resume: bool = False
    """Continue from the newest valid checkpoint of the run with this name."""
    deadline_s: float = 600.0
    """Longest wait for any verb of a learner."""

    def __post_init__(self) -> None:
        check_types(self, "")
        for name in ("iterations", "max_policy_lag", "train_seconds", "checkpoint_every", "seed"):
            at_least(name, getattr(self, name), 0)
        at_least("prompts_per_iteration", self.prompts_per_iteration, 1)
        at_least("max_prompt_tokens", self.max_prompt_tokens, 1)
        at_least("deadline_s", self.deadline_s, 1.0)
        self._check_samples()
        self._check_sizes()
        self._check_transfer()
        if self.run_dir and not self.run_dir.startswith("/"):
            raise ValueError(f"run_dir is {self.run_dir!r}; it must be absolute, like /data/runs")

    def _check_samples(self) -> None:
        loss, samples = self.loss, self.samples
        if loss.takes is not samples.makes:
            raise ValueError(
                f"loss {type(loss).__name__} takes {loss.takes.__name__}, but samples"
                f" {type(samples).__name__} makes {samples.makes.__name__}"
            )
        produced = {"outcome"} | self.rollouts.scores | {"prm" for _ in self.prm}
        missing = samples.sources - produced
        if "prm" in missing:
            raise ValueError(
                f"samples {type(samples).__name__} reads step scores of 'prm', but prm is empty;"
                " configure one, or choose another source"
            )
        if missing:
            raise ValueError(
                f"samples {type(samples).__name__} reads scores of {_listed(missing)}, which"
                " nothing in this run gives to the rollouts it trains on; they have"
                f" {_listed(produced)}"
            )
        if samples.makes is AdvantageSamples and self.rollouts.sampling.truncated:
            raise ValueError(
                "rollouts.sampling cuts the support (top_p < 1 or top_k > 0), where the sampler's"
                " logprobs are another distribution's; a policy gradient needs top_p = 1, top_k = 0"
            )

    def _check_sizes(self) -> None:
        if len(self.prm) > 1:
            raise ValueError(f"prm has {len(self.prm)} entries; at most 1 is valid")
        parts, prompts = self.policy.mini_batches, self.prompts_per_iteration
        if prompts % parts:
            nearest = max(parts, round(prompts / parts) * parts)
            raise ValueError(
                f"prompts_per_iteration is {prompts}, not divisible by policy.mini_batches {parts};"
                f" the nearest valid value is {nearest}"
            )
        sampling, evaluated = self.rollouts.sampling, self.evaluation.max_tokens
        for name, tokens in (
            ("rollouts.sampling.max_tokens", sampling.max_tokens),
            ("evaluation.max_tokens", evaluated),
        ):
            longest = self.max_prompt_tokens + tokens
            if longest > self.generator.context:
                raise ValueError(
                    f"max_prompt_tokens {self.max_prompt_tokens} + {name} {tokens} exceed"
                    f" generator.context {self.generator.context}; the smallest valid value is"
                    f" {longest}"
                )
        if evaluated:
            at_least("evaluation.max_tokens (or 0)", evaluated, max(1, sampling.min_tokens))

    def _check_transfer(self) -> None:
        """vLLM's nccl engine sends nothing, without an error, where there is no GPU (0.32)."""
        gpus = min(self.placement.generator_gpus, self.placement.policy_gpus)
        if self.generator.transfer != "rlstep_gloo" and not gpus:
            raise ValueError(
                f"generator.transfer is {self.generator.transfer!r}, but placement gives the"
                " generator or the policy no GPU; the nearest valid value is 'rlstep_gloo'"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def check_types(value: Any, path: str) -> None:
    """Refuse values of a wrong plain type anywhere in a tree of dataclasses.

    Raises:
        TypeError: naming the field and the type it needs.
        ValueError: naming the field and the nearest valid choice.
    """
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        name = f"{path}.{f.name}" if path else f.name
        entry = getattr(value, f.name)
        _check_entry(name, entry, hints[f.name])
        for i, item in enumerate(entry if isinstance(entry, tuple) else (entry,)):
            if dataclasses.is_dataclass(item):
                check_types(item, f"{name}.{i}" if isinstance(entry, tuple) else name)


def _check_entry(name: str, entry: Any, hint: Any) -> None:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if (type(entry), entry) not in [(type(choice), choice) for choice in choices]:
            raise ValueError(
                f"{name} is {entry!r}; it is one of {', '.join(map(repr, choices))}"
                f" (nearest: {_nearest(entry, choices)!r})"
            )
        return
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Union, types.UnionType) or not isinstance(kind, type):
        return
    wanted = (int, float) if kind is float else (kind,)
    if not isinstance(entry, wanted) or (isinstance(entry, bool) and kind is not bool):
        raise TypeError(f"{name} is {entry!r}; it must be of type {kind.__name__}")


def _nearest(entry: Any, choices: tuple[Any, ...]) -> Any:
    if isinstance(entry, int | float) and isinstance(choices[0], int):
        return min(choices, key=lambda choice: abs(choice - entry))
    names = {str(choice): choice for choice in choices}
    return names[difflib.get_close_matches(str(entry), names, 1, 0.0)[0]]
