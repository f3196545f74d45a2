"""What does not go together with a strategy that draws completions."""

from __future__ import annotations

from collections.abc import Sequence

from rlstep.interfaces import RolloutStrategy, StepModel
from rlstep.types import AdvantageSamples, Sampling


def check_rollouts(
    rollouts: RolloutStrategy, makes: type, step_models: Sequence[StepModel]
) -> None:
    """Refuse a strategy that asks a step model which is not there, or whose rollouts are no draws
    of the policy where a policy gradient is trained.

    Args:
        makes: the samples that the policy is trained on.

    Raises:
        ValueError: names the strategy and what it needs.
    """
    _check_reads("rollouts", rollouts, step_models)
    if makes is not AdvantageSamples:
        return
    if not rollouts.own_prompts:
        raise ValueError(
            f"rollouts {type(rollouts).__name__} samples under other prompts than it"
            " trains, whose logprobs no policy gradient can use; it needs a builder of pairs"
        )
    if rollouts.chooses:
        raise ValueError(
            f"rollouts {type(rollouts).__name__} keeps what scores choose, which is off-policy: no"
            " draws of the policy, and no policy gradient can use them; it needs a builder of"
            " pairs or of labels, such as OutcomePairs() or CorrectOnly()"
        )


def check_answering(
    answering: RolloutStrategy | None,
    rollouts: RolloutStrategy,
    step_models: Sequence[StepModel],
    temperature: float,
) -> None:
    """Refuse a strategy that cannot answer the held-out problems of a run.

    Args:
        answering: the evaluation's; None answers greedily, which always goes.
        rollouts: the run's, which the generators are made for.
        temperature: what the generators' logprobs are of, where they sample.

    Raises:
        ValueError: names the field and the nearest valid value.
    """
    if answering is None:
        return
    _check_reads("evaluation.rollouts", answering, step_models)
    if rollouts.conversing is not None or answering.conversing is not None:
        raise ValueError(
            f"evaluation.rollouts is {type(answering).__name__}, and conversations are evaluated"
            " by themselves; the nearest valid value is None"
        )
    longest, sampling = rollouts.sampling.max_tokens, answering.sampling
    if sampling.max_tokens > longest:
        raise ValueError(
            f"evaluation.rollouts.sampling.max_tokens is {sampling.max_tokens}, more than"
            f" rollouts.sampling.max_tokens; the largest valid value is {longest}"
        )
    if answering.reads_logprobs and temperature != 1.0 and sampling.temperature not in (0.0, 1.0):
        raise ValueError(
            f"evaluation.rollouts {type(answering).__name__} reads logprobs of temperature 1, and"
            f" this run's generators give those of sampling.temperature {sampling.temperature};"
            " the nearest valid values are 0.0 and 1.0"
        )


def check_whole_vocabulary(sampling: Sampling) -> None:
    """Refuse what decoding by values would have to obey where scores choose a token.

    Raises:
        ValueError: names the field and its valid value.
    """
    for name, valid in (("top_p", 1.0), ("top_k", 0), ("min_tokens", 0)):
        if (value := getattr(sampling, name)) != valid:
            raise ValueError(
                f"rollouts.sampling.{name} is {value}, and where scores choose nothing else may"
                f" choose; the nearest valid value is {valid}"
            )


def _check_reads(field: str, strategy: RolloutStrategy, step_models: Sequence[StepModel]) -> None:
    """It asks the step models while it collects; labellers answer only afterwards."""
    made = {model.source for model in step_models}
    if missing := strategy.reads - made:
        raise ValueError(
            f"{field} {type(strategy).__name__} reads the scores {sorted(missing)} while it"
            f" samples, which no step model of this run makes (they make {sorted(made)}); add a"
            " step model of that source, or choose another one"
        )
