"""What the model wrote while it was trained: the completions files of TRL's GRPO.

With `log_completions: true` TRL writes `<run>/completions/completions_<step>.parquet` at every
logged step: the last batch of generations, a row each, with `step`, `prompt`, `completion`, a
column per reward function in the trainer's order, whatever else a reward function logged, and
`advantage`. Prompts and completions are texts or chats (lists of messages).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pyarrow import ArrowException

from tracking.errors import BadInput

log = logging.getLogger(__name__)

COLUMNS = {"step": int, "prompt": object, "completion": object, "reward": float}
TURNED = ("step", "prompt", "before", "after", "change")
SOLVED = 0.5  # of the largest reward seen: from there on a problem counts as solved


def read(run: Path) -> pd.DataFrame:
    """All completions of a run: `step`, `prompt`, `completion` (as text) and `reward`.

    The reward is the trainer's: the sum of the reward functions' columns, each times its weight
    (`reward_weights` in the run's `config.yaml`, else 1), of those that judged the completion;
    missing where none did. A batch that was trained on for several steps stands in several files;
    it is kept once, at the first. Empty where the run has no such files. Raises `BadInput` for a
    file that cannot be read, but leaves out the newest with a warning: a run that goes on may be
    writing it.
    """
    weights = _weights(run / "config.yaml")
    tables = []
    previous: pd.DataFrame | None = None
    for raw, path in _files(run):
        try:
            table = _table(raw, weights)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: not a completions file of TRL's GRPO ({error})") from None
        said = table[["prompt", "completion"]]
        if previous is None or not said.equals(previous):
            tables.append(table)
        previous = said
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat(tables, ignore_index=True)


def samples(table: pd.DataFrame, after: int, upto: int, count: int) -> pd.DataFrame:
    """Up to `count` completions of the steps in (`after`, `upto`]: the best and the worst by
    reward in turn, best first, of different prompts as long as there are any.

    Of equal ones the latest, then by text: the same table gives the same samples.
    """
    rows = table[(table["step"] > after) & (table["step"] <= upto)].dropna(subset=["reward"])
    rows = rows.sort_values("step", kind="stable").drop_duplicates(
        ["prompt", "completion"], keep="last"
    )
    order = ["reward", "step", "prompt", "completion"]
    best = rows.sort_values(order, ascending=[False, False, True, True]).index
    worst = rows.sort_values(order, ascending=[True, False, True, True]).index
    chosen: list[Any] = []
    prompts: set[str] = set()
    for fresh in (True, False):
        lists = [iter(best), iter(worst)]
        while len(chosen) < min(count, len(rows)):
            side = lists[len(chosen) % 2]
            picked = next((i for i in side if _usable(i, rows, chosen, prompts, fresh)), None)
            if picked is None:
                break
            chosen.append(picked)
            prompts.add(str(rows.at[picked, "prompt"]))
    return rows.loc[chosen].reset_index(drop=True)


def turned(table: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
    """The problems that turned between checkpoints at `steps`: `step`, `prompt`, `before`, `after`
    and `change`, which is `solved` or `failed`.

    The rule: a problem is a prompt, word for word. Its mean reward over its completions in the
    interval that ends with a checkpoint is held against its mean in the last interval in which it
    was seen before. It is solved in an interval where the mean is at least `SOLVED` of the largest
    reward of any completion in the table; `solved` here means solved now and not then, `failed`
    the other way round. Nothing is solved where no reward is above 0. Problems that were seen in
    one interval alone are not here, and completions after the last checkpoint do not count.
    """
    ends = np.array(sorted(steps))
    known = table.dropna(subset=["reward"])
    place = np.searchsorted(ends, known["step"].to_numpy()) if len(ends) else np.array([], int)
    inside = place < len(ends) if len(ends) else np.zeros(len(known), bool)
    seen = known[inside].assign(step=ends[place[inside]] if len(ends) else [])
    means = seen.groupby(["prompt", "step"], as_index=False).agg(after=("reward", "mean"))
    means["before"] = means.groupby("prompt")["after"].shift()
    most = known["reward"].max() if len(known) else np.nan
    bar = SOLVED * most if most > 0 else np.inf
    now, then = means["after"] >= bar, means["before"] >= bar
    means["change"] = np.select([now & ~then, ~now & then], ["solved", "failed"], "")
    rows = means[(means["change"] != "") & means["before"].notna()]
    return rows.sort_values(["step", "prompt"])[list(TURNED)].reset_index(drop=True)


def text(entry: Any) -> str:
    """A prompt or completion in plain text: of a chat every message under its role, of a single
    one its content alone. The system prompt is left out; it is the same for all."""
    if isinstance(entry, str):
        return entry
    messages = [message for message in entry if message["role"] != "system"]
    if len(messages) == 1:
        return _content(messages[0])
    return "\n\n".join(f"{message['role']}: {_content(message)}" for message in messages)


def _usable(
    index: Any, rows: pd.DataFrame, chosen: list[Any], prompts: set[str], fresh: bool
) -> bool:
    return index not in chosen and not (fresh and rows.at[index, "prompt"] in prompts)


def _files(run: Path) -> Iterator[tuple[pd.DataFrame, Path]]:
    """Every file's table and path, in the order of steps."""
    found = {
        int(name[1]): path
        for path in (run / "completions").glob("completions_*.parquet")
        if (name := re.fullmatch(r"completions_(\d+)", path.stem))
    }
    for step, path in sorted(found.items()):
        try:
            yield pd.read_parquet(path), path
        except (OSError, ArrowException, ValueError) as error:
            why = str(error).splitlines()[0]
            if step < max(found):
                raise BadInput(f"{path}: not a whole completions file ({why})") from None
            log.warning("%s is left out, it may not be whole yet (%s)", path, why)


def _weights(path: Path) -> list[float] | None:
    """The weights of the reward functions in their order; None where they are not known."""
    try:
        job = yaml.safe_load(path.read_text())
        weights = job.get("reward_weights")
        functions = len(job.get("reward_funcs") or []) + bool(job.get("reward_model_name_or_path"))
        return [float(weight) for weight in weights or [1.0] * functions] or None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        return None


def _table(raw: pd.DataFrame, weights: list[float] | None) -> pd.DataFrame:
    names = list(raw.columns)
    between = names[names.index("completion") + 1 : names.index("advantage")]
    if weights is None:  # anything a reward function logs itself is taken for a reward if a number
        between = [name for name in between if pd.api.types.is_numeric_dtype(raw[name])]
        weights = [1.0] * len(between)
    parts = raw[between[: len(weights)]].astype(float)
    reward = (parts * weights[: parts.shape[1]]).sum(axis=1, min_count=1)
    return pd.DataFrame(
        {
            "step": raw["step"].astype(int),
            "prompt": [text(entry) for entry in raw["prompt"]],
            "completion": [text(entry) for entry in raw["completion"]],
            "reward": reward.astype(float),
        }
    )


def _content(message: Any) -> str:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(block.get("text") or f"[{block.get('type')}]" for block in content)
