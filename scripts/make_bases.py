"""Makes the bases that are shipped, and the list of their bytes.

    python scripts/make_bases.py

About three minutes on one core. Another CPU, or another version of torch, rounds the training
otherwise: bases that are made anew are other bases, and what docs/tiny.md says of them is to be
measured again.
"""

from __future__ import annotations

import hashlib
import shutil

from train.tiny.base import BASES, SHIPPED, BaseSettings, make


def main() -> None:
    shutil.rmtree(BASES, ignore_errors=True)
    for seed in SHIPPED:
        make(seed, BaseSettings(), True, BASES / f"seed{seed}")
    files = sorted(path for path in BASES.rglob("*") if path.is_file())
    sums = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(BASES)}\n"
        for path in files
    )
    (BASES / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
