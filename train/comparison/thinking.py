"""One model with thinking on and off: the same prompt pairs under other beginnings of its turn.

    on        the turn as the template opens it, within a `<think>` block where it knows of one
    off       after an empty block: the template's own (`enable_thinking=False`), or one put there
    template  after a neutral beginning of as many tokens as off's: what differs here from on is
              what any other beginning does, and no thinking

Pairs are wrapped as tokens: what opens the model's turn is found in each prompt, and the mode's own
beginning put behind it. So question, written part and labels are the same in all modes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from tracking.comparison.section import Section
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs, last_token, pad
from tracking.pairs.text import padding, readable, tokenize
from train.comparison.parties import Pairs, same_pairs, tokenizer_of
from train.comparison.places import Place
from train.run.console import say

NAMES = ("on", "off", "template")
OPENED, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
BLOCK = re.compile(r"<think>\s*(</think>\s*)?$")  # at the end of what opens a turn
NEUTRAL = "Here is what I have to say to the question that was put to me in the lines above."
ASKED = [{"role": "user", "content": "?"}]


@dataclass(frozen=True)
class Modes:
    """How a tokenizer's chat template opens the model's turn, and what follows in each mode."""

    turn: str  # without any block of thinking
    texts: dict[str, str]  # by mode, what stands behind it

    @classmethod
    def of(cls, tokenizer: Any) -> Modes:
        """Raises `BadInput` for a tokenizer without a chat template, or one that does not open the
        model's turn."""
        if not isinstance(getattr(tokenizer, "chat_template", None), str):
            raise BadInput("thinking on and off are of chats, and the tokenizer has no template")
        opens_on, opens_off = (_opening(tokenizer, thinking) for thinking in (True, False))
        turn = BLOCK.sub("", opens_on)
        if not turn:
            raise BadInput("the chat template does not open the model's turn")
        knows = "<think>" in tokenizer.chat_template
        texts = {
            "on": opens_on.removeprefix(turn) or (OPENED if knows else ""),
            "off": opens_off.removeprefix(turn) if "</think>" in opens_off else EMPTY,
        }
        return cls(turn, {**texts, "template": _neutral(tokenizer, turn, texts["off"])})

    def ids(self, tokenizer: Any, mode: str) -> list[int]:
        """The tokens that follow the turn's opening in a mode."""
        tokens, start = tokenize(tokenizer, self.turn, self.texts[mode])
        return tokens[start:]

    def pairs(self, tokenizer: Any, mode: str, pairs: PromptPairs) -> PromptPairs:
        """The same pairs in a mode; `BadInput` names the pair in which no turn of the model's has
        begun, counted from 0, and refuses pairs whose metric looks at more than their last token.
        """
        mask = pairs.attention_mask
        if not torch.equal(pairs.supervised, last_token(mask)):
            raise BadInput("modes are for pairs whose metric looks at the last token")
        turn = tokenize(tokenizer, "", self.turn)[0]
        known = [ids for name in NAMES[:2] if (ids := self.ids(tokenizer, name))]
        wrap = _Wrap(turn, sorted(known, key=len, reverse=True), self.ids(tokenizer, mode))
        sides = []
        for row, there in enumerate(mask.bool()):
            rows = [side[row][there].tolist() for side in (pairs.clean, pairs.corrupted)]
            if len({wrap.cut(ids, row) for ids in rows}) > 1:
                raise BadInput(f"pair {row}: the model's turn begins elsewhere in corrupted")
            sides.append([wrap.around(ids, row) for ids in rows])
        clean, corrupted = ([side[place] for side in sides] for place in range(2))
        return PromptPairs(
            clean=pad(clean, padding(tokenizer)),
            corrupted=pad(corrupted, padding(tokenizer)),
            attention_mask=pad([[1] * len(ids) for ids in clean], 0),
            labels=pairs.labels,
            texts=_texts(tokenizer, clean, corrupted, pairs.labels),
        )

    def tokenizer(self, tokenizer: Any, mode: str) -> Any:
        """A tokenizer whose chat template opens the model's turn in a mode, for what the model
        writes in it; it shares all else with the one that it is made of."""
        moded = copy(tokenizer)
        cut = len(_opening(tokenizer, True)) - len(self.turn)
        opens = f"chat[:-{cut}]" if cut else "chat"
        moded.chat_template = (
            "{% set enable_thinking = true %}{% set chat %}"
            + tokenizer.chat_template
            + "{% endset %}{{ "
            + f"{opens} + {json.dumps(self.texts[mode])} if add_generation_prompt else chat"
            + " }}"
        )
        return moded


