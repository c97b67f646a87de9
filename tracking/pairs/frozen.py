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
from tracking.pairs.prompt_pairs import ProbeSet

HEADER = "sparks-probes"
"""The key in a probe file's header that tells it from other safetensors files."""


# A run's probes on disk


def probes_hash(probes: Mapping[str, ProbeSet]) -> str:
    """Sixteen hexadecimal characters that name a run's probes, whatever the order of the kinds."""
    named = "".join(f"{kind!r} {probes[kind].hash};" for kind in sorted(probes))
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def freeze(probes: Mapping[str, ProbeSet], path: str | os.PathLike) -> None:
    """Write a run's probes, by kind, to one safetensors file: whole, or not at all.

    Tensors are named `<kind>/<field>`; the texts are JSON in the header, where any safetensors
    reader shows them.
    """
    tensors = {
        f"{kind}/{name}": tensor.cpu().contiguous()
        for kind, chosen in probes.items()
        for name, tensor in chosen.tensors.items()
    }
    texts = {kind: chosen.texts for kind, chosen in probes.items()}
    write_whole(Path(path), save(tensors, metadata={HEADER: json.dumps(texts)}))


def load_probes(path: str | os.PathLike) -> dict[str, ProbeSet]:
    """The probes that `freeze` wrote, by kind.

    Raises BadInput for a file that is missing, cut short, or not a file of probes.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; a run writes its probes before its first step")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: damaged, or not a safetensors file ({error})") from error
    if header is None:
        raise BadInput(f"{path}: a safetensors file, but not one of probes")
    try:
        texts = json.loads(header)
        return {kind: ProbeSet(**of_kind(tensors, kind), texts=texts[kind]) for kind in texts}
    except (TypeError, ValueError, LookupError) as error:
        raise BadInput(f"{path}: not a file of probes as Sparks writes them ({error})") from error


def of_kind(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    names = [name for name in tensors if name.rpartition("/")[0] == kind]
    return {name.rpartition("/")[2]: tensors[name] for name in names}
