"""A run's prompt pairs on disk: frozen before its first step, named by their hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs

HEADER = "sparks-prompt-pairs"
"""The key in a pair file's header that tells it from other safetensors files."""


# A run's pairs on disk


def pairs_hash(pairs: Mapping[str, PromptPairs]) -> str:
    """Sixteen hexadecimal characters that name a run's pairs, in whatever order."""
    named = "".join(f"{contrast!r} {pairs[contrast].hash};" for contrast in sorted(pairs))
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def freeze(pairs: Mapping[str, PromptPairs], path: str | os.PathLike) -> None:
    """Write a run's pairs, by contrast, to one safetensors file: whole, or not at all.

    Tensors are named `<contrast>/<field>`; the texts are JSON in the header, where any safetensors
    reader shows them.
    """
    tensors = {
        f"{contrast}/{name}": tensor.cpu().contiguous()
        for contrast, chosen in pairs.items()
        for name, tensor in chosen.tensors.items()
    }
    texts = {contrast: chosen.texts for contrast, chosen in pairs.items()}
    write_whole(Path(path), save(tensors, metadata={HEADER: json.dumps(texts)}))


def load_pairs(path: str | os.PathLike) -> dict[str, PromptPairs]:
    """The pairs that `freeze` wrote, by contrast.

    Raises BadInput for a file that is missing, cut short, or not a file of pairs.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; a run writes its pairs before its first step")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: damaged, or not a safetensors file ({error})") from error
    if header is None:
        raise BadInput(f"{path}: a safetensors file, but not one of pairs")
    try:
        texts = json.loads(header)
        return {
            contrast: PromptPairs(**of_contrast(tensors, contrast), texts=texts[contrast])
            for contrast in texts
        }
    except (TypeError, ValueError, LookupError) as error:
        raise BadInput(f"{path}: not a file of pairs as Sparks writes them ({error})") from error


def of_contrast(tensors: Mapping[str, Tensor], contrast: str) -> dict[str, Any]:
    names = [name for name in tensors if name.rpartition("/")[0] == contrast]
    return {name.rpartition("/")[2]: tensors[name] for name in names}
