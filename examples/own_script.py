"""A training script of one's own, its heads tracked: a random two-layer model learns to recall.

    cd examples && python own_script.py        # about a minute on a CPU, no network

The prompt names a digit, letters follow, and the digit is asked for: `3 b d a =` wants `3`. What is
of Sparks are the prompt pairs and the callback; `sparks show runs/own` and `timeline.ipynb` read
what they leave in `runs/own/heads`.
"""

import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

from tracking import HeadTracker, PromptPairs, Settings, TrackingConfig

WORDS = ["<pad>", "<end>", "=", *"0123456789", *"abcdefgh"]
ids = {word: number for number, word in enumerate(WORDS)}
core = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")

draw = random.Random(0)


def letters() -> str:
    return " ".join(draw.choices("abcdefgh", k=3))


# The pairs: the same letters after another digit, and these digits are what is right to come next.
chosen = [(*draw.sample("0123456789", 2), letters()) for _ in range(32)]
clean = torch.tensor([tokenizer(f"{one} {rest} =").input_ids for one, _, rest in chosen])
corrupted = torch.tensor([tokenizer(f"{other} {rest} =").input_ids for _, other, rest in chosen])
labels = torch.tensor([[ids[one], ids[other]] for one, other, _ in chosen])
pairs = PromptPairs(clean, corrupted, labels=labels)

torch.manual_seed(0)
config = Qwen2Config(
    vocab_size=len(WORDS), hidden_size=32, intermediate_size=64,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
)  # fmt: skip
model = Qwen2ForCausalLM(config)
rows = [{"prompt": f"{d} {letters()} =", "completion": f" {d}"} for d in "0123456789" * 200]
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "runs/own", max_steps=60, save_steps=20, learning_rate=5e-3, bf16=False, use_cpu=True,
        per_device_train_batch_size=64, logging_steps=10, report_to="none",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    callbacks=[HeadTracker(TrackingConfig({"digit": pairs}, Settings(resamples=50)))],
)  # fmt: skip
trainer.train()
