"""The configuration of one learner: model, optimizer, parallelism, batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlstep.adapters.adapter import Adapter, NoAdapter
from rlstep.adapters.lora import LoraConfig as LoraConfig
from rlstep.aggregation.aggregator import Aggregator
from rlstep.aggregation.mean import Mean
from rlstep.checks import at_least, between, positive
from rlstep.optimizers.adamw import OptimizerConfig as OptimizerConfig
from rlstep.optimizers.optimizer import Optimizer


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and in which numbers."""

    path: str
    """A folder, or a Hugging Face hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What weights are held in; bfloat16 has float32 master weights in the optimizer."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """transformers' implementation of it; 'flash_attention_2' needs a GPU and its package."""
    lora: LoraConfig = LoraConfig()
    """Low-rank adapters, or none."""
    adapter: Adapter = NoAdapter()
    """Adapters of another kind, in LoRA's place."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        if self.adapter.present and self.lora.present:
            raise ValueError(
                f"model.adapter is {type(self.adapter).__name__}, and model.lora.rank is"
                f" {self.lora.rank}: a model has one kind; the only valid value of the latter is 0"
            )

    @property
    def adapters(self) -> Adapter | None:
        """What is trained in the place of the model's own weights; None: they are."""
        return next((each for each in (self.adapter, self.lora) if each.present), None)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """One model under DeepSpeed. The policy, a PRM and a critic are all learners."""

    model: ModelConfig
    """What is trained."""
    head: Literal[
        "language_model",
        "token_classification",
        "two_label",
        "two_token",
        "process_reward",
        "masked_diffusion",
    ] = "language_model"
    """What the model gives every token: the logprob of it, or a number whose sigmoid is a score.
    'token_classification' has one label; 'two_label' is the second label's logit minus the first's
    (heads of one linear layer, which start at zero: an untrained PRM scores every step 0.5);
    'two_token' is a language model's logit of one token minus another's; 'process_reward' is
    Qwen2.5-Math-PRM's head of two layers, which a folder must have. 'masked_diffusion' is a policy
    that reads both ways (transformers' masked language models), see rlstep/diffusion."""
    elbo_samples: int = 4
    """Of a 'masked_diffusion' head: random maskings of every trained sequence, whose mean is its
    log-likelihood's lower bound. More take time and no memory."""
    label_tokens: tuple[str, str] = (" +", " -")
    """Texts of the good and the bad token of a 'two_token' head, each one token of its model."""
    optimizer: Optimizer = OptimizerConfig()
    """What makes updates of gradients: AdamW, or another of rlstep/optimizers; its rates and
    schedule."""
    reference: Literal["iteration", "initial", "model", "none"] = "iteration"
    """Whose logprobs are ref_logprobs, and from whom divergences are: the learner itself before its
    first update on a batch (it has no divergences), the first model (a frozen copy, or the adapter
    switched off), or another, `reference_model`. 'none' where no loss reads them."""
    reference_model: ModelConfig | None = None
    """With reference 'model' which one: a teacher, or what an earlier run began with. It reads the
    learner's own token ids, is never trained, and is sharded as the learner is."""
    world_size: int = 1
    """DeepSpeed ranks."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed splits over the ranks: nothing (0), the optimizer (1), gradients too (2),
    weights too (3)."""
    aggregation: Aggregator = Mean()
    """How the ranks' gradients become one: their mean, or another of rlstep/aggregation, which
    holds where one rank of several computes nonsense. Those need ZeRO stage 0 and float32."""
    offload_optimizer: bool = False
    """Keep the optimizer in the CPU's memory; it needs a ZeRO stage of at least 1."""
    token_budget: int = 16384
    """Padded tokens of one micro-batch; sets memory, never the result."""
    packing: bool = True
    """Several short sequences share a row of a micro-batch, which saves most of the padding and
    never changes the result. A model that cannot tell them apart is refused; it needs False."""
    shared_prefixes: bool = False
    """Compute a prefix that several sequences of a micro-batch have (a prompt, a pair's first
    steps) once for all of them, and count it once in `token_budget`. It never changes the result,
    and saves the more time and memory the longer prefixes are beside what follows; where nothing
    is shared it does nothing. It needs attention 'sdpa' and layers that see all that came before:
    off by default, because it refuses a model with windows, or with anything else that the layout
    would change. On GPUs no kernel for variable lengths is wired to it."""
    mini_batches: int = 1
    """Updates per pass over a batch of samples."""
    epochs: int = 1
    """Passes over each batch of samples."""
    threads: int = 2
    """CPU threads of each rank (ignored on GPUs)."""
    skipped_updates_limit: int = 5
    """So many updates in a row without a finite loss and gradient end the run."""
    statistics_every: int = 0
    """Batches of samples (of a policy: iterations) between two looks at how its weights are spread
    and moved since, and where the batch's logprobs went; 0 never looks. A look costs one forward of
    the batch, or two, and a copy of the trained weights is kept in the host's memory."""

    def __post_init__(self) -> None:
        at_least("learner.skipped_updates_limit", self.skipped_updates_limit, 1)
        if self.offload_optimizer:
            at_least("learner.zero_stage (with offload_optimizer)", self.zero_stage, 1)
        at_least("learner.world_size", self.world_size, 1)
        at_least("learner.token_budget", self.token_budget, 1)
        at_least("learner.mini_batches", self.mini_batches, 1)
        at_least("learner.epochs", self.epochs, 1)
        at_least("learner.statistics_every", self.statistics_every, 0)
        at_least("learner.threads", self.threads, 1)
        at_least("learner.elbo_samples", self.elbo_samples, 1)
        if self.head == "masked_diffusion":
            self._check_diffusion()
        self._check_reference()
        self._check_aggregation()
        if self.shared_prefixes:
            self._check_sharing()
        if self.head == "two_token" and self.label_tokens[0] == self.label_tokens[1]:
            raise ValueError(f"learner.label_tokens is {self.label_tokens}; the two must differ")

    def _check_aggregation(self) -> None:
        if (needed := self.aggregation.needs_ranks) == 1:
            return
        name = type(self.aggregation).__name__
        at_least(f"learner.world_size (with aggregation {name})", self.world_size, needed)
        if self.zero_stage:
            raise ValueError(
                f"learner.zero_stage is {self.zero_stage}, and aggregation {name} needs the whole"
                " gradient of every rank; the only valid value is 0"
            )
        if self.model.dtype == "bfloat16":
            raise ValueError(
                f"learner.model.dtype is 'bfloat16', which is trained with ZeRO, and aggregation"
                f" {name} needs the whole gradient of every rank; the only valid value is 'float32'"
            )

    def _check_sharing(self) -> None:
        for name, model in (("model", self.model), ("reference_model", self.reference_model)):
            if model is not None and model.attention != "sdpa":
                raise ValueError(
                    f"learner.{name}.attention is {model.attention!r}, which shares no prefixes;"
                    " with learner.shared_prefixes the only valid value is 'sdpa'"
                )

    def _check_diffusion(self) -> None:
        """Its canvases are equally long, and every token of one sees all others."""
        for name, value, valid in (
            ("packing", self.packing, False),
            ("shared_prefixes", self.shared_prefixes, False),
            ("model.lora.rank", self.model.lora.rank, 0),
            ("model.adapter", self.model.adapter, NoAdapter()),
            ("statistics_every", self.statistics_every, 0),
        ):
            if value != valid:
                raise ValueError(
                    f"learner.{name} is {value!r}, which a learner of head 'masked_diffusion' does"
                    f" not have; the only valid value is {valid!r}"
                )

    def _check_reference(self) -> None:
        if (self.reference == "model") != (self.reference_model is not None):
            said = "missing" if self.reference_model is None else "given"
            raise ValueError(
                f"learner.reference is {self.reference!r}, and learner.reference_model is {said};"
                " the two go together"
            )
        if self.reference_model is not None and self.reference_model.lora.rank:
            raise ValueError(
                f"learner.reference_model.lora.rank is {self.reference_model.lora.rank}, and a"
                " reference has no adapters; the only valid value is 0"
            )
        if self.reference_model is not None and self.reference_model.adapter.present:
            raise ValueError(
                "learner.reference_model.adapter is"
                f" {type(self.reference_model.adapter).__name__}, and a reference has no adapters;"
                " the only valid value is NoAdapter"
            )

    @property
    def fixed_reference(self) -> ModelConfig | None:
        """The model that stays the reference for the whole run, None for one that moves along, or
        for none."""
        return self.model if self.reference == "initial" else self.reference_model


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """vLLM engines that read whole sequences, for models that are never trained."""

    replicas: int = 1
    """Independent engines, each with the whole model."""
    tensor_parallel_size: int = 1
    """GPUs that one engine is split over."""
    context: int = 4096
    """Most tokens of one sequence."""
    concurrency: int = 64
    """Most sequences in one scheduling round, per replica."""
    prefill_tokens: int = 16384
    """Most tokens of one scheduling round."""
    kv_cache_mib: int = 256
    """Memory for keys and values; 0 lets vLLM take gpu_memory_utilization of the GPU."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory for engine and cache, where kv_cache_mib is 0."""
    enforce_eager: bool = True
    """False compiles and captures graphs: slower to start, faster on GPUs."""

    def __post_init__(self) -> None:
        for name in ("replicas", "tensor_parallel_size", "context", "concurrency"):
            at_least(f"engine.{name}", getattr(self, name), 1)
        at_least("engine.prefill_tokens", self.prefill_tokens, 1)
        at_least("engine.kv_cache_mib", self.kv_cache_mib, 0)
        positive("engine.gpu_memory_utilization", self.gpu_memory_utilization)
        between("engine.gpu_memory_utilization", self.gpu_memory_utilization, 0.0, 1.0)
