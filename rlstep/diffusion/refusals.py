"""What does not go together with a masked diffusion policy."""

from __future__ import annotations

from collections.abc import Sequence

from rlstep.interfaces import RolloutStrategy, StepModel, StepSplitter
from rlstep.learner_config import LearnerConfig
from rlstep.role_config import DiffusionGeneratorConfig, GeneratorConfig


def check_diffusion(
    policy: LearnerConfig,
    generator: GeneratorConfig,
    rollouts: RolloutStrategy,
    splitter: StepSplitter,
    step_models: Sequence[StepModel],
) -> None:
    """Refuse one without its own generators, and for it all that needs a chain's logprobs.

    Raises:
        ValueError: names the plug-in, or the field and its valid value.
    """
    diffusion = policy.head == "masked_diffusion"
    if isinstance(generator, DiffusionGeneratorConfig) is not diffusion:
        raise ValueError(
            f"generator is {type(generator).__name__}, and policy.head {policy.head!r}; the two go"
            " together: DiffusionGeneratorConfig() and 'masked_diffusion', or GeneratorConfig() and"
            " 'language_model'"
        )
    if diffusion:
        _check_logprobs(rollouts, splitter, step_models)
        _check_sampling(rollouts)


def _check_logprobs(
    rollouts: RolloutStrategy, splitter: StepSplitter, step_models: Sequence[StepModel]
) -> None:
    named = [("rollouts", rollouts), ("splitter", splitter)]
    named += [("step_models", model) for model in step_models]
    for field, plug_in in named:
        if plug_in.reads_logprobs:
            raise ValueError(
                f"{field} {type(plug_in).__name__} reads the sampler's logprobs as those of a chain"
                " of tokens, and a policy of head 'masked_diffusion' has no such"
            )


def _check_sampling(rollouts: RolloutStrategy) -> None:
    if rollouts.conversing is not None:
        raise ValueError(
            f"rollouts {type(rollouts).__name__} makes conversations, and behind the end token of a"
            " turn a policy of head 'masked_diffusion' writes nothing; the nearest valid value is"
            " Independent()"
        )
    sampling = rollouts.sampling
    cuts = sampling.top_p < 1.0 or sampling.top_k or sampling.min_tokens
    if cuts or sampling.stop or sampling.stop_token_ids:
        raise ValueError(
            "rollouts.sampling has top_p, top_k, min_tokens, stop or stop_token_ids; a diffusion"
            " generator draws from the whole vocabulary and stops at the end token alone; leave"
            " them out"
        )
