"""The decoder families that are supported."""

from __future__ import annotations

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
