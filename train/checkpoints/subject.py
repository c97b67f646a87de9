"""The model that is evaluated, by a word in the command line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from train.checkpoints import folders, models
from train.checkpoints.models import Model, Source
from train.run import resume
from train.run.console import say
from train.tasks.registry import MODELS

LENGTH = 2048  # tokens of a response, where the model itself does not say


@dataclass(frozen=True)
class Subject:
    """A model, not loaded, with its tokenizer; `folder` is where its responses go by default."""

    model: Model
    tokenizer: Any
    folder: Path

    @property
    def max_new_tokens(self) -> int:
        """Of a response, if nothing is said."""
        return usual_length((self.model.base or self.model.source).files)

    @property
    def facts(self) -> dict[str, str]:
        """What its responses depend on, of the model: its name for people, hashes of its weights
        and its chat template."""
        template = str(getattr(self.tokenizer, "chat_template", None))
        return {
            "model": str(self.model.source),
            "weights": _weights_hash(self.model),
            "chat_template": hashlib.sha256(template.encode()).hexdigest()[:16],
        }


def subject(word: str) -> Subject:
    """The model that a word means: one that Sparks names, a folder with a model, a run or another
    folder of checkpoints (its finished model, else its last whole checkpoint), or the Hub's.

    Raises `BadInput` where there is none, or it is no language model that writes on.
    """
    if word in MODELS:
        named = MODELS[word]
        if named.one_thread:
            torch.set_num_threads(1)
        source = models.locate(str(named.folder(0)))
        return Subject(_describe(source), named.tokenizer(), Path("evals") / word)
    path = Path(word)
    if path.is_dir() and not folders.holds_model(path):
        path = _last(path)
        say(f"model      {path}, the last whole checkpoint")
    source = models.locate(str(path) if path.is_dir() else word)
    model = _describe(source)
    return Subject(model, models.tokenizer([model]), _folder(source))


def usual_length(model: str | Path) -> int:
    """Tokens of a response as a model's generation config says, else `LENGTH`."""
    try:
        return GenerationConfig.from_pretrained(model).max_new_tokens or LENGTH
    except OSError:  # it has none
        return LENGTH


def _describe(source: Source) -> Model:
    model = models.describe_any(source)
    if model.config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BadInput(f"{source} is a {model.config.model_type!r} model, which writes no text")
    return model


def _last(folder: Path) -> Path:
    if RunFolder(folder).config_path.exists():
        whole = resume.complete(folder)
        if not whole:
            raise BadInput(f"{folder} has no whole checkpoint yet")
    else:
        whole = folders.checkpoints(folder, say)
    return whole[max(whole)]


def _folder(source: Source) -> Path:
    """In its run, where it has one, else in the present folder."""
    name = Path(source.name)
    for run, inner in ((name, "final"), (name.parent, name.name)):
        if name.is_absolute() and RunFolder(run).config_path.exists():
            return run / "evals" / inner
    return Path("evals") / name.name


def _weights_hash(model: Model) -> str:
    """Of a Hub model, its commit; else of the contents of its files; of an adapter, its base's
    too."""
    digest = hashlib.sha256()
    for source in filter(None, (model.source, model.base)):
        if not Path(source.name).is_dir():
            digest.update(source.files.name.encode())
            continue
        for path in folders.weights(source.files):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
