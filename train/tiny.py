"""The tiny world: a model, a tokenizer and a task made in place, so that Sparks runs anywhere.

The task is cued chain arithmetic modulo 10. A prompt is a cue and an expression, evaluated left to
right; the cue says whether the result is negated:

    prompt    -(3+5*2)
    solution  3+5=8;8*2=6;-6=4;####4

The base model, a Qwen2 of half a million parameters, is trained here on text in which the cue is
mostly ignored: it can calculate but hardly reads the cue. Post-training has to learn to read it,
and reading one token far away is what an attention head is for. So heads should emerge, and one
knows what for. Items whose answer is the same under both cues say nothing about that; evaluation
leaves them out and counts the answers that are the *other* cue's apart ("flip").

The base depends on its settings and seed alone: it is made in about a minute, once, and kept
in `$SPARKS_CACHE` (or `~/.cache/sparks`).
"""

import hashlib
import json
import math
import operator
import os
import random
import re
import shutil
import string
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from rich.console import Console
from rich.progress import track
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)
from transformers.utils import logging

Split = Literal["train", "test"]

CUES = "+-"
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
EXPRESSION = re.compile(r"[0-9](?:[-+*][0-9])+")
ANSWER = re.compile(r"[^#]*####([0-9])")

SPECIAL_TOKENS = ["<pad>", "<eos>", "<unk>", "<|user|>", "<|assistant|>"]
# Byte-level tokenizers write the space as Ġ and the newline as Ċ.
CHARACTERS = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "Ċ"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# To be raised when a change to this file changes the bases that it makes: caches hold old ones.
VERSION = 1


# --------------------------------------------------------------------------------------------------
# The task


def solution(expression: str, cue: str) -> str:
    """The worked solution: one step an operation, one for a `-` cue, then `####` and the answer.

    Raises ValueError for anything but digits joined by `+ - *` and a cue of `+` or `-`.
    """
    if not EXPRESSION.fullmatch(expression) or cue not in tuple(CUES):
        raise ValueError(f"not a cued chain: cue {cue!r}, expression {expression!r}")
    return _work_out(expression, cue, slip=lambda result: result)


def _work_out(expression: str, cue: str, slip: Callable[[int], int]) -> str:
    """As `solution`; `slip` turns the right result of an operation into the one written down."""
    value, text = int(expression[0]), ""
    for operation, operand in zip(expression[1::2], expression[2::2], strict=True):
        result = slip(OPERATIONS[operation](value, int(operand)) % 10)
        text += f"{value}{operation}{operand}={result};"
        value = result
    if cue == "-":
        text += f"-{value}={-value % 10};"
        value = -value % 10
    return f"{text}####{value}"


def answer_of(text: str) -> str | None:
    """The digit a completion answers with, or None unless it ends in exactly one `####d`."""
    found = ANSWER.fullmatch(text)
    return found[1] if found else None


@dataclass(frozen=True)
class Problem:
    """An expression such as `3+5*2` under a cue, `+` or `-`."""

    expression: str
    cue: str

    @property
    def prompt(self) -> str:
        """What the user says: `-(3+5*2)`."""
        return f"{self.cue}({self.expression})"

    @property
    def solution(self) -> str:
        """What the assistant should say, worked out."""
        return solution(self.expression, self.cue)

    @property
    def answer(self) -> str:
        """The right answer, one digit."""
        return self.solution[-1]

    @property
    def operations(self) -> int:
        """How many operations the expression has: 1 is easy, 3 is hard."""
        return len(self.expression) // 2

    @property
    def other(self) -> "Problem":
        """The same expression under the other cue."""
        return Problem(self.expression, "-" if self.cue == "+" else "+")

    @property
    def cue_matters(self) -> bool:
        """Whether the other cue has another answer (it has not for results 0 and 5)."""
        return self.answer != self.other.answer

    @property
    def held_out(self) -> bool:
        """Whether the expression, under either cue, belongs to the test split (one in eight)."""
        # Python's own hash() of a string differs from process to process.
        return hashlib.blake2b(self.expression.encode(), digest_size=1).digest()[0] % 8 == 0


