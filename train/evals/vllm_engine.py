"""Responses by vLLM: many at once, and the weights of a model that takes several GPUs.

Prompts, seeds, lengths and the tokens that end a response are those of `sampling`; the noise is
vLLM's own, so that its responses and those of Transformers are not paired. Needs the extra `vllm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from transformers import GenerationConfig

from tracking.errors import BadInput
from train.checkpoints.models import Model
from train.evals.sampling import (
    Request,
    Response,
    Sampling,
    longest_first,
    noise_seed,
    prompts_of,
    response,
    stops,
)


def check_vllm(model: Model) -> None:
    """Raise `BadInput` where vLLM is not there, or cannot take the model as it is."""
    if find_spec("vllm") is None:
        raise BadInput(
            "--use_vllm: vLLM is not installed; pip install -e '.[vllm]' (needs CUDA), or leave "
            "it out"
        )
    if model.base:
        raise BadInput(
            f"--use_vllm: {model.source} is an adapter; merge it into its base first "
            "(model.merge_and_unload()), or leave --use_vllm out"
        )


def respond_by_vllm(
    model: Model, tokenizer: Any, requests: Sequence[Request], sampling: Sampling, gpus: int = 1
) -> Iterator[list[Response]]:
    """As `sampling.respond`, but that `model` is not loaded yet: vLLM does it, on so many GPUs."""
    # an extra, which takes long to load
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    prompts = prompts_of(tokenizer, requests, sampling.system_prompt)
    longest = max((len(ids) for _, ids in prompts.values()), default=0)
    engine = LLM(
        model=model.source.name,
        revision=model.source.revision,
        tensor_parallel_size=gpus,
        max_model_len=longest + sampling.max_new_tokens,
        skip_tokenizer_init=True,  # it is given tokens and gives tokens
    )
    ends = stops(_generation_config(model), tokenizer)
    ordered = longest_first(requests, prompts)
    for start in range(0, len(ordered), sampling.batch_size):
        batch = ordered[start : start + sampling.batch_size]
        texts = [prompts[request.problem.question] for request in batch]
        written = engine.generate(
            [{"prompt_token_ids": ids} for _, ids in texts],
            [
                SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_new_tokens,
                    stop_token_ids=ends,
                    seed=noise_seed(sampling.seed, request),
                    detokenize=False,
                )
                for request in batch
            ],
            use_tqdm=False,
        )
        yield [
            response(tokenizer, request, prompt, list(each.outputs[0].token_ids), ends)
            for request, (prompt, _), each in zip(batch, texts, written, strict=True)
        ]


def _generation_config(model: Model) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(model.source.files)
    except OSError:  # it has none
        return GenerationConfig.from_model_config(model.config)
