"""An attention that an architecture lacks, or that leaves a part of it out, is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstep.actors.learner.models import check_learner
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from tests.actors.families import FAMILIES, make_family
from tests.actors.learner.learner_kit import MarginLoss

HEADS = ("language_model", "token_classification")


def check(folder: Path, family: str, attention: Any, head: Any = HEADS[0], **sizes: Any) -> None:
    path = make_family(folder, family, **sizes)
    arithmetic_tokenizer().save_pretrained(path)
    model = ModelConfig(path=path, attention=attention)
    check_learner(LearnerConfig(model=model, head=head), MarginLoss())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "Gemma2"])
def test_what_the_families_have(tmp_path: Path, family: str, attention: str) -> None:
    check(tmp_path, family, attention)


@pytest.mark.parametrize("head", HEADS)
def test_the_soft_cap_of_gemma_2_wants_eager(tmp_path: Path, head: str) -> None:
    check(tmp_path, "Gemma2", "eager", head)
    check(tmp_path, "Gemma2", "sdpa", head, attn_logit_softcapping=None)
    with pytest.raises(ValueError, match=r"leaves out the soft cap of Gemma2.*is 'eager'$"):
        check(tmp_path, "Gemma2", "sdpa", head)


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        *[(family, "sdpa") for family in ("GPTJ", "Bloom", "Mpt", "Mamba")],
        *[(family, "flash_attention_2") for family in ("Bloom", "Mpt", "Mamba")],
    ],
)
def test_an_attention_that_transformers_has_not(
    tmp_path: Path, family: str, attention: str
) -> None:
    sizes: dict[str, Any] = {"rotary_dim": 16} if family == "GPTJ" else {}
    check(tmp_path, family, "eager", **sizes)
    message = rf"'{attention}', which transformers does not have for \w+;.*is 'eager'$"
    with pytest.raises(ValueError, match=message):
        check(tmp_path, family, attention, **sizes)
