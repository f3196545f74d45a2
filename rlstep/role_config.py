"""The parts of the configuration for the roles beside the learners, and for their places."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from rlstep.checks import at_least, between

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Of the CPU engine's attention (vLLM 0.32)."""
SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of LoRA adapters, which vLLM (0.32) makes room for."""
PROBE_TOKENS = 8
"""Sampled from each replica after every weight sync, and compared with the learner's logprobs."""


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The vLLM engines that sample."""

    replicas: int = 1
    """Independent engines, each with the whole policy."""
    tensor_parallel_size: int = 1
    """GPUs that one engine is split over."""
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
    transfer: Literal["rlstep_gloo", "nccl", "ipc", "adapter"] = "rlstep_gloo"
    """How weights arrive: gloo anywhere, nccl between GPUs, ipc on one shared GPU, all with
    adapters merged in; or LoRA's adapters alone, which vLLM applies to the first model."""
    parity_tolerance: float = 1e-4
    """Largest difference of a probe token's logprob between generator and learner after a sync, in
    nats. 1e-4 holds in float32 (at the depth of the longest sequence 1e-3 is allowed with it);
    bfloat16 needs about 0.1."""
    deadline_s: float = 300.0
    """Longest time in which an engine that was asked gets nothing done (a long queue is no fault),
    and longest wait for an answer to anything else; then the replica is taken as lost."""
    sync_silence_s: float = 30.0
    """Longest time of a weight sync over gloo in which no weight goes through: a peer that has
    vanished from the network says nothing itself."""
    max_recoveries: int = 3
    """Replicas recreated within 60 minutes; with one more the run ends."""
    door_port: int = 0
    """Where other programs of the driver's machine may sample: a port of 127.0.0.1 with POST
    /inference/v1/generate, for who knows the token in the environment variable RLSTEP_DOOR_TOKEN;
    0: nowhere."""

    def __post_init__(self) -> None:
        for name in ("replicas", "tensor_parallel_size", "context", "concurrency", "threads"):
            at_least(f"generator.{name}", getattr(self, name), 1)
        for name in ("prefill_tokens", "block_size"):
            at_least(f"generator.{name}", getattr(self, name), 1)
        for name in ("kv_cache_mib", "max_recoveries", "parity_tolerance"):
            at_least(f"generator.{name}", getattr(self, name), 0)
        for name in ("deadline_s", "sync_silence_s"):
            at_least(f"generator.{name}", getattr(self, name), 1.0)
        between("generator.door_port", self.door_port, 0, 65535)
        if self.context < (least := self.probe_prompt + PROBE_TOKENS):
            raise ValueError(
                f"generator.context is {self.context}, and the probe of every weight sync takes"
                f" {self.probe_prompt} tokens (two cache blocks of generator.block_size"
                f" {self.block_size}, and one) and {PROBE_TOKENS}; the smallest valid value is"
                f" {least}"
            )
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise ValueError(
                f"generator.gpu_memory_utilization is {self.gpu_memory_utilization}; it lies in"
                " (0, 1]"
            )

    @property
    def probe_prompt(self) -> int:
        """Fewest tokens of the prompt of a weight sync's probe: more than two blocks, so that a
        prefix cache that survived the sync would be seen."""
        return 2 * self.block_size + 1


@dataclass(frozen=True, kw_only=True)
class DiffusionGeneratorConfig(GeneratorConfig):
    """Loops of torch that unmask canvases, for a policy of head 'masked_diffusion', which vLLM
    (0.32) does not serve. What is an engine's own, its cache, graphs and splitting, they do not
    have."""

    kv_cache_mib: int = 0
    """None."""
    block: int = 8
    """Tokens of a block of the completion. Blocks are unmasked left to right; inside of one those
    tokens come first that the model is surest of. 1 writes left to right."""
    tokens_per_step: int = 1
    """Tokens of a block that one forward of the model makes known, each drawn as if the others were
    not: more is faster, and less exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("generator.block", self.block, 1)
        between("generator.tokens_per_step", self.tokens_per_step, 1, self.block)
        usual = {field.name: field.default for field in fields(self)}
        for name in _OF_ENGINES:
            if (value := getattr(self, name)) != usual[name]:
                raise ValueError(
                    f"generator.{name} is {value!r}, and a diffusion generator has none; the only"
                    f" valid value is {usual[name]!r}"
                )

    @property
    def probe_prompt(self) -> int:
        """There is no prefix cache: one token will do."""
        return 1


_OF_ENGINES = (
    "tensor_parallel_size",
    "prefill_tokens",
    "kv_cache_mib",
    "gpu_memory_utilization",
    "block_size",
    "enforce_eager",
    "transfer",
    "door_port",
)
"""Fields of `GeneratorConfig` that a diffusion generator has no use for."""


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """The actors that verify answers."""

    replicas: int = 1
    """Independent actors, each with verifier processes of its own."""
    processes: int = 1
    """Verifier processes of each replica."""
    deadline_s: float = 5.0
    """Longest time for one verdict, or for an environment's answer to one turn; then its process is
    killed and the item is a Failure."""
    episodes: int = 16
    """Of an environment, how many are answered at the same time in each of its processes (as many
    as verifier processes)."""

    def __post_init__(self) -> None:
        at_least("scorer.replicas", self.replicas, 1)
        at_least("scorer.processes", self.processes, 1)
        at_least("scorer.episodes", self.episodes, 1)
        at_least("scorer.deadline_s", self.deadline_s, 0.01)


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """GPUs of one actor of each role; 0 runs it on the CPU. Shares of less than 1 are one GPU
    together, if they add up to at most 1: everything on one GPU is 0.4, 0.4 and 0.2, say."""

    generator_gpus: float = 0.0
    """Of each engine, by generator.replicas."""
    policy_gpus: float = 0.0
    """Of each rank of the policy's learner, by policy.world_size."""
    step_model_gpus: float = 0.0
    """Of each rank or engine of every step model."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK"] = "PACK"
    """Ray's placement strategy for all actors of the run."""

    def __post_init__(self) -> None:
        for name in ("generator_gpus", "policy_gpus", "step_model_gpus"):
            at_least(f"placement.{name}", getattr(self, name), 0.0)
