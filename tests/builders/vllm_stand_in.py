"""The part of vLLM that Sparks calls, as vLLM documents it, computed by Transformers on a CPU.

It knows these arguments and no others, and says nothing of what vLLM does with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: list[int]
    seed: int
    detokenize: bool


@dataclass(frozen=True)
class CompletionOutput:
    token_ids: Sequence[int]


@dataclass(frozen=True)
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(
        self,
        *,
        model: str,
        revision: str | None,
        tensor_parallel_size: int,
        max_model_len: int,
        skip_tokenizer_init: bool,
    ) -> None:
        assert tensor_parallel_size == 1 and skip_tokenizer_init
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, revision=revision)
        self.room = max_model_len

    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool,
    ) -> list[RequestOutput]:
        assert not use_tqdm
        return [
            RequestOutput([CompletionOutput(self._tokens(prompt["prompt_token_ids"], params))])
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    @torch.no_grad()
    def _tokens(self, ids: list[int], params: SamplingParams) -> list[int]:
        assert len(ids) + params.max_tokens <= self.room and not params.detokenize
        assert params.top_p == 1
        written, generator = list(ids), torch.Generator().manual_seed(params.seed)
        for _ in range(params.max_tokens):
            logits = self.model(torch.tensor([written])).logits[0, -1]
            if params.temperature:
                chances = (logits / params.temperature).softmax(-1)
                token = int(torch.multinomial(chances, 1, generator=generator))
            else:
                token = int(logits.argmax())
            written.append(token)
            if token in params.stop_token_ids:
                break
        return written[len(ids) :]
