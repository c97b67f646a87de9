"""Responses to problems, sampled so that they can be paired and resumed.

The randomness of a response belongs to its seed, problem and sample number, not to the batch that
it is generated in: every row has a random generator of its own, whose Gumbel noise is added to the
logits at every position, and the highest is taken. The argmax of logits / T + Gumbel noise is an
exact sample of softmax(logits / T) (Gumbel-max trick; Maddison et al. 2014, arXiv:1411.0030). So

- a resumed job goes on as if it had never stopped, in whatever batches;
- two models, or one with and without an intervention, answer with common random numbers: where
  their probabilities are alike they write the same.

That holds up to rounding: another batch rounds logits otherwise, which now and then turns a near
tie, in bfloat16 more often than in float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tracking.errors import BadInput
from tracking.pairs.problems import chat_prompt
from tracking.pairs.solutions import GREEDY, undisturbed
from tracking.pairs.text import padding
from train.evals.problems import Problem

Around = Callable[[Sequence["Request"]], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled; temperature 0 is greedy. All of the distribution counts but for
    `top_p`, and nothing is penalized, whatever the model's own generation config says."""

    temperature: float = 0.6
    top_p: float = 1.0
    max_new_tokens: int = 2048
    seed: int = 0
    batch_size: int = 16
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise BadInput(f"temperature is {self.temperature}; 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"top_p is {self.top_p}; above 0 and at most 1 (all)")
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; at least 1")
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}; 0 or more")

    @property
    def facts(self) -> dict[str, Any]:
        """What responses depend on: all but how many are generated at once."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}


@dataclass(frozen=True)
class Request:
    """A response that is wanted: the `sample`-th, from 0, to a problem.

    condition: the name of what is done to the model meanwhile; "" is the model as it is
    factors: what is done, by node; handed to `around` and not read here
    """

    problem: Problem
    sample: int
    condition: str = ""
    factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells it from all others: benchmark, problem, sample, condition."""
        return self.problem.benchmark, self.problem.id, self.sample, self.condition


@dataclass(frozen=True)
class Response:
    """What the model wrote, without special tokens.

    length: in tokens, with the one that ends it
    cut_off: whether it had not ended after `max_new_tokens`
    tokens: as they were sampled, special ones and the one that ends it among them
    """

    request: Request
    prompt: str
    text: str
    length: int
    cut_off: bool
    tokens: tuple[int, ...] = ()


def every_sample(problems: Sequence[Problem], samples: int, sampling: Sampling) -> list[Request]:
    """Requests for `samples` responses to each problem; `BadInput` where greedy ones would be
    wanted more than once."""
    if samples < 1:
        raise BadInput(f"samples is {samples}; at least 1 response a problem")
    if sampling.temperature == 0 and samples > 1:
        raise BadInput(f"temperature 0 is greedy, so samples must be 1, not {samples}")
    return [Request(problem, sample) for problem in problems for sample in range(samples)]


def respond(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    around: Around | None = None,
) -> Iterator[list[Response]]:
    """The responses to all requests, a batch at a time, those to the longest prompts first.

    `around(batch)` gives a context manager in which a batch is generated; its requests are in the
    order of the batch's rows. The model's mode and the random states
    are between batches what they were.
    """
    prompts = prompts_of(tokenizer, requests, sampling.system_prompt)
    ordered = longest_first(requests, prompts)
    for start in range(0, len(ordered), sampling.batch_size):
        batch = ordered[start : start + sampling.batch_size]
        rows = around(batch) if around else nullcontext()
        texts = [prompts[request.problem.question] for request in batch]
        with undisturbed(model), torch.no_grad(), rows:
            written = _generate(model, tokenizer, [ids for _, ids in texts], batch, sampling)
        ends = stops(model.generation_config, tokenizer)
        yield [
            response(tokenizer, request, prompt, tokens.tolist(), ends)
            for request, (prompt, _), tokens in zip(batch, texts, written, strict=True)
        ]


