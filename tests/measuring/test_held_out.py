from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rlstep.config import EvaluationConfig, HeldOutSet, LearnerConfig, ModelConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.running.preparing import load_prompts
from rlstep.scoring.step_models.prm import Prm
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.roles import TOKENIZER
from rlstep.testing.small import small_config
from rlstep.types import Sampling


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"samples": 8, "ks": (4, 16)}, "evaluation.ks has 16, .* largest valid value is 8"),
        ({"ks": (4,)}, "evaluation.ks has 4, and evaluation.samples is 0"),
        ({"samples": 8, "ks": (0,)}, "evaluation.ks is 0; the smallest valid value is 1"),
        ({"samples": -1}, "evaluation.samples is -1"),
        ({"temperature": -0.5}, "evaluation.temperature is -0.5; .* 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        EvaluationConfig(**fields)


@pytest.mark.parametrize(
    ("best", "samples", "nearest"),
    [
        ("accuracy", 0, "eval/accuracy"),
        ("eval/acuracy", 0, "eval/accuracy"),
        ("eval/sampled/accuracy", 0, "eval/accuracy"),
        ("eval/sampled/pas", 8, "eval/sampled/pass"),
        ("eval/longer/sampled/majority", 8, "eval/sampled/majority"),
        ("eval/sampled/prm/best/min", 8, "eval/sampled/pass"),  # no PRM in this run
        ("train/loss", 8, "eval/sampled/pass"),
    ],
)
def test_a_best_by_what_is_not_measured(best: str, samples: int, nearest: str):
    with pytest.raises(ValueError, match=rf"evaluation\.best is '{best}'.* nearest is '{nearest}'"):
        small_config(evaluation=EvaluationConfig(best=best, samples=samples))


@pytest.mark.parametrize("best", ["eval/accuracy", "eval/sampled/majority", "eval/longer/accuracy"])
def test_a_best_by_what_is_measured(best: str):
    sets = (HeldOutSet(name="longer", task=LONGER),)
    config = small_config(evaluation=EvaluationConfig(best=best, samples=8, sets=sets))
    assert config.evaluation.best == best


def test_where_the_curves_are_measured():
    assert EvaluationConfig().at == ()
    assert EvaluationConfig(samples=1).at == (1,)
    assert EvaluationConfig(samples=6).at == (1, 2, 4, 6)
    assert EvaluationConfig(samples=64).at == (1, 2, 4, 8, 16, 32, 64)
    assert EvaluationConfig(samples=64, ks=(10, 3)).at == (3, 10, 64)


def test_samples_have_a_temperature_of_their_own():
    rollouts = Sampling(temperature=0.5, max_tokens=32, top_p=1.0)
    assert EvaluationConfig(samples=8).drawn(rollouts) == rollouts
    warm = EvaluationConfig(samples=8, temperature=1.0, max_tokens=64)
    assert warm.drawn(rollouts) == replace(rollouts, temperature=1.0, max_tokens=64)


COLD = Independent(samples_per_prompt=1, sampling=Sampling(temperature=0.0, max_tokens=32))


def test_the_same_completion_drawn_several_times_is_refused():
    said = r"temperature is None where rollouts\.sampling\.temperature is 0, .*samples 8 would"
    with pytest.raises(ValueError, match=said):
        small_config(rollouts=COLD, evaluation=EvaluationConfig(samples=8))
    with pytest.raises(ValueError, match=r"evaluation\.temperature is 0.*valid value is 1\.0"):
        small_config(evaluation=EvaluationConfig(samples=8, temperature=0.0))
    small_config(rollouts=COLD, evaluation=EvaluationConfig(samples=1))
    small_config(rollouts=COLD, evaluation=EvaluationConfig(samples=8, temperature=1.0))


def test_so_is_a_probe_of_the_prm_that_is_drawn_greedily():
    prm = Prm(
        learner=LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification"),
        loss=StepLabelLoss(),
    )
    fields = {"rollouts": COLD, "step_models": (prm,), "labellers": (MonteCarlo(),)}
    with pytest.raises(ValueError, match=r"the PRM's probe \(evaluation\.prm_problems 256\)"):
        small_config(**fields)
    small_config(**fields, evaluation=EvaluationConfig(temperature=0.7))
    small_config(**fields, evaluation=EvaluationConfig(prm_problems=0))


# --- further sets --------------------------------------------------------------------------------

LONGER = Arithmetic(operations=3, train=4, evaluation=6)


@pytest.mark.parametrize("name", ["", "a/b", "sampled", "-x", "two words"])
def test_a_name_that_no_metric_could_have(name: str):
    with pytest.raises(ValueError, match=r"evaluation.sets: the name .* a valid one is '[\w-]+'"):
        HeldOutSet(name=name, task=LONGER)


def test_a_set_twice():
    one = HeldOutSet(name="longer", task=LONGER)
    with pytest.raises(ValueError, match=r"evaluation\.sets has 'longer' twice"):
        EvaluationConfig(sets=(one, one))


def loaded(task: Arithmetic) -> Any:
    evaluation = EvaluationConfig(sets=(HeldOutSet(name="longer", task=task),))
    return load_prompts(small_config(evaluation=evaluation), TOKENIZER)


def test_the_problems_of_a_set_have_its_name():
    prompts = loaded(LONGER)
    assert len(prompts.evaluation) == 2 and len(prompts.sets["longer"]) == 6
    assert all(p.prompt_id == f"longer/{p.text.strip()}" for p in prompts.sets["longer"])
    assert {p.meta["task"] for p in prompts.sets["longer"]} == {"longer"}
    assert len(prompts.held_out) == 8


def test_a_set_without_a_problem():
    with pytest.raises(ValueError, match=r"evaluation.sets.0 \(longer\): Arithmetic holds out no"):
        loaded(Arithmetic(operations=3, evaluation=0))


def test_a_set_that_is_trained_on(monkeypatch: pytest.MonkeyPatch):
    config = small_config()
    trained = load_prompts(config, TOKENIZER).train

    class Leak(Arithmetic):
        def load(self, tokenizer: Any, max_prompt_tokens: int) -> Any:
            from rlstep.interfaces import PromptSet

            return PromptSet(train=(), evaluation=trained[:3])

    with pytest.raises(ValueError, match="3 of its 3 problems are among those that are trained on"):
        loaded(Leak())


def test_a_set_without_answers():
    """Nobody can decide over them."""
    from dataclasses import replace

    class Unanswered(Arithmetic):
        def load(self, tokenizer: Any, max_prompt_tokens: int) -> Any:
            prompts = super().load(tokenizer, max_prompt_tokens)
            return replace(prompts, evaluation=[replace(prompts.evaluation[0], answer="")])

    with pytest.raises(ValueError, match=r"prompt 'longer/.*' has no reference answer"):
        loaded(Unanswered(operations=3))
