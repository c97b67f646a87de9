"""What the model wrote while it was trained: the completions files of TRL's GRPO. Those of its
distillation are the same without rewards: nothing is made of them.

With `log_completions: true` TRL writes `<run>/completions/completions_<step>.parquet` at every
logged step: the last batch of generations, a row each, with `prompt`, `completion`, a column per
reward function in the trainer's order, whatever else a reward function logged, and `advantage`.
Prompts and completions are texts or chats (lists of messages).

Where the model is evaluated TRL writes evaluation's completions over training's of that step. The
files of steps at which the newest checkpoint's `trainer_state.json` has an evaluation are left out;
where no checkpoint tells (`evaluated` is None) evaluation's are among training's.

Files are read one by one. What is kept of a run is small: two numbers and a hash for each problem,
and the texts that are shown.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pyarrow import ArrowException, parquet

from tracking.errors import BadInput
from tracking.run_folder import RunFolder

log = logging.getLogger(__name__)

SAID = ("step", "prompt", "completion", "reward")
TURNED = ("step", "prompt", "before", "after", "change")
SOLVED = 0.5  # of the largest reward seen so far: from there on a problem counts as solved
LONGEST = 1500  # characters kept of a prompt or a completion that is shown


class Said(NamedTuple):
    """A completion, in text."""

    step: int
    prompt: str
    completion: str
    reward: float  # NaN where no reward function judged it


@dataclass(frozen=True)
class Digest:
    """What is shown of a run's completions; long texts are cut.

    `samples` has for every checkpoint a table of the columns `SAID`: the best and the worst by
    reward in turn, best first, of the steps since the checkpoint before, of different prompts as
    long as there are any. Of equal ones the latest, then by text.

    `turned` has the problems that turned at a checkpoint: `step`, `prompt`, `before`, `after` and
    `change`, which is `solved` or `failed`; `solved` and `failed` count them for every checkpoint,
    also those that are not in `turned` for their number. The rule: a problem is a prompt, word for
    word. Its mean reward over its completions in the interval that ends with a checkpoint is held
    against its mean in the last interval in which it was seen before. The bar is `SOLVED` of the
    largest reward of any completion up to that checkpoint, so that what comes later changes
    nothing: solved where the mean is at least the bar now and was not then, failed the other way
    round. Nothing is solved as long as no reward is above 0. Problems that were seen in one
    interval alone are not here, and completions after the last checkpoint do not count.
    """

    samples: Sequence[pd.DataFrame]
    turned: pd.DataFrame
    solved: Sequence[int]
    failed: Sequence[int]


def digest(run: Path, steps: Sequence[int], count: int, shown: int) -> Digest | None:
    """Of the checkpoints at `steps`, in order: up to `count` samples each, and the texts of up to
    `shown` problems newly solved and as many newly failed. None where no completion of the
    run was judged. `BadInput` as `batches`."""
    walk = _Walk(count)
    samples: list[pd.DataFrame] = []
    turned: list[dict[str, list[_Turn]]] = []

    def close() -> None:
        samples.append(_table(SAID, [_cut(one) for one in walk.chosen()]))
        turned.append(walk.close(steps[len(turned)]))

    any_batch = False
    for batch in batches(run):
        any_batch = any_batch or any(not math.isnan(one.reward) for one in batch)
        while len(turned) < len(steps) and batch[0].step > steps[len(turned)]:
            close()
        if len(turned) == len(steps):
            break
        walk.add(batch)
    if not any_batch:
        return None
    while len(turned) < len(steps):
        close()
    texts = [one for at in turned for change in at.values() for one in change[:shown]]
    return Digest(
        samples,
        _table(TURNED, texts),
        *([len(at[change]) for at in turned] for change in ("solved", "failed")),
    )


def batches(run: Path) -> Iterator[list[Said]]:
    """The completions of training, file by file in the order of steps; no batch is empty.

    The reward is the trainer's: the sum of the reward functions' columns, each times its weight
    (`reward_weights` in the run's `config.yaml`, else 1), of those that judged the completion. A
    batch that was trained on for several steps stands in several files; it is given once, at the
    first. Raises `BadInput` for a file that cannot be read, but leaves out the newest with a
    warning: a run that goes on may be writing it.
    """
    weights = _weights(RunFolder(run))
    left_out = set(evaluated(run) or ())
    previous = b""
    by_step = sorted(files(run).items())
    for step, path in by_step:
        try:
            batch = _said(step, _raw(path), weights)
        except (OSError, ArrowException) as error:
            why = str(error).splitlines()[0]
            if step < by_step[-1][0]:
                raise BadInput(f"{path}: not a whole completions file ({why})") from None
            log.warning("%s is left out, it may not be whole yet (%s)", path, why)
            continue
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: not a completions file of TRL's GRPO ({error})") from None
        same, previous = previous, _hash(*(part for one in batch for part in one[1:3]))
        if batch and step not in left_out and same != previous:
            yield batch


def files(run: Path) -> dict[int, Path]:
    """The completions files of a run by their step."""
    return {
        int(name[1]): path
        for path in (run / "completions").glob("completions_*.parquet")
        if (name := re.fullmatch(r"completions_(\d+)", path.stem))
    }


def evaluated(run: Path) -> list[int] | None:
    """The steps at which the model was evaluated up to the newest checkpoint that there is; None
    where no checkpoint tells."""
    for checkpoint in reversed(RunFolder(run).checkpoints().values()):
        try:
            rows = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
            return sorted(
                {row["step"] for row in rows if any(name.startswith("eval_") for name in row)}
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # it is being written, or is none of the trainer's
    return None


def text(entry: Any) -> str:
    """A prompt or completion in plain text: of a chat every message under its role, of a single
    one its content alone. The system prompt is left out; it is the same for all."""
    if isinstance(entry, str):
        return entry
    messages = [message for message in entry if message["role"] != "system"]
    if len(messages) == 1:
        return _content(messages[0])
    return "\n\n".join(f"{message['role']}: {_content(message)}" for message in messages)


class _Turn(NamedTuple):
    """A problem that crossed the bar."""

    step: int
    prompt: str
    before: float
    after: float
    change: str


@dataclass
class _Mean:
    """A problem's rewards in the interval; its text where it was seen before, so that it may
    turn."""

    text: str
    total: float = 0.0
    count: int = 0

    @property
    def value(self) -> float:
        return self.total / self.count


@dataclass
class _Walk:
    """What is known of a run's completions at a place in it."""

    count: int
    most: float = -math.inf  # the largest reward so far
    last: dict[bytes, float] = field(default_factory=dict)  # mean of each problem when last seen
    now: dict[bytes, _Mean] = field(default_factory=dict)  # in the interval
    best: list[Said] = field(default_factory=list)  # in the interval, all that can be chosen
    worst: list[Said] = field(default_factory=list)

    def add(self, batch: Sequence[Said]) -> None:
        """A batch of the interval."""
        known = [one for one in batch if not math.isnan(one.reward)]
        for one in known:
            key = _hash(one.prompt)
            if key not in self.now:
                self.now[key] = _Mean(_short(one.prompt) if key in self.last else "")
            self.now[key].total += one.reward
            self.now[key].count += 1
            self.most = max(self.most, one.reward)
        self.best = _first(sorted([*self.best, *known], key=_best), self.count)
        self.worst = _first(sorted([*self.worst, *known], key=_worst), self.count)

    def chosen(self) -> list[Said]:
        """The interval's samples."""
        samples: list[Said] = []
        for fresh in (True, False):
            while len(samples) < self.count:
                side = (self.best, self.worst)[len(samples) % 2]
                shown = {one.prompt if fresh else one[1:3] for one in samples}
                left = (one for one in side if (one.prompt if fresh else one[1:3]) not in shown)
                picked = next(left, None)
                if picked is None:
                    break
                samples.append(picked)
        return samples

    def close(self, step: int) -> dict[str, list[_Turn]]:
        """The problems that turned in the interval that ends here, by their text; begins another
        interval."""
        bar = SOLVED * self.most if self.most > 0 else math.inf
        turned: dict[str, list[_Turn]] = {"solved": [], "failed": []}
        for key, mean in self.now.items():
            before, after = self.last.get(key), mean.value
            self.last[key] = after
            if before is not None and (before >= bar) != (after >= bar):
                change = "solved" if after >= bar else "failed"
                turned[change].append(_Turn(step, mean.text, before, after, change))
        self.now, self.best, self.worst = {}, [], []
        return {change: sorted(rows) for change, rows in turned.items()}


def _first(rows: Sequence[Said], count: int) -> list[Said]:
    """Of ordered rows all that `count` samples can need: the first `count` of each of the first
    `count` prompts, and of the same text only the first."""
    kept: dict[str, dict[str, Said]] = {}
    for one in rows:
        if one.prompt in kept or len(kept) < count:
            mine = kept.setdefault(one.prompt, {})
            if len(mine) < count:
                mine.setdefault(one.completion, one)
    there = {one for mine in kept.values() for one in mine.values()}
    return list(dict.fromkeys(one for one in rows if one in there))


def _best(one: Said) -> tuple[float, int, str, str]:
    return -one.reward, -one.step, one.prompt, one.completion


def _worst(one: Said) -> tuple[float, int, str, str]:
    return one.reward, -one.step, one.prompt, one.completion


def _raw(path: Path) -> pd.DataFrame:
    """The columns of a file that count."""
    names = parquet.read_schema(path).names
    start = names.index("completion")
    end = names.index("advantage") if "advantage" in names else len(names)
    return pd.read_parquet(path, columns=["prompt", "completion", *names[start + 1 : end]])


def _said(step: int, raw: pd.DataFrame, weights: list[float] | None) -> list[Said]:
    prompts, completions = raw["prompt"], raw["completion"]
    names = [name for name in raw if name not in ("prompt", "completion")]
    if weights is None:  # anything a reward function logs itself is taken for a reward if a number
        names = [name for name in names if pd.api.types.is_numeric_dtype(raw[name])]
        weights = [1.0] * len(names)
    parts = raw[names[: len(weights)]].astype(float)
    rewards = (parts * weights[: parts.shape[1]]).sum(axis=1, min_count=1).astype(float)
    return [
        Said(step, text(prompt), text(completion), reward)
        for prompt, completion, reward in zip(prompts, completions, rewards, strict=True)
    ]


def _weights(run: RunFolder) -> list[float] | None:
    """The weights of the reward functions in their order; None where they are not known."""
    try:
        job = run.config()
        weights = job.get("reward_weights")
        functions = len(job.get("reward_funcs") or []) + bool(job.get("reward_model_name_or_path"))
        return [float(weight) for weight in weights or [1.0] * functions] or None
    except (TypeError, ValueError):
        return None


def _content(message: Any) -> str:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(block.get("text") or f"[{block.get('type')}]" for block in content)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _cut(one: Said) -> Said:
    return one._replace(prompt=_short(one.prompt), completion=_short(one.completion))


def _short(words: str) -> str:
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."


def _hash(*texts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for one in texts:
        data = one.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
