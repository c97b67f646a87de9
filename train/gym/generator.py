"""reasoning-gym's generators by name: their problems, drawn from seeds, and their own scorers."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import os
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tracking.errors import BadInput
from tracking.pairs.equations import evaluate
from train.gym.answers import extracted, is_number

SOURCE = "reasoning-gym/"
# An item is drawn from seed + index, so that seeds lie as far apart as there can be items.
PLACES = 2**20
PURPOSES = ("train", "test", "pairs")
SEEDS = 2**31 // PLACES // len(PURPOSES)  # numpy takes no larger ones
HELD_OUT = 8  # of so many questions one belongs to the test split
# Measured with 0.1.25: they walk over sets, whose order changes from process to process.
UNSTEADY = {
    *("isomorphic_strings", "knight_swap", "list_functions", "polynomial_multiplication"),
    *("ransom_note", "word_ladder"),
}
OURS = {"seed": "seed", "size": "dataset_size"}  # its parameters that are keys of a recipe


@dataclass(frozen=True)
class Item:
    """A problem of a generator.

    question: what the user says
    answer: the generator's own, "" where many are right and it names none
    expression: arithmetic that comes to the answer, where the problem has one
    place: JSON that it can be drawn from again (`solves`)
    """

    question: str
    answer: str
    expression: str | None
    place: str

    @property
    def worked(self) -> str:
        """What the assistant should say: `3 + 5 = 8`, or the bare answer."""
        return f"{self.expression} = {self.answer}" if self.expression else self.answer

    @property
    def held_out(self) -> bool:
        """Whether the question belongs to the test split, whatever the seed."""
        digest = hashlib.blake2b(self.question.encode(), digest_size=1).digest()
        return digest[0] % HELD_OUT == 0


class Generator:
    """A generator with its parameters, and its question in a user's own words (`wording`).

    Raises `BadInput` in one line for a name, a parameter or a value that there is not, and where
    reasoning-gym is not installed.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, Any] | None = None, wording: str | None = None
    ) -> None:
        self.name, self.parameters, self.wording = name, dict(parameters or {}), wording
        _check(name, self.parameters)

    def draw(self, purpose: str, seed: int, draws: int) -> Iterator[Item]:
        """The different items among so many draws: of `train` and `test` those of that split, of
        `pairs` all. Items that the scorer cannot grade are left out."""
        if draws > PLACES:
            raise BadInput(f"{SOURCE}{self.name}: at most {PLACES // 2} rows can be drawn")
        block = seed % SEEDS * len(PURPOSES) + PURPOSES.index(purpose)
        seen: dict[str, str] = {}  # the generator's question, by what is asked
        for index in range(draws):
            place = {"generator": self.name, "parameters": self.parameters}
            place |= {"seed": block * PLACES, "size": draws, "index": index}
            item = self._item(json.dumps(place, sort_keys=True))
            original = _entry(item.place)["question"]
            if seen.get(item.question, original) != original:
                raise BadInput(
                    f"dataset_question asks different problems in the same words: {item.question!r}"
                )
            fits = purpose == "pairs" or item.held_out == (purpose == "test")
            if fits and item.question not in seen and _graded(item):
                yield item
            seen[item.question] = original

    def _item(self, place: str) -> Item:
        try:
            entry = _entry(place)
        except Exception as error:  # of its random trials, whatever it is
            reason = " ".join(str(error).split())
            raise BadInput(f"{SOURCE}{self.name} fails with these parameters: {reason}") from None
        answer = "" if entry["answer"] is None else str(entry["answer"])
        return Item(self._worded(entry), answer, _expression(entry, answer), place)

    def _worded(self, entry: Mapping[str, Any]) -> str:
        """The item's question, as the generator or the user puts it."""
        if not self.wording:
            return entry["question"]
        fields = {"question": entry["question"], **entry["metadata"]}
        try:
            return self.wording.format(**fields)
        except (KeyError, IndexError, ValueError, AttributeError):
            names = ", ".join(f"{{{name}}}" for name in fields)
            raise BadInput(
                f"dataset_question {self.wording!r} cannot be filled in; {SOURCE}{self.name} has "
                f"{names}"
            ) from None


def solves(completion: str, place: str) -> bool:
    """Whether a completion solves the item that is drawn at a place, as its generator's scorer
    says: all or nothing."""
    entry = _entry(place)
    right = entry["answer"]
    answer = extracted(completion, right)
    if right and is_number(right) and answer.startswith("-") != right.startswith("-"):
        return False  # that of `gsm_symbolic` reads no sign
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some tell of every mistake
            return bool(answer) and _at(place)[0].score_answer(answer, entry) >= 1
    except Exception:  # scorers raise whatever they come upon in a model's text
        return False


def _expression(entry: Mapping[str, Any], answer: str) -> str | None:
    """The item's arithmetic, if it comes to the answer by itself."""
    expression = entry["metadata"].get("expression")
    if not isinstance(expression, str) or not is_number(answer):
        return None
    return expression if evaluate(expression) == evaluate(answer) else None


def _graded(item: Item) -> bool:
    """Whether its scorer tells the right answer from none (that of `game_of_life_halting` takes
    every text for True)."""
    return not solves("?", item.place) and (not item.answer or solves(item.answer, item.place))


@lru_cache(maxsize=256)  # every completion of a group is asked for the same
def _entry(place: str) -> dict[str, Any]:
    dataset, index = _at(place)
    return dataset[index]


def _at(place: str) -> tuple[Any, int]:
    facts = json.loads(place)
    index = facts.pop("index")
    return _dataset(json.dumps(facts, sort_keys=True)), index


@lru_cache(maxsize=4)  # of training, evaluation and pairs
def _dataset(facts: str) -> Any:
    from reasoning_gym import create_dataset

    read = json.loads(facts)
    return create_dataset(
        read["generator"], **read["parameters"], seed=read["seed"], size=read["size"]
    )


def _check(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise `BadInput` for what the generator would not take."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise BadInput(
            f"{SOURCE}{name} needs reasoning-gym: pip install 'thinking-sparks[tasks]'"
        ) from None
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BadInput(f"reasoning-gym has no generator {name!r}{hint}")
    if name in UNSTEADY and not os.environ.get("PYTHONHASHSEED", "random").isdecimal():
        raise BadInput(
            f"{SOURCE}{name} draws other problems in every process; set PYTHONHASHSEED=0 in the "
            "environment"
        )
    settings = DATASETS[name][1]
    _check_values(name, parameters, typing.get_type_hints(settings))
    try:
        tried = settings(**parameters, seed=0, size=1)
        if callable(getattr(tried, "validate", None)):  # two of them look at nothing
            tried.validate()
        json.dumps(dict(parameters))
    except Exception as error:  # mostly its assertions
        reason = " ".join(str(error).split()) or "it refuses these values"
        raise BadInput(f"dataset_parameters of {SOURCE}{name}: {reason}") from None


def _check_values(name: str, parameters: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for key, value in parameters.items():
        if key in ("seed", "size"):
            raise BadInput(f"dataset_parameters: {key} is not set there; use {OURS[key]}")
        if key not in kinds:
            known = ", ".join(known for known in kinds if known not in OURS)
            raise BadInput(f"{SOURCE}{name} has no parameter {key!r}; it has {known}")
        kind = kinds[key]
        if kind in (int, float, bool, str) and not _is(value, kind):
            raise BadInput(f"dataset_parameters: {key} is {value!r}; it takes {kind.__name__}")


def _is(value: Any, kind: type) -> bool:
    """Whether it is of a kind, a bool being no number and a whole number a float too."""
    return type(value) is kind or (kind is float and type(value) is int)
