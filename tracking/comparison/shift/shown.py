"""The positions at which two policies differ, in their texts: a table, and a page to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import pandas as pd

from tracking.comparison.shift.divergence import Divergence
from tracking.comparison.shift.texts import Texts

Decode = Callable[[Sequence[int]], str]  # token ids to text

STYLE = """
body { font: 15px/1.7 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
p.text { border-left: 3px solid #ddd; padding-left: .8em; white-space: pre-wrap; }
.prompt { color: #777; } .token { border-radius: 3px; }
.differ { outline: 1.5px solid #D55E00; } small { color: #555; }
"""


def positions(texts: Texts, divergence: Divergence, decode: Decode) -> pd.DataFrame:
    """A row for each token of the completions that is asked, most divergent first: `text`, `prompt`
    and `writer`, its `position`, the `token` that was written, `kl` in nats, what the trained model
    and the base prefer there (`trained`, `base`), whether it carries the divergence (`carries`),
    and whether the two prefer different tokens (`differ`)."""
    rows, columns = divergence.asks.nonzero(as_tuple=True)
    carrying = divergence.carrying
    table = []
    for row, at in zip(rows.tolist(), columns.tolist(), strict=True):
        trained, base = divergence.preferred[row, at].tolist()
        table.append(
            {
                "text": row,
                "prompt": int(texts.prompt[row]),
                "writer": texts.writers[row],
                "position": at + 1,
                "token": decode([int(texts.token_ids[row, at + 1])]),
                "kl": float(divergence.kl[row, at]),
                "trained": decode([trained]),
                "base": decode([base]),
                "carries": bool(carrying[row, at]),
                "differ": trained != base,
            }
        )
    return pd.DataFrame(table).sort_values("kl", ascending=False, kind="stable", ignore_index=True)


def preferences(table: pd.DataFrame) -> pd.DataFrame:
    """What is preferred in place of what, of `positions` that carry the divergence: `base`,
    `trained`, `places` of this kind, and their share of all divergence, `kl`; largest first."""
    mine = table[table["carries"] & table["differ"]]
    kinds = mine.groupby(["base", "trained"], sort=False)["kl"].agg(["size", "sum"]).reset_index()
    kinds = kinds.rename(columns={"size": "places", "sum": "kl"})
    return kinds.assign(kl=kinds["kl"] / table["kl"].sum()).sort_values(
        "kl", ascending=False, kind="stable", ignore_index=True
    )


def page(texts: Texts, divergence: Divergence, decode: Decode, title: str, count: int = 24) -> str:
    """HTML of up to `count` texts, the most divergent first: tokens of the completions shaded by
    their divergence, outlined where the models prefer different ones, which show under the
    pointer."""
    most = float(divergence.kl.max()) or 1.0
    order = divergence.kl.sum(1).argsort(descending=True, stable=True)[:count].tolist()
    body = "\n".join(_text(texts, divergence, decode, row, most) for row in order)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1><p>The deeper a token's shade, the more "
        f"the two policies differ there (deepest: {most:.2f} nats); outlined, they prefer "
        f"different tokens. Grey: the prompt, and what another text begins with too.</p>\n"
        f"{body}</html>\n"
    )


def _text(texts: Texts, divergence: Divergence, decode: Decode, row: int, most: float) -> str:
    ids = texts.token_ids[row, : int(texts.mask[row].sum())].tolist()
    asked = divergence.asks[row].nonzero()[:, 0].tolist()
    begins = asked[0] + 1 if asked else len(ids)
    spans = [f'<span class="prompt">{escape(decode(ids[:begins]))}</span>']
    for at in asked:
        trained, base = (decode([token]) for token in divergence.preferred[row, at].tolist())
        kl = float(divergence.kl[row, at])
        differ = " differ" if trained != base else ""
        title = f"{kl:.3f} nats; trained: {trained!r}, base: {base!r}"
        shade = f"background:rgba(230,159,0,{min(kl / most, 1) ** 0.5:.2f})"
        spans.append(
            f'<span class="token{differ}" style="{shade}" title="{escape(title)}">'
            f"{escape(decode([ids[at + 1]]))}</span>"
        )
    return f'<p class="text"><small>by {escape(texts.writers[row])}</small>\n{"".join(spans)}</p>'


def decoder_of(tokenizer: Any) -> Decode:
    """Text of token ids, special tokens shown."""
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)
