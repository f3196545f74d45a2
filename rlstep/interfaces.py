"""The plug points (small abstract classes) and the protocols of the three roles.

A plug-in is a frozen dataclass: its hyper-parameters are its fields, it is configured, pickled and
printed. What it needs to run (a tokenizer, a process pool) it is handed, or opens inside the role.
Adding one is a new file and its test; a recipe imports it. There is no registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from rlstep.learner_config import LearnerConfig, PoolingConfig
from rlstep.types import (
    Completion,
    Counts,
    Failure,
    Floats,
    Group,
    OutcomeScore,
    Prompt,
    Request,
    Rollout,
    Samples,
    Sampling,
    Score,
    Step,
    StepInputs,
    TokenIds,
)

if TYPE_CHECKING:  # ring 0 loads no torch; the loss room does
    from torch import Tensor

    from rlstep.batching import Batch


class Tokenizer(Protocol):
    """What rlstep uses of a Hugging Face tokenizer."""

    eos_token_id: int | None
    pad_token_id: int | None
    chat_template: str | None

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...
    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


# --- tasks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """What a task loaded. The two lists share no prompt_id."""

    train: Sequence[Prompt]
    evaluation: Sequence[Prompt]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that were left out, by reason."""


class Task(ABC):
    """A source of problems with checkable answers."""

    @abstractmethod
    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Read and tokenize every problem.

        Raises:
            ValueError: a row is broken; the message names file, line and field.
        """


@runtime_checkable
class StepOracle(Protocol):
    """A task that knows exactly which steps are right: for tests and studies, not for training."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right."""
        ...


# --- steps ---------------------------------------------------------------------------------------


class StepSplitter(ABC):
    """Cuts a completion into steps."""

    @abstractmethod
    def split(self, completion: Completion) -> tuple[Step, ...]:
        """A partition of the completion's tokens, in order, no step empty.

        The end-of-sequence token belongs to the last step. A completion of no tokens has no steps.
        """

    def split_all(self, completions: Sequence[Completion]) -> list[tuple[Step, ...]]:
        """The steps of every completion of one prompt, in order, each a partition as in `split`.

        One by one, save where a splitter looks at all completions to find where to cut one.
        """
        return [self.split(completion) for completion in completions]


# --- scoring -------------------------------------------------------------------------------------


class Verifier(ABC):
    """Compares a completion's final answer with the reference. Runs in a killable subprocess."""

    @abstractmethod
    def verify(self, text: str, answer: str) -> OutcomeScore:
        """Score one completion's text. May hang or crash: the pool around it has a deadline."""


# --- rollouts ------------------------------------------------------------------------------------


Answer: TypeAlias = tuple[Request, tuple[Completion, ...] | Failure]


class GenerateRole(Protocol):
    """The generators, seen from the driver."""

    def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        """Answers in the order in which they finish, one item a request, each exactly once."""
        ...


class ScoreRole(Protocol):
    """The scorers, seen from the driver."""

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, each with an 'outcome' OutcomeScore or Failure."""
        ...

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, each with the scores (or a Failure) of every step model.

        Called with a whole batch in a fixed order, so that the scores are reproducible bit by bit.
        """
        ...


class RolloutStrategy(ABC):
    """How groups are made from prompts, written against the generate and score roles alone."""

    sampling: Sampling
    """How completions are drawn."""
    sources: ClassVar[frozenset[str]] = frozenset()
    """Step scores that its rollouts carry already."""

    @abstractmethod
    def collect(self, prompts: Sequence[Prompt], context: RolloutContext) -> AsyncIterator[Group]:
        """Yield one verified group a prompt as it is complete; a slow one holds up nobody."""


@dataclass(frozen=True, kw_only=True)
class RolloutContext:
    """What a rollout strategy works with."""

    generator: GenerateRole
    scorer: ScoreRole
    splitter: StepSplitter
    tokenizer: Tokenizer
    """To decode the text of branches; nothing is ever encoded again."""
    iteration: int
    purpose: str = ""
    """Keeps the ids (and so the seeds) of evaluation apart from training's: 'eval', 'prm_probe'."""
    seed: int
    """The run's seed; see `rollouts.requests.request_seed`."""

    @property
    def scope(self) -> str:
        """What every request id of this context starts with."""
        return f"{self.purpose}{self.iteration}"


