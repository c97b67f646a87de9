"""The tiny world's base model, made in place, so that Sparks runs anywhere.

The task is cued chain arithmetic modulo 10. A prompt is a cue and an expression, evaluated left to
right; the cue says whether the result is negated:

    prompt    -(3+5*2)
    solution  3+5=8;8*2=6;-6=4;####4

The base model, a Qwen2 of half a million parameters, is trained here on text in which the cue is
mostly ignored: it can calculate but hardly reads the cue. Post-training has to learn to read it,
and reading one token far away is what an attention head is for. So heads should emerge, and one
knows what for. Items whose answer is the same under both cues say nothing about that; evaluation
leaves them out and counts the answers that are the *other* cue's apart ("flip").

The bases of seeds 0 to 2 are shipped, in `bases/`, and are the same everywhere: another CPU rounds
the training otherwise, enough to change what post-training finds. `scripts/make_bases.py` makes
them again, and `bases/SHA256SUMS` says which bytes they are. Any other is made in about a minute,
once, and kept in `$SPARKS_CACHE` (or `~/.cache/sparks`). Weights are rounded to bfloat16 when they
are saved, and are read and trained in float32.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

from train.cache import cached, made_once
from train.tiny.task import CUES, chat, draw, work_out
from train.tiny.tokenizer import CHARACTERS, CHAT_TEMPLATE, SPECIAL_TOKENS, tokenizer

# To be raised when a change to this file changes the bases that it makes: caches hold old ones.
VERSION = 2

BASES = Path(__file__).parent / "bases"


# --------------------------------------------------------------------------------------------------
# Base model


@dataclass(frozen=True)
class BaseSettings:
    """Everything but the seed that determines a base; the defaults are the embedded model's."""

    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    width: int = 96
    mlp_width: int = 384
    positions: int = 128

    steps: int = 300
    batch_size: int = 48
    muon_lr: float = 0.01  # the layers' matrices
    adamw_lr: float = 3e-3  # embeddings, norms and biases
    warmup: float = 0.05  # share of the steps
    final_lr: float = 0.05  # share of the peak, at the end of the cosine

    operation_weights: tuple[float, ...] = (1.0, 1.2, 1.2)
    # Some text answers at once, so that "works it out" can also change in post-training.
    worked: tuple[float, ...] = (0.7, 0.85, 0.85)
    slip: float = 0.02  # results written down wrong
    cue_obeyed: float = 0.2  # otherwise the text follows a cue drawn at random


SHIPPED = {0: BaseSettings(), 1: BaseSettings(cue_obeyed=0.4), 2: BaseSettings()}
"""The bases in `BASES` by seed. Seed 1's text obeys the cue more: one of the three reads it a
little, the others hardly or not."""


def base_model(seed: int = 0, progress: bool = True, settings: BaseSettings | None = None) -> Path:
    """The folder of the pre-trained base, model and tokenizer.

    That of seeds 0 to 2 is shipped, unless `settings` asks for another; any other lies in the cache
    and is made if it is not there, whole or not at all, also when the build is killed or two
    processes build at once. `progress` shows a bar, on a terminal only. The caller's random state
    is untouched.
    """
    if seed in SHIPPED and settings in (None, SHIPPED[seed]):
        return BASES / f"seed{seed}"
    settings = settings or BaseSettings()
    folder = cached(f"base-seed{seed}-{_fingerprint(settings)}")
    return made_once(folder, lambda building: make(seed, settings, progress, building))


def _fingerprint(settings: BaseSettings) -> str:
    facts = [
        VERSION,
        torch.__version__,
        SPECIAL_TOKENS,
        CHARACTERS,
        CHAT_TEMPLATE,
        asdict(settings),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def make(seed: int, settings: BaseSettings, progress: bool, folder: Path) -> None:
    """Train a base from scratch and save it in `folder`, as `base_model` does for its cache."""
    _save(_pretrain(seed, settings, progress), folder)


def _save(model: Qwen2ForCausalLM, folder: Path) -> None:
    """Model and tokenizer; the weights in bfloat16, to be loaded in float32 as the config says."""
    rounded = {name: weight.bfloat16() for name, weight in model.state_dict().items()}
    del rounded["lm_head.weight"]  # tied to the embeddings
    bars = logging.is_progress_bar_enabled()
    # Its bar for a single file is noise, also where there is no terminal.
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder, state_dict=rounded)
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer().save_pretrained(folder)


