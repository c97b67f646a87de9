"""Where the heads of a set attend over the responses that the report shows, before and after.

Kept small: of the problems that turned (`tracking.views.solving.turned`), not too long ones, in
`attention.parquet` beside the results, a row a problem.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracking.nodes.attended import attended, quantised
from tracking.views.solving.tables import ablation
from tracking.views.solving.turned import turned
from train.ablation.arms import Arm, Comparison
from train.ablation.modes import GRAFT
from train.ablation.study import around
from train.evals.responses import KEY
from train.evals.sampling import Request, Sampling

LONGEST = 256  # tokens of a prompt with its response
HEADS = 8  # of a set
BYTES = 400_000  # of a study, compressed as they will be in the report


@dataclass(frozen=True)
class Pair:
    """A problem that turned: its request as the model is and under an arm, and whose attention."""

    before: Request
    arm: Arm
    heads: tuple[str, ...]

    @property
    def after(self) -> Request:
        """The same request under the arm."""
        return self.arm.of([self.before])[0]


def turned_pairs(
    folder: Path,
    requests: Sequence[Request],
    comparisons: Sequence[Comparison],
    shares: Mapping[str, float],
) -> list[Pair]:
    """The problems that the report will show of the ablation in `folder`, grafts left out, the
    first of every row and kind before any second. Of each set the `HEADS` heads of the largest
    `shares` by name, in size; without any its first ones."""
    by_key = {(one.problem.benchmark, one.problem.id, one.sample): one for one in requests}
    arms = {one.arm.condition: one for one in comparisons}
    table, pairs = ablation(folder / "ablation.parquet"), []
    benchmark, condition = table["benchmark"], table["mode"] + " " + table["nodes"]
    for row in turned(folder, table[table["mode"] != GRAFT.name]):
        comparison = arms[condition[row.row]]
        heads = comparison.target.heads
        ranked = sorted(heads, key=lambda head: -abs(shares.get(head, 0.0)))[:HEADS]
        chosen = tuple(head for head in heads if head in ranked)
        ranks = row.texts.groupby("change").cumcount()
        for rank, problem, sample in zip(
            ranks, row.texts["problem"], row.texts["sample"], strict=True
        ):
            request = by_key.get((str(benchmark[row.row]), problem, sample))
            if chosen and request is not None:
                pairs.append((rank, Pair(request, comparison.arm, chosen)))
    return [pair for _, pair in sorted(pairs, key=lambda one: one[0])]


def attention_rows(
    model: Any,
    tokenizer: Any,
    sampling: Sampling,
    rows: pd.DataFrame,
    pairs: Sequence[Pair],
    folder: Path,
) -> list[dict[str, Any]]:
    """A row a pair: `benchmark`, `problem`, `sample`, `condition`, `heads`, `first`, and of the
    response as the model is (`before`) and under the condition (`after`) `before_tokens`, texts,
    the prompt's first, and `before_weights`, bytes [head, query, key] of `attended` by `quantised`,
    the queries from `first`, the prompt's last token, on.

    `rows` are responses as `Study.solve` has them, of a `folder`. A response is its text, tokenised
    again. Pairs with more than `LONGEST` tokens are left out, and those for which `BYTES` leave no
    room.
    """
    as_it_is = rows[rows["condition"] == ""]
    keys = zip(*(rows[name] for name in KEY), strict=True)
    texts = dict(zip(keys, zip(rows["prompt"], rows["response"], strict=True), strict=True))
    modes = dict.fromkeys(pair.arm.mode for pair in pairs)
    changed = {mode: around(model, tokenizer, sampling, mode, as_it_is, folder) for mode in modes}
    out, left = [], BYTES
    for pair in pairs:
        before, after = pair.before, pair.after
        within = changed[pair.arm.mode]([after])
        sides = {
            "before": (Tokens.of(tokenizer, *texts[before.key]), nullcontext()),
            "after": (Tokens.of(tokenizer, *texts[after.key]), within),
        }
        if max(len(tokens.ids) for tokens, _ in sides.values()) > LONGEST:
            continue
        row: dict[str, Any] = dict(zip(KEY, after.key, strict=True))
        row |= {"heads": list(pair.heads), "first": sides["before"][0].first}
        size = 0
        for side, (tokens, context) in sides.items():
            with context:
                weights = attended(model, tokens.ids, pair.heads)
            packed = quantised(weights[:, tokens.first :])
            row |= {f"{side}_tokens": tokens.texts, f"{side}_weights": packed}
            size += len(zlib.compress(packed))
        if size <= left:
            left -= size
            out.append(row)
    return out


@dataclass(frozen=True)
class Tokens:
    """A prompt and its response as tokens: `ids` with their `texts`; `first` is the place of the
    prompt's last one, which the response begins behind."""

    ids: list[int]
    texts: list[str]
    first: int

    @classmethod
    def of(cls, tokenizer: Any, prompt: str, response: str) -> Tokens:
        templated = bool(getattr(tokenizer, "chat_template", None))  # it has the special tokens
        asked, pieces = _pieces(tokenizer, prompt, special=not templated)
        answer, more = _pieces(tokenizer, response, special=False)
        return cls([*asked, *answer], [*pieces, *more], len(asked) - 1)


def _pieces(tokenizer: Any, text: str, special: bool) -> tuple[list[int], list[str]]:
    """Ids, and the text of each; what stands for no text has its name."""
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    ends = [*(start for start, _ in spans[1:]), len(text)]
    pieces = [text[start:end] for (start, _), end in zip(spans, ends, strict=True)]
    names = tokenizer.convert_ids_to_tokens(ids)
    return ids, [
        piece if end > start else name
        for piece, name, (start, end) in zip(pieces, names, spans, strict=True)
    ]
