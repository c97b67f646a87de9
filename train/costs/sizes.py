"""Bytes that a job takes in each of its processes, and on disk, counted without loading weights.

The model is built and run with fake tensors, which have shapes and no contents. What autograd keeps
of a pass are its activations, whatever the architecture; where all layers are alike, passes through
one and two of them say what all keep.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers import AutoModelForCausalLM
from trl import get_peft_config, maybe_apply_chat_template

from tracking.errors import BadInput
from tracking.model.adapters import without_adapters
from tracking.model.decoder import Decoder
from tracking.model.ends import kept_gb
from tracking.model.passes import bytes_each, fitting
from tracking.pairs.prompt_pairs import PromptPairs
from train.config import Job
from train.model import Start, configuration

LOOKED_AT = 256  # rows whose longest is taken for the data's
# Bytes of its states for each byte, or (bnb's) for each number, of a trained parameter.
STATES = {"adamw_torch": 2.0, "adamw_torch_fused": 2.0, "sgd": 0.0, "adafactor": 0.0}
NUMBER = re.compile(r"\.\d+\.")  # of a layer, in the names of its parameters
EIGHT_BIT = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")


@dataclass(frozen=True)
class Sizes:
    """Bytes in a process that holds the whole model; ZeRO and FSDP divide the first three."""

    parameters: int  # how many
    precision: str  # of the weights, and of the analysis
    trained: int
    weights: int
    gradients: int
    optimizer: int | None  # None where its states are not known
    activations: int  # of one forward and backward pass
    teacher: int  # a distillation's teacher, its weights
    teacher_parameters: int
    cache: int  # of generation in this process
    analysis: int  # of the heads, at other times than training's
    shift: int  # weights that `track_shift` holds beside the model, between steps
    checkpoint: int  # on disk
    sequences: int  # of one pass
    tokens: int  # of the longest sequence

    @property
    def peak(self) -> int:
        """The most at any time; what the libraries themselves take comes on top."""
        held = self.weights + self.gradients + (self.optimizer or 0) + self.teacher
        return held + max(self.activations, self.cache, self.analysis, self.shift)


def sizes(
    job: Job,
    start: Start,
    rows: Dataset,
    pairs: Mapping[str, PromptPairs],
    teacher: Start | None = None,
) -> Sizes:
    """Count what a job on these rows takes; no weights are loaded.

    Raises `BadInput` where its adapter does not fit the model.
    """
    args, tokens = job.training, longest(job, start.tokenizer, rows)
    model, batch = _model(job, start), args.per_device_train_batch_size
    taught = [*_teacher(job, teacher).parameters()] if teacher is not None else []
    trained = [one for one in model.parameters() if one.requires_grad]
    weights, gradients = (sum(one.nbytes for one in some) for some in (model.parameters(), trained))
    optimizer = _optimizer(str(getattr(args.optim, "value", args.optim)), trained)
    saved = gradients if job.model.use_peft else weights
    return Sizes(
        parameters=sum(one.numel() for one in model.parameters()),
        precision=str(model.dtype).removeprefix("torch."),
        trained=sum(one.numel() for one in trained),
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=_activations(model, batch, tokens, args),
        teacher=sum(one.nbytes for one in taught),
        teacher_parameters=sum(one.numel() for one in taught),
        cache=_cache(job, model, batch, tokens),
        analysis=_analysis(job, model, pairs),
        shift=_shift(job, model, weights),
        checkpoint=saved + (0 if args.save_only_model else optimizer or 0),
        sequences=batch,
        tokens=tokens,
    )


def longest(job: Job, tokenizer: Any, rows: Dataset) -> int:
    """Tokens of the longest sequence that the job will see, judged by its first rows; where the
    model writes the completion, with one of full length."""
    args = job.training
    if getattr(args, "packing", False):
        return int(args.max_length)
    first = rows.select(range(min(LOOKED_AT, len(rows))))
    lengths = []
    for row in first:
        text = maybe_apply_chat_template(dict(row), tokenizer)
        words = [text[key] for key in ("prompt", "completion", "text") if text.get(key)]
        lengths.append(
            sum(len(tokenizer(one, add_special_tokens=False).input_ids) for one in words)
        )
    if job.name != "sft":
        return max(lengths) + int(args.max_completion_length)
    return min(max(lengths), args.max_length or max(lengths))


def _model(job: Job, start: Start) -> Any:
    model = _without_weights(job, configuration(start, job.model.model_revision))
    with torch.device("meta"):
        if job.model.use_peft:
            try:
                model = get_peft_model(model, get_peft_config(job.model))  # type: ignore[arg-type]
            except ValueError as error:
                raise BadInput(f"use_peft: {str(error).splitlines()[0]}") from None
    return model.train()


def _teacher(job: Job, teacher: Start) -> Any:
    return _without_weights(job, configuration(teacher, job.training.teacher_model_revision))


def _without_weights(job: Job, config: Any) -> Any:
    dtype = job.model.dtype
    chosen = config.dtype if dtype in ("auto", None) else getattr(torch, dtype)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=chosen)


def _activations(model: Any, batch: int, tokens: int, args: Any) -> int:
    """Bytes that a training pass over `batch` sequences of so many tokens takes at the most."""
    fake = FakeTensorMode()  # one for all passes: Phi-4-mini keeps frequencies of the first
    layers, alike = model.config.get_text_config().num_hidden_layers, layers_alike(model)

    def kept() -> int:
        if not alike:
            return _kept(model, layers, fake, batch, tokens, args)
        one, two = (_kept(model, count, fake, batch, tokens, args) for count in (1, 2))
        return one + (layers - 1) * (two - one)

    inside = kept()
    if not args.gradient_checkpointing:
        return inside
    model.gradient_checkpointing_enable()
    at_borders = kept()
    return at_borders + (inside - at_borders) // layers  # one layer at a time is run again


def layers_alike(model: nn.Module) -> bool:
    """Whether all layers have parameters of the same names and shapes, trained or not."""
    by_layer: dict[str, set[tuple[str, torch.Size, bool]]] = {}
    for name, one in model.named_parameters():
        if number := NUMBER.search(name):
            before, place, behind = name.partition(number[0])
            by_layer.setdefault(place, set()).add((before + behind, one.shape, one.requires_grad))
    return len({frozenset(of_layer) for of_layer in by_layer.values()}) == 1


def _kept(model: Any, layers: int, fake: FakeTensorMode, batch: int, tokens: int, args: Any) -> int:
    """Bytes that autograd keeps of a pass through the first `layers`, but for its logits, which the
    trainers never hold whole."""
    there: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        there[tensor.untyped_storage()._cdata] = tensor
        return tensor

    kind = torch.float16 if args.fp16 else torch.bfloat16
    low = torch.autocast("cpu", kind, enabled=bool(args.bf16 or args.fp16))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with fake:  # on the CPU, whose attention keeps what a GPU's flash attention does
        own = {
            name: torch.empty(one.shape, dtype=one.dtype).requires_grad_(one.requires_grad)
            for name, one in (*model.named_parameters(), *model.named_buffers())
        }
        ids = torch.zeros(batch, tokens, dtype=torch.long)
        asked = {"input_ids": ids, "use_cache": False, "logits_to_keep": 1}
        with hooks, low, _shortened(model.config.get_text_config(), layers):
            functional_call(model, own, (), asked)
    held = {one.untyped_storage()._cdata for one in own.values()}
    sizes = [one.untyped_storage().nbytes() for place, one in there.items() if place not in held]
    return sum(sizes)


@contextmanager
def _shortened(config: Any, layers: int) -> Iterator[None]:
    """Within it the model of a configuration runs its first `layers` alone."""
    whole = config.num_hidden_layers
    config.num_hidden_layers = layers
    try:
        yield
    finally:
        config.num_hidden_layers = whole


def _analysis(job: Job, model: nn.Module, pairs: Mapping[str, PromptPairs]) -> int:
    """Bytes of attribution's largest batch, and of the ends that are kept beside it."""
    settings, most = job.settings, 0
    for of_contrast in pairs.values():
        decoder = Decoder.of(model)
        kept = kept_gb(decoder, of_contrast, settings.memory_gb)
        fits = fitting(decoder, of_contrast, settings.memory_gb - kept)
        count = min(fits, settings.batch_size)
        most = max(most, count * bytes_each(decoder, of_contrast) + int(1e9 * kept))
    return most