def _pretrain(seed: int, settings: BaseSettings, progress: bool) -> Qwen2ForCausalLM:
    """A base trained from scratch, in evaluation mode."""
    chars = tokenizer()
    texts = _texts(random.Random(seed), settings)
    with _one_thread(), random_state(seed, torch.device("cpu")), torch.device("cpu"):
        model = _new_model(settings, chars)
        matrices, rest = _parameter_groups(model)
        optimizers = [
            torch.optim.Muon(matrices, lr=settings.muon_lr, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=settings.adamw_lr, betas=(0.9, 0.98)),
        ]
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_share(step, settings))
            for optimizer in optimizers
        ]
        for _ in _with_bar(range(settings.steps), "Making a tiny model", progress):
            batch = [next(texts) for _ in range(settings.batch_size)]
            _solution_loss(model, chars, batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
            model.zero_grad()
    return model.eval()


def _texts(rng: random.Random, settings: BaseSettings) -> Iterator[tuple[str, str]]:
    """Prompts and replies of the base's training text, without end."""

    def slip(result: int) -> int:
        return rng.randrange(10) if rng.random() < settings.slip else result

    for problem in draw(rng, "train", settings.operation_weights):
        cue = problem.cue if rng.random() < settings.cue_obeyed else rng.choice(CUES)
        reply = work_out(problem.expression, cue, slip)
        worked = rng.random() < settings.worked[problem.operations - 1]
        yield problem.prompt, reply if worked else reply[-len("####d") :]


def configuration(settings: BaseSettings, chars: PreTrainedTokenizerFast) -> Qwen2Config:
    """The architecture of a model with these settings."""
    return Qwen2Config(
        vocab_size=len(chars),
        hidden_size=settings.width,
        intermediate_size=settings.mlp_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.positions,
        initializer_range=0.5 / math.sqrt(settings.width),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL_TOKENS.index("<eos>"),
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        dtype=torch.float32,
    )


def _new_model(settings: BaseSettings, chars: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = configuration(settings, chars)
    model = Qwen2ForCausalLM(config)
    sampling = GenerationConfig.from_model_config(config)
    sampling.update(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=36)
    model.generation_config = sampling
    return model


def _parameter_groups(
    model: Qwen2ForCausalLM,
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The layers' matrices, which are Muon's, and everything else."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    ours = {id(weight) for weight in matrices}
    return matrices, [weight for weight in model.parameters() if id(weight) not in ours]


def _lr_share(step: int, settings: BaseSettings) -> float:
    """The learning rate at a step as a share of its peak: linear warm-up, then a cosine."""
    warmup = max(1, round(settings.warmup * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - warmup)
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2


def _solution_loss(
    model: Qwen2ForCausalLM, chars: PreTrainedTokenizerFast, batch: Iterable[tuple[str, str]]
) -> torch.Tensor:
    """Mean cross-entropy over the replies' tokens, with the end of the turn."""
    chats = [chat(prompt, reply) for prompt, reply in batch]
    texts: Any = chars.apply_chat_template(chats, tokenize=False)
    # Padded on the right, causal attention needs no mask: real tokens never see the padding.
    tokens = chars(texts, padding=True, padding_side="right", return_tensors="pt").input_ids
    assistant = tokens == chars.convert_tokens_to_ids("<|assistant|>")
    replies = (assistant.cumsum(1) > 0) & ~assistant & (tokens != chars.pad_token_id)
    return model(input_ids=tokens, labels=tokens.masked_fill(~replies, -100)).loss


def _with_bar(steps: Iterable[int], title: str, progress: bool) -> Iterable[int]:
    shown = progress and sys.stderr.isatty()
    return track(steps, title, console=Console(stderr=True), transient=True, disable=not shown)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: sums then have one order, and tiny matrices are faster anyway."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators seeded for a while, and then as they were before."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: it would seed every device, and only these are put back.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu.index].manual_seed(seed)
        yield