class Labeller(ABC):
    """Scores rollouts by other means than the verifier or a model that is trained in the run.

    Monte-Carlo step values train the step models; rewards for form, judges of steps and remote
    services score beside the verifier. A run's labellers are asked one after the other, so a later
    one may read what an earlier one found.
    """

    source: str
    """The name of its scores."""

    @abstractmethod
    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, each with a Score of this source: StepScores (n = 0 where a
        step was not labelled), an OutcomeScore, or a Failure."""


Reader: TypeAlias = Callable[[Rollout], StepInputs | Failure]
"""A rollout to what a step model reads of it, or why it cannot ('too_long')."""


class StepLayout(ABC):
    """How a PRM wants a solution written: which tokens it reads, and where each step is read out.

    Text in the problem or the steps is data: no tag and no special token comes out of it.
    """

    @abstractmethod
    def reader(self, policy: Any, model: Any) -> Reader:
        """The layout for two Hugging Face tokenizers, the policy's and the model's.

        Every read-out is the position of one token; there are as many as the rollout has steps.

        Raises:
            ValueError: the model's tokenizer does not know the layout's tokens.
        """


class StepModel(ABC):
    """A model that scores rollouts and learns from them: a PRM, a critic, an implicit PRM.

    It is a learner beside the policy's. In every iteration it first scores the batch, and is then
    trained on it: nothing is scored by a model that has seen it.
    """

    source: str
    """The name of its scores, of its metrics and of its part of a checkpoint."""
    learner: LearnerConfig
    loss: Any
    """A `Loss`, or None: the model is never trained. (A plug-in's own field says which.)"""
    every: int = 1
    """It is trained in every so many-th iteration, on that iteration's rollouts."""
    engine: PoolingConfig | None = None
    """vLLM in place of the learner, for a model that is never trained."""
    reads: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores its training needs; a run that does not produce them is refused."""
    log_ratios: ClassVar[bool] = False
    """Whether it reads, of a language model, logprobs minus its reference's."""

    def reader(self, tokenizer: Any) -> Reader | None:
        """What it reads of a rollout, or None: the policy's own tokens, all of them.

        Where it reads others, its `samples` and its `read_out` stay in the policy's tokens all the
        same: labels at the steps' last tokens are moved to where the steps are read out, and the
        predictions from there back, with NaN everywhere else.

        Args:
            tokenizer: the policy's.

        Raises:
            ValueError: the tokenizers or the layout do not fit; before any process starts.
        """
        return None

    @abstractmethod
    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """What to train on, from rollouts that carry the scores it reads."""

    @abstractmethod
    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        """Its scores of one rollout.

        Args:
            predictions: float32 [P + T], one number a token (see `Loss`).
            version: how many updates the model had.
        """


# --- groups to samples ---------------------------------------------------------------------------


class SampleBuilder(ABC):
    """Turns scored groups into what a loss takes: pairs, advantages or labels."""

    makes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    sources: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores it reads; a run that does not produce them is refused when it is configured."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_sample_laws.py that hold for it, beside the general ones."""

    @abstractmethod
    def samples(self, groups: Sequence[Group]) -> Samples:
        """See the whole batch at once. Deterministic: groups arrive sorted by prompt_id."""


# --- losses --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossOutput:
    """A scalar to minimise and numbers to look at."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """Scalars that are already divided by a global count, so that micro-batches and ranks add."""


class Loss(ABC):
    """A pure function of the model's per-token predictions.

    For a language model `predictions[n, t]` is the logprob of token t of sequence n given what came
    before it (0 at t = 0); for a scalar head it is the head's output at token t. A separable loss
    of a language model that reads 'entropies' gets predictions [N, L, 2] instead: the logprob of
    token t and the entropy, in nats, of the distribution that token t is drawn from (0 at t = 0).

    A loss sums and divides by the global `counts` that it is handed. A *separable* loss is a sum
    over sequences, called once a micro-batch with that micro-batch's rows. Any other loss is
    called once with the predictions of the whole mini-batch as a leaf, and the learner carries its
    gradient through the model micro-batch by micro-batch (the chain rule, so exactly): no loss ever
    sees where micro-batches or ranks were cut.
    """

    takes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    separable: ClassVar[bool] = False
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_laws.py that hold for it."""

    @property
    def reads(self) -> frozenset[str]:
        """Which of 'old_logprobs', 'ref_logprobs' and 'entropies' it reads; the learner computes no
        others."""
        return frozenset()

    @abstractmethod
    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        """predictions: float32 [N, L], or [N, L, 2] with entropies. Returns a scalar loss."""


# --- the learner ---------------------------------------------------------------------------------


class LearnerRole(Protocol):
    """One model and its optimizer, seen from the driver."""

    async def train(self, samples: Samples) -> dict[str, float]:
        """One pass over the samples (or as many epochs as configured). Returns averaged metrics.

        No samples: no update, and the metrics say so.
        """
        ...

    async def predict(
        self, sequences: Sequence[TokenIds], *, log_ratios: bool = ...
    ) -> list[Floats]:
        """Per row of token ids (int32 [L]) float32 [L]: logprobs, or a scalar head's outputs;
        with `log_ratios` minus those of the reference, the first model."""
        ...

    async def save(self, directory: str) -> None: ...
    async def restore(self, directory: str) -> None: ...
    async def export(self, directory: str) -> None:
        """A Hugging Face folder that transformers and vLLM load."""
        ...


class Roles(Protocol):
    """All roles of a run, as the loop uses them."""

    @property
    def version(self) -> int:
        """The policy version that the generators serve."""
        ...

    def context(self, iteration: int, purpose: str = ...) -> RolloutContext: ...

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with the scores of every labeller."""
        ...

    async def train(self, samples: Samples, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Train the policy, bring every generator to the new weights, train the step models."""
        ...
