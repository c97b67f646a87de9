"""Where the repository and the material beside it lie."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared"
TINY = REPO / "recipes" / "tiny"
