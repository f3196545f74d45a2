#!/bin/sh
# Two sequences are packed into one row of a model with a sliding window (Mistral's). Told apart by
# their positions, they give the logprobs that they have alone. Told apart by a block mask of four
# dimensions, as packing code for any model makes it (causal within each sequence), the window is
# gone in every layer: the mask is taken as it is, and nothing says that the configuration's
# sliding_window is not applied. Within the window both agree, so short samples show nothing.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 transformers==5.19.0 numpy==2.3.5
export HF_HUB_OFFLINE=1
venv/bin/python - 2>stderr <<'PYTHON' || { code=$?; tail -5 stderr; exit $code; }
import logging
import warnings as python_warnings

import torch
import transformers
from transformers import MistralConfig, MistralForCausalLM

warnings = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: warnings.append(record.getMessage())
transformers.utils.logging.get_logger("transformers").addHandler(handler)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
torch.manual_seed(0)
WINDOW = 8
config = MistralConfig(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, sliding_window=WINDOW, initializer_range=0.5,
)
model = MistralForCausalLM(config).eval()
lengths = (20, 24)
parts = [torch.randint(2, 64, (1, length)) for length in lengths]
packed = torch.cat(parts, 1)
places = torch.cat([torch.arange(length) for length in lengths])[None]
same = torch.block_diag(*(torch.ones(length, length) for length in lengths)).bool()
block = (same & torch.ones_like(same).tril())[None, None]


def logprobs(ids, **given):
    with torch.no_grad():
        return model(ids, use_cache=False, **given).logits.log_softmax(-1)[0]


with python_warnings.catch_warnings(record=True) as raised:
    python_warnings.simplefilter("always")
    alone = torch.cat([logprobs(part) for part in parts])
    by_places = logprobs(packed, position_ids=places)
    by_mask = logprobs(packed, position_ids=places, attention_mask=block)
    model.config.sliding_window = None
    without = torch.cat([logprobs(part) for part in parts])
inside = torch.cat([torch.arange(length) < WINDOW for length in lengths])


def apart(one, other, where=slice(None)):
    return (one - other)[where].abs().max().item()


print(f"attention {model.config._attn_implementation!r}, sliding_window {WINDOW}")
print(f"packed by positions, from each alone: {apart(by_places, alone):.1e} nats")
print(f"packed by a block mask, from each alone: {apart(by_mask, alone):.2f} nats,")
print(f"  within the window {apart(by_mask, alone, inside):.1e},")
print(f"  and from a model without a window {apart(by_mask, without):.1e}")
print(f"warnings: {warnings + [str(each.message) for each in raised]}")
gone = (
    apart(by_places, alone) < 1e-3
    and apart(by_mask, alone) > 0.1
    and apart(by_mask, alone, inside) < 1e-3
    and apart(by_mask, without) < 1e-3
    and not warnings
)
raise SystemExit(0 if gone else "a block mask keeps the window, or its loss is told, now")
PYTHON
