"""Word problems, whatever their data set calls its columns, and the prompt that asks one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracking.errors import BadInput

# Problems


@dataclass(frozen=True)
class WordProblem:
    """A question, its worked solution (None where the data has none) and its bare answer."""

    question: str
    solution: str | None
    answer: str


def read_problem(row: Mapping[str, Any]) -> WordProblem:
    """A row of GSM8K, MATH, AMC, AIME or SVAMP, whatever its columns are called.

    Raises BadInput, naming the row's columns, where it has no question or no answer.
    """
    if {"Body", "Question", "Equation", "Answer"} <= row.keys():
        return read_svamp(row)
    question = row.get("question") or row.get("problem")
    answer = row.get("answer")
    if not question or answer is None:
        raise BadInput(
            f"a word problem needs 'question' or 'problem', and 'answer' (or SVAMP's columns), "
            f"but the row has {', '.join(map(repr, row)) or 'none'}"
        )
    worked, marker, final = str(answer).rpartition("####")
    solution = worked.strip() if marker else row.get("solution")
    return WordProblem(question, solution or None, plain(final.strip() if marker else answer))


def read_svamp(row: Mapping[str, Any]) -> WordProblem:
    body, question, answer = row["Body"].strip(), row["Question"].strip(), plain(row["Answer"])
    if not body.endswith((".", "?", "!")):
        body, question = body.rstrip(",") + ",", question[:1].lower() + question[1:]
    expression = re.sub(r"\.0\b", "", row["Equation"]).strip()
    expression = expression.removeprefix("( ").removesuffix(" )")
    expression = expression.replace("( ", "(").replace(" )", ")")
    return WordProblem(f"{body} {question}", f"The equation is {expression} = {answer}", answer)


def plain(answer: object) -> str:
    """An answer as people write it: `27.0` is 27."""
    return re.sub(r"(?<=\d)\.0+$", "", str(answer).strip())


def chat_prompt(tokenizer: Any, question: str, system_prompt: str | None = None) -> str:
    """The text after which the model's turn begins; without a chat template, a line of its own."""
    if not getattr(tokenizer, "chat_template", None):
        return "\n".join(filter(None, [system_prompt, question])) + "\n"
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    messages = [*system, {"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