def _shift(job: Job, model: Any, weights: int) -> int:
    """Bytes of the models that a live shift holds beside the one that is trained: one into which
    weights are exchanged, its unembedding apart from its embeddings, and the base where this is not
    the model without its adapters."""
    if not job.ours.track_shift:
        return 0
    decoder = Decoder.of(model)
    tied = decoder.lm_head.weight is decoder.embedding.weight
    apart = decoder.embedding.weight.nbytes if tied else 0
    return (2 if without_adapters(model) is None else 1) * weights + apart


def _optimizer(name: str, trained: list[Any]) -> int | None:
    if name in EIGHT_BIT:
        return 2 * sum(one.numel() for one in trained)
    states = STATES.get(name)
    return None if states is None else math.ceil(states * sum(one.nbytes for one in trained))


def _cache(job: Job, model: Any, batch: int, tokens: int) -> int:
    """Keys and values of the sequences that are generated at once."""
    args = job.training
    if job.name == "sft" or args.use_vllm:
        return 0
    config = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    number = 2 if args.bf16 or args.fp16 else next(model.parameters()).element_size()
    many = args.steps_per_generation if job.name == "grpo" else args.gradient_accumulation_steps
    at_once = batch * (many or 1)
    return 2 * config.num_hidden_layers * heads * width * number * tokens * at_once
