#!/usr/bin/env bash
# transformers 5.19 reads the tokenizer of a Qwen2 folder with Qwen2's own pre-tokenizer, whatever
# its tokenizer.json says and whatever class its tokenizer_config.json names: the same text becomes
# other tokens, without a word. (4.57 takes the file as it stands.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0 tokenizers jinja2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import os

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TEXT = "12 + 345 = 357"
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
made.decoder = decoders.ByteLevel()
made.train_from_iterator([TEXT] * 50, trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"]))
print("transformers", transformers.__version__)
print("tokenizer.json:", made.encode(TEXT).tokens)
same = {}
for model_type in ("qwen2", "qwen3"):
    os.makedirs(model_type)
    with open(f"{model_type}/config.json", "w") as file:
        json.dump({"model_type": model_type}, file)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(model_type)
    read = AutoTokenizer.from_pretrained(model_type)
    print(f"in a {model_type} folder, {type(read).__name__}:", read.tokenize(TEXT))
    same[model_type] = read.encode(TEXT) == made.encode(TEXT).ids
raise SystemExit(same != {"qwen2": False, "qwen3": True})
PYTHON
