#!/bin/sh
# Gemma 2 caps its attention's scores at 50 (attn_logit_softcapping). transformers loads it with
# 'sdpa' where no attention is asked for, which has no cap: the setting stays in the configuration,
# nothing is applied, and no warning says so. The model is random and has large scores.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 transformers==5.19.0 numpy==2.3.5
export HF_HUB_OFFLINE=1
venv/bin/python - 2>stderr <<'PYTHON' || { code=$?; tail -5 stderr; exit $code; }
import logging

import torch
import transformers
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

warnings = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: warnings.append(record.getMessage())
transformers.utils.logging.get_logger("transformers").addHandler(handler)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
torch.manual_seed(0)
sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "head_dim": 32}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
config = Gemma2Config(
    **sizes, **layers, **tokens, query_pre_attn_scalar=32, initializer_range=0.6
)
Gemma2ForCausalLM(config).save_pretrained("model")
ids = torch.arange(2, 22)[None]


def logprobs(**settings):
    model = AutoModelForCausalLM.from_pretrained("model", **settings).eval()
    cap = model.config.attn_logit_softcapping
    print(f"{settings}: attention {model.config._attn_implementation!r}, cap {cap}")
    with torch.no_grad():
        return model(ids).logits.log_softmax(-1)


capped = logprobs(attn_implementation="eager")
default = logprobs()
uncapped = logprobs(attn_implementation="eager", attn_logit_softcapping=None)
off = (default - capped).abs().max().item()
same = (default - uncapped).abs().max().item()
print(f"the default differs by {off:.3f} nats from 'eager', by {same:.1e} from no cap at all")
print(f"warnings: {warnings}")
gone = off > 0.1 and same < 1e-3 and not warnings
raise SystemExit(0 if gone else "the cap is applied, or its absence told, now")
PYTHON