def longest_first(
    requests: Sequence[Request], prompts: Mapping[str, tuple[str, list[int]]]
) -> list[Request]:
    """Requests in the order in which they are answered: by the length of their prompts, the
    conditions of one sample side by side."""

    def place(request: Request) -> tuple:
        question = request.problem.question
        return -len(prompts[question][1]), question, request.sample, request.condition

    return sorted(requests, key=place)


def check_room(
    config: Any, tokenizer: Any, requests: Sequence[Request], sampling: Sampling
) -> None:
    """Raise `BadInput` where a prompt and its response are longer than the positions of a model,
    as its `config` tells them."""
    prompts = prompts_of(tokenizer, requests, sampling.system_prompt)
    longest = max((len(ids) for _, ids in prompts.values()), default=0)
    room = getattr(config, "max_position_embeddings", None)
    if room is not None and longest + sampling.max_new_tokens > room:
        raise BadInput(
            f"max_new_tokens is {sampling.max_new_tokens}, but the longest prompt leaves "
            f"{max(room - longest, 0)} of the model's {room} positions"
        )


class GumbelNoise(LogitsProcessor):
    """Adds to each row's logits, [row, vocabulary], noise of the row's own generator.

    The noise is of 24 bits: tokens of a probability below 1e-7 are sampled roughly.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = torch.empty_like(scores, dtype=torch.float32)
        for generator, row in zip(self.generators, noise, strict=True):
            row.uniform_(generator=generator)
        # in place: at a large vocabulary this is most of what sampling costs
        return noise.log_().neg_().log_().neg_().add_(scores)


def noise_seed(seed: int, request: Request) -> int:
    """Of a request's noise: the same in all batches and under all conditions."""
    text = f"{seed}\0{request.problem.id}\0{request.sample}"
    # A CPU's generator takes 32 bits of it.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    batch: Sequence[Request],
    sampling: Sampling,
) -> Tensor:
    """The new tokens, [row, position], after each prompt; rows that ended are filled up."""
    ids = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
    ids = ids.to(model.device)
    processors = LogitsProcessorList()
    if sampling.temperature > 0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        seeds = [noise_seed(sampling.seed, request) for request in batch]
        processors.append(GumbelNoise(seeds, model.device))
    written = model.generate(
        input_ids=ids["input_ids"],
        attention_mask=ids["attention_mask"],
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=stops(model.generation_config, tokenizer),
        pad_token_id=padding(tokenizer),
        repetition_penalty=1.0,
        logits_processor=processors,
        **GREEDY,
    )
    return written[:, ids["input_ids"].shape[1] :]


def response(
    tokenizer: Any, request: Request, prompt: str, ids: Sequence[int], ends: Sequence[int]
) -> Response:
    """What the new tokens `ids` say, up to the first of those that end a response."""
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    sampled = tuple(ids if end is None else ids[: end + 1])
    return Response(request, prompt, text, len(sampled), end is None, sampled)


def stops(config: GenerationConfig, tokenizer: Any) -> list[int]:
    """The tokens that end a response: those of a model's generation config, which may be one or
    several, and the tokenizer's."""
    own = config.eos_token_id
    ids = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    return [token for token in dict.fromkeys(ids) if token is not None]


def prompts_of(
    tokenizer: Any, requests: Sequence[Request], system_prompt: str | None
) -> dict[str, tuple[str, list[int]]]:
    """Prompt and token ids by question."""
    questions = dict.fromkeys(request.problem.question for request in requests)
    texts = {asked: chat_prompt(tokenizer, asked, system_prompt) for asked in questions}
    templated = bool(getattr(tokenizer, "chat_template", None))  # it has the special tokens in it
    return {
        asked: (text, tokenizer(text, add_special_tokens=not templated)["input_ids"])
        for asked, text in texts.items()
    }
