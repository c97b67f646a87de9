"""Prompt pairs of the user's own, from a JSONL file or from texts in Python; one pair a line:

    {"clean": "2+2=", "corrupted": "2+3=", "correct": "4", "incorrect": "5", "contrast": "sum"}

- `clean`, `corrupted`: the two prompts, as many tokens in one as in the other. Text is tokenized
  as it stands, without added special tokens. Chat messages (`[{"role": ..., "content": ...}]`) get
  the tokenizer's chat template, up to where the model's turn begins or, after an assistant's
  message, goes on.
- `correct`, `incorrect`: what is right to come next after `clean` and after `corrupted`, one token
  each. They are tokenized together with their prompt, as the model would have met them.
- `contrast`: what differs between the prompts; the file's stem where a line does not say.

Every mistake is told with its line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tracking.errors import BadInput
from tracking.pairs.text import Pair, readable, tokenize

log = logging.getLogger(__name__)

SIDES = ("clean", "corrupted")
KEYS = (*SIDES, "correct", "incorrect")
NAME = re.compile(r"[\w.+-]{1,40}")

Prompt = str | Sequence[dict[str, str]]
"""Text as it stands, or chat messages."""


def read_pairs(path: str | Path, tokenizer: Any) -> dict[str, list[Pair]]:
    """The pairs of a JSONL file, by contrast, in the order of its lines; blank ones are skipped.

    Raises `BadInput`, naming file and line, for whatever is no pair of prompts.
    """
    if not isinstance(path, str | Path):
        raise BadInput(f"the path of a file of pairs is needed, not a {type(path).__name__}")
    path = Path(path)
    stem = path.stem if NAME.fullmatch(path.stem) else "pairs"
    by_contrast: dict[str, list[Pair]] = {}
    places: dict[tuple[str, tuple[int, ...], tuple[int, ...]], str] = {}
    notes = []
    for where, row in _rows(path):
        contrast, several = row.pop("contrast", stem), []
        if not isinstance(contrast, str) or not NAME.fullmatch(contrast):
            raise BadInput(
                f"{where}: contrast is {contrast!r}; it must be a short name without spaces"
            )
        pair = _pair(where, tokenizer, row, several)
        first = places.setdefault((contrast, pair.clean, pair.corrupted), where)
        if first != where:
            line = first.removeprefix(f"{path}, ")
            raise BadInput(f"{where}: the prompts of {line} again; intervals take each for another")
        by_contrast.setdefault(contrast, []).append(pair)
        notes += several
    if not by_contrast:
        raise BadInput(f"{path} has no pairs; {_SHAPE}")
    _tell(notes)
    return by_contrast


def pairs_from_text(tokenizer: Any, rows: Iterable[tuple[Prompt, Prompt, str, str]]) -> list[Pair]:
    """A pair for each `(clean, corrupted, correct, incorrect)`; `BadInput` names the one, counted
    from 0, that is none."""
    if not isinstance(rows, Iterable):
        raise BadInput(f"pairs are a list of ({', '.join(KEYS)}), not a {type(rows).__name__}")
    pairs: list[Pair] = []
    notes: list[str] = []
    for index, row in enumerate(rows):
        where = f"pair {index}"
        if isinstance(row, str | dict) or not isinstance(row, Sequence) or len(row) != len(KEYS):
            raise BadInput(f"{where} must be ({', '.join(KEYS)})")
        pairs.append(_pair(where, tokenizer, dict(zip(KEYS, row, strict=True)), notes))
    if not pairs:
        raise BadInput("there is not one pair in the list")
    _tell(notes)
    return pairs


_SHAPE = 'each line is {"clean": ..., "corrupted": ..., "correct": ..., "incorrect": ...}'


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line that is not blank as (where it stands, its object)."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except UnicodeDecodeError:
            raise BadInput(f"{where} is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where} is not JSON ({error or type(error).__name__})") from None
        if not isinstance(row, dict):
            raise BadInput(f"{where} is no object; {_SHAPE}")
        yield where, row


def _pair(where: str, tokenizer: Any, row: dict[str, Any], notes: list[str]) -> Pair:
    """The pair of one line; `notes` gains a sentence where a word has several tokens."""
    for key in KEYS:
        if key not in row:
            raise BadInput(f"{where}: {key!r} is missing; {_SHAPE}")
    if more := sorted(row.keys() - set(KEYS)):
        raise BadInput(f"{where}: unknown key {more[0]!r}; {_SHAPE}, perhaps with contrast")
    for key in ("correct", "incorrect"):
        if not isinstance(row[key], str) or not row[key]:
            raise BadInput(f"{where}: {key} is {row[key]!r}; it must be the text that comes next")
    if row["correct"] == row["incorrect"]:
        raise BadInput(f"{where}: correct and incorrect are both {row['correct']!r}")
    texts = [_text(f"{where}: {side}", tokenizer, row[side]) for side in SIDES]
    clean, start = tokenize(tokenizer, texts[0], row["correct"])
    corrupted, other_start = tokenize(tokenizer, texts[1], row["incorrect"])
    if start == 0 or other_start == 0:
        raise BadInput(f"{where}: {SIDES[start != 0]} has no token of its own before the answer")
    if start != other_start:
        raise BadInput(
            f"{where}: clean has {start} tokens and corrupted {other_start}; "
            "they must have equally many"
        )
    if clean[:start] == corrupted[:start]:
        raise BadInput(f"{where}: clean and corrupted do not differ")
    _check_words(where, tokenizer, (clean[start:], corrupted[start:]), notes)
    return Pair(
        clean=tuple(clean[:start]),
        corrupted=tuple(corrupted[:start]),
        correct=clean[start],
        incorrect=corrupted[start],
        text=(readable(tokenizer, clean, start), readable(tokenizer, corrupted, start)),
    )


def _text(where: str, tokenizer: Any, prompt: Any) -> str:
    """A prompt as text, chat template and all."""
    if isinstance(prompt, str):
        return prompt
    if not _is_chat(prompt):
        raise BadInput(f"{where} must be text or chat messages with role and content")
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(f"{where} is chat messages, but the tokenizer has no chat template")
    begun = prompt[-1]["role"] == "assistant"
    try:
        return tokenizer.apply_chat_template(
            list(prompt),
            tokenize=False,
            add_generation_prompt=not begun,
            continue_final_message=begun,
        )
    except Exception as error:  # templates raise whatever their authors thought of
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{where}: the chat template refuses it: {reason}") from None


def _is_chat(prompt: Any) -> bool:
    return (
        isinstance(prompt, Sequence)
        and len(prompt) > 0
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in prompt
        )
    )


def _check_words(
    where: str, tokenizer: Any, words: tuple[list[int], list[int]], notes: list[str]
) -> None:
    """Refuse right words that are none, or that begin with the same token."""
    spelt = [" + ".join(repr(tokenizer.decode([token])) for token in word) for word in words]
    for key, word in zip(("correct", "incorrect"), words, strict=True):
        if not word:
            raise BadInput(f"{where}: {key} is not one token after its prompt")
    both = f"correct is {spelt[0]} and incorrect {spelt[1]}"
    if words[0][0] == words[1][0]:
        raise BadInput(f"{where}: {both}: they begin alike; move what they share into the prompts")
    if max(map(len, words)) > 1:
        notes.append(f"{where}: {both}: only the first token of each is used")


def _tell(notes: list[str]) -> None:
    """One line for all words of several tokens, by the example of the first."""
    if notes:
        more = f" (and so in {len(notes) - 1} more)" if len(notes) > 1 else ""
        log.warning("%s%s", notes[0], more)