def problems(
    split: Split,
    count: int,
    seed: int,
    weights: Sequence[float] = (1.0, 1.2, 1.2),
    cue_matters: bool = False,
) -> list[Problem]:
    """Draw `count` problems of a split, with replacement (there are only 300 of one operation).

    `weights` are those of one, two, ... operations. With `cue_matters`, only problems whose answer
    depends on the cue.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    draws = _draws(random.Random(seed), split, weights)
    kept = (problem for problem in draws if problem.cue_matters or not cue_matters)
    return [next(kept) for _ in range(count)]


def _draws(rng: random.Random, split: Split, weights: Sequence[float]) -> Iterator[Problem]:
    """Problems of a split, without end."""
    lengths = range(1, len(weights) + 1)
    while True:
        length = rng.choices(lengths, weights)[0]
        links = (rng.choice("+-*") + rng.choice(string.digits) for _ in range(length))
        problem = Problem(rng.choice(string.digits) + "".join(links), rng.choice(CUES))
        if problem.held_out == (split == "test"):
            yield problem


def dataset(split: Split, count: int, seed: int) -> Dataset:
    """Rows for GRPO: `prompt` (conversational), `solution`, `answer` (str), `operations` (int).

    The test split holds only problems whose answer depends on the cue.
    """
    drawn = problems(split, count, seed, cue_matters=split == "test")
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": problem.prompt}] for problem in drawn],
            "solution": [problem.solution for problem in drawn],
            "answer": [problem.answer for problem in drawn],
            "operations": [problem.operations for problem in drawn],
        }
    )


def sft_dataset(split: Split, count: int, seed: int) -> Dataset:
    """Rows for SFT, the problems of `dataset`: `messages`, the prompt and its worked solution."""
    drawn = problems(split, count, seed, cue_matters=split == "test")
    return Dataset.from_dict({"messages": [_chat(item.prompt, item.solution) for item in drawn]})


def _chat(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def tiny_answer_reward(
    completions: Sequence[Any], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    """TRL reward: 1.0 where the completion's answer is the right one, else 0.0.

    Completions may be strings or conversations, of which the last message counts.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    return [float(answer_of(text) == right) for text, right in zip(texts, answer, strict=True)]


# --------------------------------------------------------------------------------------------------
# Tokenizer


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, `####` and the chat's marks single tokens; pads on the left.

    Characters outside printable ASCII and the newline are dropped.
    """
    # Qwen2's own class: AutoTokenizer takes it for any Qwen2, whatever class a folder names, and
    # would split text differently from another that was trained with.
    chars = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate([*SPECIAL_TOKENS, "####", *CHARACTERS])},
        merges=[],
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side="left",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    chars.add_tokens("####")
    return chars


# --------------------------------------------------------------------------------------------------
# Base model


@dataclass(frozen=True)
class BaseSettings:
    """Everything but the seed that determines a base; the defaults are the embedded model's."""

    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    width: int = 96
    mlp_width: int = 384
    positions: int = 128

    steps: int = 300
    batch_size: int = 48
    muon_lr: float = 0.01  # the layers' matrices
    adamw_lr: float = 3e-3  # embeddings, norms and biases
    warmup: float = 0.05  # share of the steps
    final_lr: float = 0.05  # share of the peak, at the end of the cosine

    operation_weights: tuple[float, ...] = (1.0, 1.2, 1.2)
    # Some text answers at once, so that "works it out" can also change in post-training.
    worked: tuple[float, ...] = (0.7, 0.85, 0.85)
    slip: float = 0.02  # results written down wrong
    cue_obeyed: float = 0.2  # otherwise the text follows a cue drawn at random


def base_model(seed: int = 0, progress: bool = True, settings: BaseSettings | None = None) -> Path:
    """The folder of the pre-trained base (model and tokenizer), which is made if it is not cached.

    A folder is there whole or not at all, also when the build is killed or two processes build at
    once. `progress` shows a bar, on a terminal only. The caller's random state is untouched.
    """
    settings = settings or BaseSettings()
    folder = _cache() / f"base-seed{seed}-{_fingerprint(settings)}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        _save(_pretrain(seed, settings, progress), building)
        _publish(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("SPARKS_CACHE") or "~/.cache/sparks").expanduser()


