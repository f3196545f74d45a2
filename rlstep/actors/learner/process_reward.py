"""The architecture of Qwen2.5-Math-PRM, so that none of a model's own code need be run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
    """Qwen2 with two linear layers and a ReLU between them, two labels a token.

    Zhang et al. 2025, arXiv:2501.07301. Label 1 is a right step. The class has the name that the
    released folders give their architecture, and the weights their names.
    """

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012  # transformers' own form

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        self.num_labels = 2
        self.model = Qwen2Model(config)
        width = config.hidden_size
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.post_init()

    def forward(self, input_ids: Tensor, **options: Any) -> TokenClassifierOutput:
        """Logits [N, L, 2]."""
        hidden = self.model(input_ids, **options).last_hidden_state
        return TokenClassifierOutput(logits=self.score(hidden))
