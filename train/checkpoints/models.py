"""A model that anyone made: where its files are, what shape it has, and how it is loaded.

It is a folder or a Hub name with `@revision`, whole or an adapter on a base: the one that its
`adapter_config.json` names, or of that name beside it.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tracking.errors import BadInput
from tracking.model.adapters import check_config
from tracking.model.architecture import architecture_of
from train.checkpoints.folders import holds_model, weights

SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")  # of a Hub model: all but its weights
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
SHAPE = {
    "model_type": "family",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "KV heads",
    "hidden_size": "width",
    "head_dim": "width of a head",
}


@dataclass(frozen=True)
class Source:
    """Where a model comes from."""

    name: str  # a folder or a Hub name
    revision: str | None
    files: Path  # a folder with its files, of a Hub model all but the weights

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class Model:
    """A model, not loaded; `base` is what an adapter lies on."""

    source: Source
    base: Source | None
    config: Any

    @property
    def precision(self) -> torch.dtype:
        """In which its weights were saved, as its configuration says; float32 where it does not,
        into which any weights go unchanged."""
        return self.config.get_text_config().dtype or torch.float32

    def differs(self, other: Model) -> str:
        """What is another in the shape of two models, in words; empty where nothing is."""
        for key, name in SHAPE.items():
            mine, others = getattr(self.config, key, None), getattr(other.config, key, None)
            if mine != others:
                return f"{self.source} has {name} {mine}, {other.source} has {others}"
        return ""

    def load(
        self, device_map: str | None = None, precision: torch.dtype | Literal["auto"] = "auto"
    ) -> Any:
        """The model with its weights, on the GPU where there is one, or on several by accelerate's
        `device_map`, in a precision, by default that in which they were saved; adapters and what a
        model keeps wider stay as they are. `BadInput` where its files lack weights."""
        whole = self.base or self.source
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            whole.name, revision=whole.revision, dtype=precision, output_loading_info=True,
            device_map=device_map,
        )  # fmt: skip
        model, report = loaded
        if lacking := sorted(report["missing_keys"]):
            raise BadInput(f"{whole} lacks weights: {lacking[0]} and {len(lacking) - 1} more")
        if device_map is None:
            model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        return self._adapted(model) if self.base else model

    def _adapted(self, model: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            try:
                return PeftModel.from_pretrained(
                    model, self.source.name, revision=self.source.revision
                )
            except UserWarning as lacking:
                raise BadInput(f"{self.source}: {str(lacking)[:200]}") from None


def locate(word: str) -> Source:
    """The model of a word in the command line: a folder, or a Hub name perhaps with `@revision`.

    Raises `BadInput` where there is none; of a Hub model small files are fetched.
    """
    if Path(word).is_dir():
        if not holds_model(Path(word)):
            raise BadInput(f"{word} is no model: it has no config.json and no adapter_config.json")
        try:
            weights(Path(word))
        except BadInput as damage:
            raise BadInput(f"{word} is no whole model: {damage}") from None
        return Source(str(Path(word).resolve()), None, Path(word).resolve())
    name, _, revision = word.partition("@")
    if not HUB_NAME.fullmatch(name):
        raise BadInput(f"model {word!r}: no such folder")
    try:
        files = snapshot_download(name, revision=revision or None, allow_patterns=[*SMALL_FILES])
    except (OSError, ValueError, HFValidationError) as error:
        raise BadInput(
            f"model {word!r} is no folder and cannot be fetched: {_line(error)}"
        ) from None
    return Source(name, revision or None, Path(files))


def describe(source: Source, fallback: Source | None = None) -> Model:
    """A model by its small files; an adapter whose own base is not there lies on `fallback`.

    Raises `BadInput` where it cannot be analysed: its adapter or its architecture.
    """
    model = describe_any(source, fallback)
    architecture_of(model.config.model_type, model.base or source)
    return model


def describe_any(source: Source, fallback: Source | None = None) -> Model:
    """The same of any architecture, for what does not look into the model."""
    base = _base(source, fallback) if (source.files / "adapter_config.json").is_file() else None
    whole = base or source
    try:
        config = AutoConfig.from_pretrained(whole.files)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{whole}: its config.json cannot be read: {_line(error)}") from None
    return Model(source, base, config)


def tokenizer(models: Iterable[Model]) -> Any:
    """The tokenizer of the first of these models that has one, an adapter's own before its base's;
    `BadInput` where none has."""
    sources = [source for model in models for source in (model.source, model.base) if source]
    for source in sources:
        if not any((source.files / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            continue
        try:
            return AutoTokenizer.from_pretrained(source.files)
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(f"{source}: its tokenizer cannot be read: {_line(error)}") from None
    raise BadInput(
        f"no tokenizer in {sources[0]}, nor in the others; put tokenizer.json there, or give the "
        "model that they began with: --base MODEL"
    )


def _base(source: Source, fallback: Source | None) -> Source:
    """What an adapter lies on: the folder that it names, or of that name beside it, else the Hub's
    model of that name, else `fallback`."""
    path = source.files / "adapter_config.json"
    try:
        facts = json.loads(path.read_bytes())
        named = str(facts["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError):
        raise BadInput(f"{path} cannot be read, or names no base_model_name_or_path") from None
    try:
        check_config(facts)
    except BadInput as refusal:
        raise BadInput(f"{source}: {refusal}") from None
    name = Path(named).name
    beside = [parent / name for parent in list(source.files.parents)[:3] if name]
    for folder in (Path(named), *beside):
        if folder.is_dir() and holds_model(folder) and folder.resolve() != source.files:
            return locate(str(folder))
    try:
        return locate(named)
    except BadInput:
        if fallback:
            return fallback
        raise BadInput(
            f"{source}: its base {named!r} is not here; put it beside it, or give it: --base MODEL"
        ) from None


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