def _fingerprint(settings: BaseSettings) -> str:
    facts = [
        VERSION,
        torch.__version__,
        SPECIAL_TOKENS,
        CHARACTERS,
        CHAT_TEMPLATE,
        asdict(settings),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _save(model: Qwen2ForCausalLM, folder: Path) -> None:
    bars = logging.is_progress_bar_enabled()
    # Its bar for a single file is noise, also where there is no terminal.
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer().save_pretrained(folder)


def _publish(building: Path, folder: Path) -> None:
    """Give a finished folder its name, once its bytes are on disk."""
    for path in [*building.iterdir(), building]:
        _sync(path)
    try:
        os.rename(building, folder)
    except OSError:
        # Another process was faster; its base is the same.
        if not folder.is_dir():
            raise
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pretrain(seed: int, settings: BaseSettings, progress: bool) -> Qwen2ForCausalLM:
    """A base trained from scratch, in evaluation mode."""
    chars = tokenizer()
    texts = _texts(random.Random(seed), settings)
    with _one_thread(), _random_state(seed, torch.device("cpu")), torch.device("cpu"):
        model = _new_model(settings, chars)
        matrices, rest = _parameter_groups(model)
        optimizers = [
            torch.optim.Muon(matrices, lr=settings.muon_lr, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=settings.adamw_lr, betas=(0.9, 0.98)),
        ]
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_share(step, settings))
            for optimizer in optimizers
        ]
        for _ in _with_bar(range(settings.steps), "Making the tiny base", progress):
            batch = [next(texts) for _ in range(settings.batch_size)]
            _solution_loss(model, chars, batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
            model.zero_grad()
    return model.eval()


def _texts(rng: random.Random, settings: BaseSettings) -> Iterator[tuple[str, str]]:
    """Prompts and replies of the base's training text, without end."""

    def slip(result: int) -> int:
        return rng.randrange(10) if rng.random() < settings.slip else result

    for problem in _draws(rng, "train", settings.operation_weights):
        cue = problem.cue if rng.random() < settings.cue_obeyed else rng.choice(CUES)
        reply = _work_out(problem.expression, cue, slip)
        worked = rng.random() < settings.worked[problem.operations - 1]
        yield problem.prompt, reply if worked else reply[-len("####d") :]


def _new_model(settings: BaseSettings, chars: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(chars),
        hidden_size=settings.width,
        intermediate_size=settings.mlp_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.positions,
        initializer_range=0.5 / math.sqrt(settings.width),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL_TOKENS.index("<eos>"),
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        dtype=torch.float32,
    )
    model = Qwen2ForCausalLM(config)
    sampling = GenerationConfig.from_model_config(config)
    sampling.update(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=36)
    model.generation_config = sampling
    return model


def _parameter_groups(
    model: Qwen2ForCausalLM,
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The layers' matrices, which are Muon's, and everything else."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    taken = {id(weight) for weight in matrices}
    return matrices, [weight for weight in model.parameters() if id(weight) not in taken]


def _lr_share(step: int, settings: BaseSettings) -> float:
    """The learning rate at a step as a share of its peak: linear warm-up, then a cosine."""
    warmup = max(1, round(settings.warmup * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - warmup)
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2


def _solution_loss(
    model: Qwen2ForCausalLM, chars: PreTrainedTokenizerFast, batch: Iterable[tuple[str, str]]
) -> torch.Tensor:
    """Mean cross-entropy over the replies' tokens, with the end of the turn."""
    chats = [_chat(prompt, reply) for prompt, reply in batch]
    texts: Any = chars.apply_chat_template(chats, tokenize=False)
    # Padded on the right, causal attention needs no mask: real tokens never see the padding.
    tokens = chars(texts, padding=True, padding_side="right", return_tensors="pt").input_ids
    assistant = tokens == chars.convert_tokens_to_ids("<|assistant|>")
    replies = (assistant.cumsum(1) > 0) & ~assistant & (tokens != chars.pad_token_id)
    return model(input_ids=tokens, labels=tokens.masked_fill(~replies, -100)).loss


def _with_bar(steps: Iterable[int], title: str, progress: bool) -> Iterable[int]:
    shown = progress and sys.stderr.isatty()
    return track(steps, title, console=Console(stderr=True), transient=True, disable=not shown)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: sums then have one order, and tiny matrices are faster anyway."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators seeded for a while, and then as they were before."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: it would seed every device, and only these are put back.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu.index].manual_seed(seed)
        yield


# --------------------------------------------------------------------------------------------------
# Evaluation


@dataclass(frozen=True)
class Evaluation:
    """Shares, in [0, 1], of `count` answers; `by_operations` has the same for each length."""

    count: int
    right: float
    flip: float  # the other cue's answer: calculated right, cue unread
    malformed: float  # no answer to be read
    by_operations: dict[int, "Evaluation"] = field(default_factory=dict)


@torch.no_grad()
def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    max_new_tokens: int = 36,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
) -> Evaluation:
    """Let the model answer each problem once and grade it; temperature 0 decodes greedily.

    Leaves the model's mode and the caller's random state as they were. Raises ValueError without
    problems.
    """
    if not problems:
        raise ValueError("no problems to evaluate on")
    texts: list[str] = []
    training = model.training
    model.eval()
    try:
        with _random_state(seed, model.device):
            for start in range(0, len(problems), batch_size):
                batch = problems[start : start + batch_size]
                texts += _replies(model, tokenizer, batch, max_new_tokens, temperature)
    finally:
        model.train(training)
    graded = [(problem, answer_of(text)) for problem, text in zip(problems, texts, strict=True)]
    lengths = sorted({problem.operations for problem in problems})
    return _shares(
        graded,
        {n: _shares([pair for pair in graded if pair[0].operations == n], {}) for n in lengths},
    )


def _replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    batch: Sequence[Problem],
    max_new_tokens: int,
    temperature: float,
) -> list[str]:
    inputs: Any = tokenizer.apply_chat_template(
        [[{"role": "user", "content": problem.prompt}] for problem in batch],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    # All of the distribution, whatever the model's own generation config says.
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    generate: Any = model.generate  # which pyright takes for a tensor
    tokens = generate(
        **inputs.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        **sampling,
    )
    return tokenizer.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def _shares(
    graded: Sequence[tuple[Problem, str | None]], by_operations: dict[int, Evaluation]
) -> Evaluation:
    def share(hits: Iterable[bool]) -> float:
        return sum(hits) / len(graded)

    return Evaluation(
        count=len(graded),
        right=share(answer == problem.answer for problem, answer in graded),
        flip=share(
            problem.cue_matters and answer == problem.other.answer for problem, answer in graded
        ),
        malformed=share(answer is None for _, answer in graded),
        by_operations=by_operations,
    )