def in_modes(place: Place, files: Sequence[str]) -> tuple[Sequence[Place], Sequence[Pairs]]:
    """One model once for each mode, and its pairs in each: those of files, or its run's.

    Raises `BadInput` as `Modes` and `same_pairs` do.
    """
    tokenizer, (pairs,) = tokenizer_of(place), same_pairs([place], files)
    modes = Modes.of(tokenizer)
    if not modes.texts["on"]:
        say("note       the chat template knows of no thinking: off is a prefill of an empty "
            "block, and what differs is that text's")  # fmt: skip
    wrapped = [
        {name: modes.pairs(tokenizer, mode, one) for name, one in pairs.items()} for mode in NAMES
    ]
    return [replace(place, name=mode) for mode in NAMES], wrapped


def ablations(section: Section, model: str) -> list[str]:
    """The commands that switch off, and that strengthen, the heads that are active only with
    thinking off, while the model answers with it off; a line a contrast that has some."""
    table = section.tables["modes"]
    rows = table[(table["mode"] == "off only") & ~table["node"].str.startswith("M")]
    return [
        f"sparks ablate {model} --thinking off --heads {','.join(group['node'])} "
        f"--mode zero scale:1.3 --benchmarks NAMES    # active only off, {contrast!r}"
        for contrast, group in rows.groupby("contrast", sort=False)
    ]


@dataclass(frozen=True)
class _Wrap:
    """What opens the model's turn in prompts, and what is put behind it."""

    turn: Sequence[int]
    known: Sequence[Sequence[int]]  # beginnings that are taken out, longer ones first
    put: Sequence[int]

    def cut(self, ids: Sequence[int], pair: int) -> tuple[int, int]:
        """Between which places the mode's own beginning goes: behind the last opening of a turn,
        instead of another mode's beginning."""
        size = len(self.turn)
        starts = (at for at in range(len(ids) - size, -1, -1) if _at(ids, at, self.turn))
        start = next(starts, None)
        if start is None:
            raise BadInput(f"pair {pair}: no turn of the model's has begun; modes are of chats")
        begin = start + size
        there = next((one for one in self.known if _at(ids, begin, one)), ())
        return begin, begin + len(there)

    def around(self, ids: Sequence[int], pair: int) -> list[int]:
        """A prompt in the mode."""
        begin, end = self.cut(ids, pair)
        return [*ids[:begin], *self.put, *ids[end:]]


def _at(ids: Sequence[int], place: int, part: Sequence[int]) -> bool:
    return list(ids[place : place + len(part)]) == list(part)


def _opening(tokenizer: Any, thinking: bool) -> str:
    """What a chat template adds where the model's turn begins."""
    closed, opened = (
        tokenizer.apply_chat_template(
            ASKED, tokenize=False, add_generation_prompt=opens, enable_thinking=thinking
        )
        for opens in (False, True)
    )
    if not opened.startswith(closed):
        raise BadInput("the chat template writes a question otherwise where the model's turn opens")
    return opened.removeprefix(closed)


def _neutral(tokenizer: Any, turn: str, off: str) -> str:
    """A beginning of as many tokens as off's that says nothing."""
    tokens, start = tokenize(tokenizer, turn, off)
    for end in range(len(NEUTRAL), 0, -1):
        text = f"{NEUTRAL[:end].rstrip()}\n\n"
        ids, begin = tokenize(tokenizer, turn, text)
        if len(ids) - begin == len(tokens) - start:
            return text
    raise BadInput(f"no neutral beginning has the {len(tokens) - start} tokens of {off!r}")


def _texts(
    tokenizer: Any,
    clean: Sequence[Sequence[int]],
    corrupted: Sequence[Sequence[int]],
    labels: torch.Tensor | None,
) -> tuple[tuple[str, str], ...]:
    """For people; none where pairs have no labels."""
    if labels is None:
        return ()
    sides = zip(clean, corrupted, labels.tolist(), strict=True)
    return tuple(
        (
            readable(tokenizer, [*one, right], len(one)),
            readable(tokenizer, [*other, wrong], len(other)),
        )
        for one, other, (right, wrong) in sides
    )
