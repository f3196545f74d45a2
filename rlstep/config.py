"""The configuration: typed, frozen dataclasses, every check at construction.

A recipe is Python that returns a `Config`. Nothing here imports ray, torch, vllm or deepspeed, so
a wrong value is refused before any process starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.checks import at_least, between, check_types
from rlstep.curriculum.shuffled import Shuffled
from rlstep.diffusion.refusals import check_diffusion
from rlstep.interfaces import (
    Curriculum,
    Judge,
    Labeller,
    Loss,
    RolloutStrategy,
    SampleBuilder,
    Sink,
    StepModel,
    StepSplitter,
    Task,
    Verifier,
)
from rlstep.learner_config import LearnerConfig
from rlstep.learner_config import LoraConfig as LoraConfig
from rlstep.learner_config import ModelConfig as ModelConfig
from rlstep.learner_config import OptimizerConfig as OptimizerConfig
from rlstep.learner_config import PoolingConfig as PoolingConfig
from rlstep.measuring.held_out import EvaluationConfig as EvaluationConfig
from rlstep.measuring.held_out import HeldOutSet as HeldOutSet
from rlstep.measuring.monitors import Monitors
from rlstep.reporting.sinks.usual import USUAL
from rlstep.role_config import SERVED_RANKS
from rlstep.role_config import DiffusionGeneratorConfig as DiffusionGeneratorConfig
from rlstep.role_config import GeneratorConfig as GeneratorConfig
from rlstep.role_config import PlacementConfig as PlacementConfig
from rlstep.role_config import ScorerConfig as ScorerConfig
from rlstep.rollouts.refusals import check_answering, check_rollouts
from rlstep.types import AdvantageSamples

SCORE_HEADS = ("token_classification", "two_label", "two_token", "process_reward")
"""Heads that give a token one number whose sigmoid is a score."""
_CADENCES = ("checkpoint_every", "checkpoint_seconds", "export_every")


def check_of_head(loss: Loss, head: str, *, name: str = "loss", field: str) -> None:
    """Refuse a loss of a scalar head's numbers for a policy's logprobs, and the other way round;
    and for a masked diffusion model one that is not of its ELBO.

    Args:
        name: of the loss in the configuration.
        field: of the head there.

    Raises:
        ValueError: naming the head and its valid value.
    """
    if head == "masked_diffusion" and not loss.of_elbo:
        raise ValueError(
            f"{name} {type(loss).__name__} needs every token's own logprob, and a model of {field}"
            " 'masked_diffusion' has only samples of its ELBO; the nearest valid values are"
            " ElboBgpo() for advantages and CrossEntropy() for labels"
        )
    if loss.of_head is (head in SCORE_HEADS):
        return
    read = "a scalar head's numbers" if loss.of_head else "a policy's logprobs"
    valid = "token_classification" if loss.of_head else "language_model"
    raise ValueError(
        f"{name} {type(loss).__name__} is of {read}, and {field} is {head!r}; the nearest valid"
        f" value is {valid!r}"
    )


def needs_head(
    name: str,
    model: StepModel,
    head: str | tuple[str, ...],
    takes: type,
    *,
    outputs: int = 1,
    of_logits: bool = False,
) -> None:
    """Refuse a step model with the wrong kind of head, or with a loss of other samples or outputs.

    Args:
        head: the valid one, or all that are.
        of_logits: whether the head's number is the logit of a probability (see `Loss.of_logits`).

    Raises:
        ValueError: naming the field and its valid value.
    """
    heads = (head,) if isinstance(head, str) else head
    if model.learner.head not in heads:
        valid = " or ".join(map(repr, heads))
        raise ValueError(f"{name}.learner.head is {model.learner.head!r}; it must be {valid}")
    if model.loss is not None and model.loss.takes is not takes:
        raise ValueError(
            f"{name}.loss {type(model.loss).__name__} takes {model.loss.takes.__name__}, not"
            f" {takes.__name__}"
        )
    if model.loss is not None:
        field = f"{name}.learner.head"
        check_of_head(model.loss, model.learner.head, name=f"{name}.loss", field=field)
    if model.loss is not None and model.loss.outputs != outputs:
        raise ValueError(
            f"{name}.loss {type(model.loss).__name__} is for a head of {model.loss.outputs}"
            f" outputs; this model reads {outputs}"
        )
    if model.loss is not None and model.loss.of_logits != of_logits:
        raise ValueError(
            f"{name}.loss {type(model.loss).__name__} is"
            f" {'not ' if of_logits else ''}for the logit of a probability, and this model reads"
            f" {'one' if of_logits else 'another number'}"
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. The plug-ins stand here themselves, with their hyper-parameters as fields."""

    name: str
    """Of the run; its directory is <run_dir>/<name>."""
    task: Task
    """Where the problems come from, for training and for evaluation."""
    policy: LearnerConfig
    """The model that is trained, its optimizer and its ranks."""
    loss: Loss
    """What the policy's learner minimises."""
    samples: SampleBuilder
    """Scored groups to what the loss takes."""
    rollouts: RolloutStrategy
    """How completions are drawn, and how many of each prompt."""
    splitter: StepSplitter
    """What cuts a completion into steps."""
    verifier: Verifier
    """What decides whether a completion is right."""
    curriculum: Curriculum = Shuffled()
    """Which problems an iteration samples from."""
    judges: tuple[Judge, ...] = ()
    """What decides in the verifier's place: of each prompt the first judge that takes it."""
    generator: GeneratorConfig = GeneratorConfig()
    """The engines that sample."""
    scorer: ScorerConfig = ScorerConfig()
    """The actors that run the verifier."""
    labellers: tuple[Labeller, ...] = ()
    """What scores rollouts beside the verifier and the step models, asked in this order:
    Monte-Carlo continuations, rewards for form, remote services, sums of what came before."""
    step_models: tuple[StepModel, ...] = ()
    """Models that score steps or tokens and are trained in the loop: PRM, critic, implicit PRM."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When and on how many held-out problems accuracy is measured."""
    monitors: Monitors = Monitors()
    """What is watched for reward hacking, and when it raises an alarm."""
    sinks: tuple[Sink, ...] = USUAL
    """Where metrics and rollouts go, closed the last one first. A sink that fails ends no run."""
    placement: PlacementConfig = PlacementConfig()
    """How many GPUs each role's actors get."""
    iterations: int = 100
    """Turns of the loop: collect, score, train, sync."""
    train_seconds: float = 0.0
    """Start no iteration after this many seconds of training; 0 sets no limit."""
    train_tokens: int = 0
    """Start no iteration after this many sampled tokens: of rollouts, continuations for labels and
    search, those thrown away too, but not of evaluations and judges; 0 sets no limit. What is
    collected ahead (`max_policy_lag`) counts when it is sampled, and again where a resumed run has
    to sample it again."""
    prompts_per_iteration: int = 64
    """Problems that are sampled from in one iteration; divisible by policy.mini_batches."""
    further_prompts: int = 0
    """Dynamic sampling (DAPO, arXiv:2503.14476): so many further problems an iteration may take the
    places of those whose groups have no signal (all outcomes equal); 0 replaces none."""
    max_prompt_tokens: int = 512
    """Longer prompts are dropped when the task is loaded, and counted."""
    max_failed_scores: float = 0.5
    """Largest share of one source's scores, or of the rollouts (as an environment that raises fails
    them), in a batch that may fail; above it the run ends."""
    max_policy_lag: int = 0
    """How many versions older than the policy a trained sample may be. 0 is synchronous."""
    checkpoint_every: int = 0
    """Iterations between checkpoints; 0 goes by `checkpoint_seconds` alone."""
    checkpoint_seconds: float = 600.0
    """Seconds of training after which the next whole iteration is saved; 0 goes by
    `checkpoint_every` alone. A run is saved at its end, too, when it is stopped, and when it fails
    with its learners whole."""
    checkpoint_keep: int = 2
    """So many of the newest checkpoints stay, at least 2: a damaged one needs a predecessor."""
    export_every: int = 0
    """Iterations between exports of the policy to <run>/exports/iteration-N, all of which are kept;
    0 exports only at the end, to <run>/export."""
    seed: int = 0
    """Of everything random: the order of the problems, sampling, new heads and adapters."""
    run_dir: str = ""
    """Absolute. Empty: the environment variable RLSTEP_RUN_DIR, or a default that is printed."""
    resume: bool = False
    """Continue from the newest valid checkpoint of the run with this name."""
    deadline_s: float = 600.0
    """Longest wait for any verb of a learner."""
    max_learner_losses: int = 3
    """Ends of a learner's process within 60 minutes; with one more the run ends."""

    def __post_init__(self) -> None:
        check_types(self, "")
        numbers = ("iterations", "max_policy_lag", "train_seconds", "train_tokens", "seed")
        for name in (*numbers, "further_prompts", "max_learner_losses", *_CADENCES):
            at_least(name, getattr(self, name), 0)
        between("max_failed_scores", self.max_failed_scores, 0.0, 1.0)
        at_least("prompts_per_iteration", self.prompts_per_iteration, 1)
        at_least("max_prompt_tokens", self.max_prompt_tokens, 1)
        at_least("checkpoint_keep", self.checkpoint_keep, 2)
        at_least("deadline_s", self.deadline_s, 1.0)
        self._check_samples()
        self._check_conversations()
        self._check_sizes()
        self._check_transfer()
        sources = [model.source for model in self.step_models]
        self.evaluation.check_best(sources)
        for rollouts in (self.rollouts, self.evaluation.rollouts or self.rollouts):
            check_diffusion(self.policy, self.generator, rollouts, self.splitter, self.step_models)
        self.evaluation.check_drawn(self.rollouts.sampling, "prm" in sources)
        if self.run_dir and not self.run_dir.startswith("/"):
            raise ValueError(f"run_dir is {self.run_dir!r}; it must be absolute, like /data/runs")

    @property
    def longest(self) -> int:
        """Most tokens of a prompt and its completion together."""
        completion = max(self.rollouts.sampling.max_tokens, self.evaluation.max_tokens)
        return self.max_prompt_tokens + completion

    def _check_samples(self) -> None:
        loss, samples = self.loss, self.samples
        if loss.takes is not samples.makes:
            raise ValueError(
                f"loss {type(loss).__name__} takes {loss.takes.__name__}, but samples"
                f" {type(samples).__name__} makes {samples.makes.__name__}"
            )
        check_of_head(loss, self.policy.head, field="policy.head")
        made = [*self.rollouts.sources, *(x.source for x in (*self.labellers, *self.step_models))]
        if len({"outcome", *made}) <= len(made):
            raise ValueError(
                f"rollouts, labellers and step_models make scores named {made}; every name must be"
                " there once, and 'outcome' is the verifier's"
            )
        self._check_labellers()
        produced = {"outcome", *made}
        readers: list[tuple[str, object, frozenset[str]]] = [("samples", samples, samples.sources)]
        readers += [("curriculum", self.curriculum, self.curriculum.reads)]
        readers += [(f"step_models.{i}", m, m.reads) for i, m in enumerate(self.step_models)]
        for name, reader, sources in readers:
            if missing := sources - produced:
                raise ValueError(
                    f"{name} {type(reader).__name__} reads the scores {sorted(missing)}, which"
                    f" nothing in this run makes (it makes {sorted(produced)}); add a labeller or a"
                    " step model of that source, or choose another one"
                )
        if self.monitors.source not in (watched := {*made, "prm"}):
            raise ValueError(
                f"monitors.source is {self.monitors.source!r}, which nothing in this run makes; it"
                f" is one of {sorted(watched)}"
            )
        check_rollouts(self.rollouts, samples.makes, self.step_models)
        answering, temperature = self.evaluation.rollouts, self.train_temperature
        check_answering(answering, self.rollouts, self.step_models, temperature)
        if samples.makes is AdvantageSamples:
            self._check_sampling()
            self._check_reference()

    def _check_conversations(self) -> None:
        """Turns are steps; what goes on from the middle of a conversation replays it."""
        conversing = self.rollouts.conversing
        if conversing is None:
            return
        if not self.splitter.of_conversations:
            raise ValueError(
                f"splitter is {type(self.splitter).__name__}, and rollouts"
                f" {type(self.rollouts).__name__} makes conversations, of which a turn is a step;"
                " the nearest valid value is Turns()"
            )
        continuing = [plug_in for plug_in in (self.rollouts, *self.labellers) if plug_in.continues]
        if continuing and not conversing.environment.replays:
            names = ", ".join(type(plug_in).__name__ for plug_in in continuing)
            raise ValueError(
                f"{names} would go on from the middle of conversations, and environment"
                f" {type(conversing.environment).__name__} cannot be replayed (replays is False)"
            )

    @property
    def train_temperature(self) -> float:
        """What the policy's logits are divided by where it is trained.

        Of a policy gradient the sampler's temperature, so that its ratios are of the distribution
        that was sampled; of losses on pairs and labels 1, the distribution that their papers mean.
        """
        gradient = self.samples.makes is AdvantageSamples
        return self.rollouts.sampling.temperature if gradient else 1.0

    def _check_sampling(self) -> None:
        """A policy gradient needs the logprobs of the distribution that it was sampled from."""
        sampling = self.rollouts.sampling
        if sampling.truncated:
            # vLLM (0.32) returns the sampled support only from its GPU runner, so not on a CPU.
            raise ValueError(
                "rollouts.sampling cuts the support (top_p < 1, top_k > 0 or min_tokens > 0), where"
                " the sampler's logprobs are another distribution's; a policy gradient needs top_p"
                " = 1, top_k = 0, min_tokens = 0"
            )
        if sampling.temperature == 0.0:
            raise ValueError(
                "rollouts.sampling.temperature is 0 (greedy), where a policy gradient has nothing"
                " to prefer; it must be positive, usually 1.0"
            )
        named = [("splitter", self.splitter), *(("step model", m) for m in self.step_models)]
        readers = [f"{kind} {type(each).__name__}" for kind, each in named if each.reads_logprobs]
        if readers and sampling.temperature != 1.0:
            raise ValueError(
                f"rollouts.sampling.temperature is {sampling.temperature}, and {readers[0]} reads"
                " logprobs of temperature 1, which a policy gradient's sampler does not give; the"
                " nearest valid value is 1.0"
            )

    def _check_reference(self) -> None:
        """Before its first update the policy is its own reference of this iteration."""
        policy, loss = self.policy, type(self.loss).__name__
        one_update = policy.epochs * policy.mini_batches == 1
        if "ref_logprobs" in self.loss.reads and policy.reference == "iteration" and one_update:
            raise ValueError(
                f"policy.reference is 'iteration', and with one update an iteration (policy.epochs"
                f" x policy.mini_batches is 1) the KL of loss {loss} is always 0; policy.reference"
                " 'initial' holds the policy to its start, loss.kl.coefficient 0 goes without a KL"
            )

    def _check_labellers(self) -> None:
        """They are asked in order, and at the same time as the step models."""
        there = {"outcome", *self.rollouts.sources}
        for i, labeller in enumerate(self.labellers):
            if missing := labeller.reads - there:
                raise ValueError(
                    f"labellers.{i} {type(labeller).__name__} reads the scores {sorted(missing)},"
                    f" which nothing makes before it (there are {sorted(there)}); put a labeller of"
                    " that source before it"
                )
            there.add(labeller.source)

    def _check_sizes(self) -> None:
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
        if self.generator.block_size % 32 and not self.placement.generator_gpus:
            raise ValueError(
                f"generator.block_size is {self.generator.block_size}, and on a CPU vLLM (0.32) has"
                " blocks of multiples of 32; the nearest valid value is"
                f" {max(32, round(self.generator.block_size / 32) * 32)}"
            )
        if self.generator.transfer == "adapter":
            self._check_adapter_transfer()
        elif self.generator.transfer != "rlstep_gloo" and not gpus:
            raise ValueError(
                f"generator.transfer is {self.generator.transfer!r}, but placement gives the"
                " generator or the policy no GPU; the nearest valid value is 'rlstep_gloo'"
            )

    def _check_adapter_transfer(self) -> None:
        model, largest = self.policy.model, SERVED_RANKS[-1]
        if not model.lora.present:
            other = f"policy.model.adapter is {type(model.adapter).__name__}"
            has = other if model.adapter.present else "policy.model.lora.rank is 0"
            raise ValueError(
                f"generator.transfer is 'adapter', which sends LoRA's adapters, and {has}; the"
                " nearest valid value is 'rlstep_gloo'"
            )
        if model.lora.rank > largest:
            raise ValueError(
                f"policy.model.lora.rank is {model.lora.rank}, and with generator.transfer"
                f" 'adapter' vLLM (0.32) serves up to {largest}; the nearest valid value is"
                f" {largest}"
            )
