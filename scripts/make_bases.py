"""Makes the bases that are shipped, and the list of their bytes.

    ATEN_CPU_CAPABILITY=avx512 python scripts/make_bases.py

Three minutes on a quiet core. Other kernels, or another version of torch, round the training
otherwise: bases that are made anew may be other bases, and what docs/tiny.md says of them is to be
measured again.
"""

from __future__ import annotations

import hashlib
import shutil

from train.tiny.base import BASES, SHIPPED, make


def main() -> None:
    shutil.rmtree(BASES, ignore_errors=True)
    for seed, settings in SHIPPED.items():
        make(seed, settings, True, BASES / f"seed{seed}")
    files = sorted(path for path in BASES.rglob("*") if path.is_file())
    sums = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(BASES)}\n"
        for path in files
    )
    (BASES / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
