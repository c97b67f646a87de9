"""The digit swap: probes from word problems, by changing one number of the question.

"Natalia sold clips to 48 of her friends" becomes "... to 46 of her friends", digit for digit, so
that the prompt keeps its length in tokens wherever digits are tokens. Then the worked solution is
followed up to a place where the change must show, and there is the target:

- `operand`: where the number is first used. A model that reads the question writes 48 or 46.
- `result`: at the result of the first equation that uses it, the operand changed alike. A model
  that calculates writes 24 or 23.
- `answer`: at once, with no worked solution before it. The changed answer is found by running all
  equations of the solution forward with the changed number.

A wrong probe is worse than none. A number is left alone where its value may have another source
(twice in the question, 7 beside "week"), or is not its digits (fractions, percentages, "5k",
"5 pm"); and a solution is followed only as far as each of its numbers comes from the question, a
word in it, or an earlier equation, since any other may depend on the changed one unseen.
"""

import ast
import operator
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import torch

from tracking.errors import BadInput
from tracking.probes import Dropped, Pair, pair_at_first_difference

WORD_KINDS = ("operand", "result", "answer")


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


# Numbers in text

NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+")


@dataclass(frozen=True)
class Number:
    """A number where it stands in a text: `text` is the slice from `start` to `end`."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @cached_property
    def value(self) -> Fraction:
        return Fraction(self.text.replace(",", ""))


def numbers(text: str) -> list[Number]:
    """Every number in a text, in order; signs and units are not part of it."""
    return [Number(match.group(), match.start()) for match in NUMBER.finditer(text)]


def values(text: str) -> list[Fraction]:
    return [number.value for number in numbers(text)]


def restyle(text: str, value: Fraction) -> str | None:
    """`value` written as the number `text` is written, in as many characters, or None."""
    decimals = len(text.partition(".")[2])
    scaled = value * 10**decimals
    if scaled.denominator != 1 or value < 0:
        return None
    digits = str(scaled.numerator).zfill(decimals + (not text.startswith(".")))
    whole = digits[: len(digits) - decimals]
    written = f"{int(whole):,}" if "," in text else whole
    written += f".{digits[len(whole) :]}" if decimals else ""
    return written if len(written) == len(text) else None


# In a question, beside a number that is more, or other, than its digits.
NOT_ITS_DIGITS_BEFORE = re.compile(
    r"[\w.,:/^_{\\\u2013-]$|\b(?:half|quarter|third) of an? $"
    r"|\ban? $",  # "an 8" would become "an 9"
    re.IGNORECASE,
)
NOT_ITS_DIGITS_AFTER = re.compile(
    r"\s*\\?%|[\w^/:!(°]|[,\u2013-]\d|\\[a-zA-Z]|\s*(?:percent|point)\b"
    r"|\s+(?:hundred|thousand|million|billion|dozen|[ap]\.?m\b|o'clock)"
    r"|\s+(?:and\s+)?(?:a\s+half|a\s+quarter|\d+/\d|one[- ]half|\\frac)",
    re.IGNORECASE,
)
# In a solution, where `48x2` and `48/2` are operations.
NOT_COPIED_BEFORE = re.compile(
    r"(?:[a-wyz\d.,:^_]|[\^_]\{|\b(?:step|case|day|part) |\n#)$", re.IGNORECASE
)
NOT_COPIED_AFTER = re.compile(
    r"\s*\\?%|[a-wyz^!:_]|\s+(?:hundred|thousand|million|dozen)", re.IGNORECASE
)
LIST_MARKER = re.compile(r"(?:^|\n)[\s*(]*$")

IMPLIED: dict[str, tuple[str, ...]] = {
    r"one|once|first|single": ("1",),
    r"two|twice|doubl\w*|pair\w*|couple|both|second\w*|half\w*|halves|another": ("2", "0.5", "1.5"),
    r"three|thrice|tripl\w*|thirds?": ("3", "1/3", "2/3"),
    r"four|fourths?|quarters?|quadrupl\w*": ("4", "0.25", "0.75", "25"),
    r"five|fifths?|nickels?": ("5", "0.2", "0.05"),
    r"six|sixths?": ("6",),
    r"seven|sevenths?|weeks?|weekly|daily|days?": ("7",),
    r"eight|eighths?": ("8",),
    r"nine|ninths?": ("9",),
    r"ten|tenths?|dimes?|decades?": ("10", "0.1"),
    r"eleven": ("11",),
    r"twelve|dozens?|months?|monthly|years?|yearly|annual\w*|feet|foot|inch\w*": ("12",),
    r"thirteen": ("13",),
    r"fourteen": ("14",),
    r"fifteen": ("15",),
    r"sixteen|pounds?|ounces?": ("16",),
    r"seventeen": ("17",),
    r"eighteen": ("18",),
    r"nineteen": ("19",),
    r"twenty": ("20",),
    r"thirty|months?": ("30",),
    r"forty": ("40",),
    r"fifty": ("50",),
    r"days?|daily|hours?": ("24",),
    r"weekdays?|weekends?": ("5", "2"),
    r"hours?|hourly|minutes?|seconds?": ("60",),
    r"months?|weeks?|years?": ("4", "52", "365"),
    r"yards?": ("3",),
    r"cents?|percent\w*|hundred|dollars?|centimeters?|meters?": ("100",),
}
"""Values that a solution may use because of a word in the question, not a number in it."""


@lru_cache(maxsize=1024)
def implied_values(question: str) -> frozenset[Fraction]:
    """What the question's words and percentages, not its plain numbers, may bring in."""
    found = {
        Fraction(value)
        for words, brought in IMPLIED.items()
        if re.search(rf"\b(?:{words})\b", question, re.IGNORECASE)
        for value in brought
    }
    for match in re.finditer(rf"({NUMBER.pattern})\s*(?:\\?%|percent)", question):
        share = Fraction(match.group(1).replace(",", "")) / 100
        found |= {share, 1 - share, 1 + share, 100 - 100 * share, 100 + 100 * share, Fraction(100)}
    return frozenset(found)


def changeable(question: str) -> list[Number]:
    """The numbers that can be changed with only one reading of what they were."""
    if "[asy]" in question:
        return []
    every, implied = values(question), implied_values(question)
    return [
        number
        for number in numbers(question)
        if every.count(number.value) == 1
        and number.value not in implied
        and number.value > 1  # "1 apple" would become "7 apple"
        and not NOT_ITS_DIGITS_BEFORE.search(question[: number.start])
        and not NOT_ITS_DIGITS_AFTER.match(question[number.end :])
    ]


def digit_swaps(number: Number, question: str) -> list[str]:
    """Every way to write the number with one other digit.

    A first digit does not become 0, nor a last decimal, and the number does not become 1 or one
    that the question has or implies already.
    """
    taken = {Fraction(0), Fraction(1), *values(question), *implied_values(question)}
    swaps = []
    for place, digit in enumerate(number.text):
        if not digit.isdigit() or (place == 0 and digit == "0"):
            continue
        ends = place == 0 or ("." in number.text and place == len(number.text) - 1)
        others = "123456789" if ends else "0123456789"
        swaps += [number.text[:place] + other + number.text[place + 1 :] for other in others]
    return [swap for swap in swaps if Fraction(swap.replace(",", "")) not in taken]


# Equations in worked solutions

OPERATORS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(
    expression: str, changed: Mapping[Fraction, Fraction] | None = None
) -> Fraction | None:
    """The exact value of a sum of numbers, + - * / and parentheses; None for anything else.

    Each number that is a key of `changed` counts as its value there.
    """
    if len(expression) > 200:
        return None
    try:
        return value_of(ast.parse(expression.strip(), mode="eval").body, changed or {})
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def value_of(node: ast.expr, changed: Mapping[Fraction, Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number):
            exact = Fraction(str(number))  # by way of its text: 0.1 is a tenth
            return changed.get(exact, exact)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value_of(operand, changed)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value_of(left, changed), value_of(right, changed))
    raise ValueError("not arithmetic")


@dataclass(frozen=True)
class Equation:
    """An equation of a solution.

    expression: its left side in plain signs, as `evaluate` reads it
    value: what the solution says it comes to
    start: where in the solution's text the sentence that states it begins
    position: where in the text its result stands, or would stand
    result: the result in the text, None where it is not written there
    """

    expression: str
    value: Fraction
    start: int
    position: int
    result: Number | None

    @property
    def operands(self) -> list[Fraction]:
        return values(self.expression)

    @property
    def end(self) -> int:
        """Where its left side has ended: the place before its result."""
        return self.result.start if self.result else self.position

    @property
    def holds(self) -> bool:
        return evaluate(self.expression) == self.value


@dataclass(frozen=True)
class Solution:
    """A worked solution as a reader sees it, and its equations in order."""

    text: str
    equations: tuple[Equation, ...]


def read_solution(solution: str) -> Solution:
    """Find the equations: GSM8K's `<<48/2=24>>`, which no reader sees, or those in the text."""
    return read_annotated(solution) if "<<" in solution else read_plain(solution)


ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")


def read_annotated(solution: str) -> Solution:
    text, equations, read = "", [], 0
    for match in ANNOTATION.finditer(solution):
        text += solution[read : match.start()]
        read = match.end()
        written = re.compile(rf"\s*\$?\s*({NUMBER.pattern})").match(solution, read)
        value = evaluate(arithmetic(match.group(2)))
        if value is None:
            continue
        result = None
        if written and Fraction(written.group(1).replace(",", "")) == value:
            result = Number(written.group(1), len(text) + written.start(1) - read)
        earlier = equations[-1].position if equations else 0
        start = max(earlier, text.rfind("\n") + 1)
        position = result.end if result else len(text)
        equations.append(Equation(arithmetic(match.group(1)), value, start, position, result))
    return Solution(text + solution[read:], tuple(equations))


LEFT_SIDE = re.compile(
    r"(?:[\d\s.,+*/()$\u00d7\u00f7\u00b7\u2212-]|\\\$|\\times|\\cdot|\\div|(?<=[\d\s])x(?=[\s\d]))+$"
)
RIGHT_SIDE = re.compile(rf"\s*\\?\$?\s*({NUMBER.pattern})")
GOES_ON = re.compile(r"\s*(?:[-+*/^%(\u00d7\u00f7\u00b7\u2212]|\\%|\\[a-zA-Z])|[\w!]|\s+x\s*\d")


def read_plain(solution: str) -> Solution:
    equations = []
    for sign in re.finditer("=", solution):
        line = solution[: sign.start()].rpartition("\n")[2]
        left, right = LEFT_SIDE.search(line), RIGHT_SIDE.match(solution, sign.end())
        if not left or not right or GOES_ON.match(solution[right.end() :]):
            continue
        glued = line[: left.start()][-1:] and line[left.start()] not in " ,$\\"
        expression = arithmetic(re.split(r"[.,]\s", left.group())[-1])
        if glued or not re.match(r"[\d.(]", expression) or len(values(expression)) < 2:
            continue
        result = Number(right.group(1), right.start(1))
        start = sign.start() - len(line) + left.start()
        equations.append(Equation(expression, result.value, start, result.end, result))
    return Solution(solution, tuple(equations))


SIGNS = {
    "\\times": "*",
    "\\cdot": "*",
    "\\div": "/",
    "\u00d7": "*",
    "\u00b7": "*",
    "\u00f7": "/",
    "\u2212": "-",
}


def arithmetic(written: str) -> str:
    """An expression in the signs that `evaluate` reads: without currency and thousands commas."""
    for sign, plain_sign in SIGNS.items():
        written = written.replace(sign, plain_sign)
    written = re.sub(r"(?<=[\d\s)])[xX](?=[\s\d(.$])", "*", written.replace("\\$", "$"))
    written = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", written).replace("$", "")
    return re.sub(r"(?<![\d.])0+(?=\d)", "", written).strip()


# The three kinds of probe


@dataclass(frozen=True)
class Swap:
    """A problem, its solution, one number of the question written with another digit, and the
    first equation of the solution that uses that number (None where only its sentences do)."""

    problem: WordProblem
    solution: Solution
    equation: Equation | None
    number: Number
    written: str

    @property
    def change(self) -> dict[Fraction, Fraction]:
        return {self.number.value: Fraction(self.written.replace(",", ""))}

    @property
    def question(self) -> str:
        question = self.problem.question
        return question[: self.number.start] + self.written + question[self.number.end :]


@dataclass(frozen=True)
class Turn:
    """The model's turn: what it has written, and the number that is right to come next."""

    given: str
    target: str


Turns = tuple[Turn, Turn]
"""The clean and the corrupted turn."""

NO_EQUATION = Dropped("the changed number is in no equation of the solution")


def operand_turns(swap: Swap) -> Turns | Dropped:
    """Up to the changed number, where the solution first writes it."""
    if swap.equation and outcome(swap.equation, swap.change) is None:
        return Dropped("no digit gives an equation that comes out well")
    text = swap.solution.text
    used = next(number for number in numbers(text) if number.value in swap.change)
    written = restyle(used.text, swap.change[used.value])
    if written is None:
        return Dropped("the solution writes the changed number in another form")
    given = text[: used.start]
    return Turn(given, used.text), Turn(given, written)


def result_turns(swap: Swap) -> Turns | Dropped:
    """Up to the result of the first equation with the changed number, changed there alike."""
    equation, text = swap.equation, swap.solution.text
    if equation is None:
        return NO_EQUATION
    result = equation.result
    if result is None:
        return Dropped("the result of the equation is not written after it")
    if not set(equation.operands) <= set(values(text[equation.start : result.start])):
        return Dropped("the equation is not written out")
    if equation.value in values(text[: result.start]):
        return Dropped("the result stands before its equation")
    after = outcome(equation, swap.change)
    if after is None or after == equation.value:
        return Dropped("no digit gives an equation that comes out well")
    written, given = restyle(result.text, after), rewrite(text[: result.start], swap.change)
    if written is None or given is None:
        return Dropped("no digit gives a result of the same length")
    return Turn(text[: result.start], result.text), Turn(given, written)


def answer_turns(swap: Swap) -> Turns | Dropped:
    """The answer at once: the changed one by way of every equation of the solution."""
    if swap.equation is None:
        return NO_EQUATION
    answer, last = swap.problem.answer, swap.solution.equations[-1]
    if not NUMBER.fullmatch(answer) or values(answer) != [last.value]:
        return Dropped("the answer is not the last equation's result")
    if not explained(swap.problem, swap.solution, len(swap.solution.text)):
        return Dropped("a number of the solution comes from nowhere")
    after = run_forward(swap)
    if isinstance(after, Dropped):
        return after
    written = restyle(answer, after)
    if written is None or written == answer:
        return Dropped("no digit gives another answer of the same length")
    return Turn("", answer), Turn("", written)


TURNS: dict[str, Callable[[Swap], Turns | Dropped]] = {
    "operand": operand_turns,
    "result": result_turns,
    "answer": answer_turns,
}


def first_use(solution: Solution, number: Number) -> Equation | None:
    """The first equation with the number among its operands."""
    uses = (equation for equation in solution.equations if number.value in equation.operands)
    return next(uses, None)


def objection(problem: WordProblem, solution: Solution, number: Number) -> str | None:
    """Why the solution's first use of the number may not be of the question's, or None."""
    equation = first_use(solution, number)
    mentions = [other for other in numbers(solution.text) if other.value == number.value]
    if not mentions:
        return "the changed number is not used in the solution"
    if any(other.value == number.value for other in solution.equations):
        return "the changed number is also the result of an equation"
    end = mentions[0].end if equation is None else equation.end
    if mentions[0].end > end:
        return "the solution writes the changed number in another form"
    if not all(is_copied(solution.text, mention) for mention in mentions if mention.end <= end):
        return "the solution's number may not be the question's"
    if equation and not equation.holds:
        return "an equation of the solution does not come out"
    if not explained(problem, solution, end):
        return "a number of the solution comes from nowhere"
    return None


def is_copied(text: str, mention: Number) -> bool:
    """Whether a number in a solution is the question's own, not a list's or a percentage's."""
    before, after = text[: mention.start], text[mention.end :]
    marks_item = LIST_MARKER.search(before) and re.match(r"[.):]", after)
    fits = not NOT_COPIED_BEFORE.search(before) and not NOT_COPIED_AFTER.match(after)
    return fits and not marks_item


def explained(problem: WordProblem, solution: Solution, end: int) -> bool:
    """Whether each number of the solution up to `end` has a source: the question, a word in it,
    or an equation before.

    One without may have been worked out from the changed number unseen.
    """
    given = {*values(problem.question), *implied_values(problem.question)}
    results = [(equation.value, equation.position) for equation in solution.equations]
    written = [(number.value, number.end) for number in numbers(solution.text[:end])]
    operands = [
        (value, equation.start)
        for equation in solution.equations
        if equation.start < end
        for value in equation.operands
    ]
    return all(
        value in given or any(value == result and known <= place for result, known in results)
        for value, place in written + operands
    )


def run_forward(swap: Swap) -> Fraction | Dropped:
    """What the last equation comes to with the changed number."""
    question = swap.problem.question
    unchanged = {*values(question), *implied_values(question)} - swap.change.keys()
    changed, after = dict(swap.change), Fraction(0)
    for equation in swap.solution.equations:
        if not equation.holds:
            return Dropped("an equation of the solution does not come out")
        value = outcome(equation, changed)
        if value is None:
            return Dropped("no digit gives equations that come out well")
        if value == equation.value:
            unchanged.add(value)
        elif changed.setdefault(equation.value, value) != value:
            return Dropped("an equation's result has two sources")
        if unchanged & changed.keys():
            return Dropped("an equation's result has two sources")
        after = value
    return after


def outcome(equation: Equation, changed: Mapping[Fraction, Fraction]) -> Fraction | None:
    """What the equation comes to with changed numbers, if people would count or pay with that."""
    after = evaluate(equation.expression, changed)
    if after is None or after == equation.value:
        return after
    hundredths = equation.value.denominator != 1 and (after * 100).denominator == 1
    return after if after > 0 and (after.denominator == 1 or hundredths) else None


def rewrite(text: str, changed: Mapping[Fraction, Fraction]) -> str | None:
    """The text with every number that is a key of `changed` replaced in its own style, or None."""
    pieces, read = [], 0
    for number in numbers(text):
        if number.value in changed:
            written = restyle(number.text, changed[number.value])
            if written is None:
                return None
            pieces += [text[read : number.start], written]
            read = number.end
    return "".join([*pieces, text[read:]])


def word_pairs(
    kind: str,
    problems: Sequence[WordProblem],
    tokenizer: Any,
    seed: int = 0,
    system_prompt: str | None = None,
    solutions: Sequence[str] | None = None,
) -> Iterator[Pair | Dropped]:
    """One probe of a kind of `WORD_KINDS` for each problem, or why there is none.

    `solutions`, one for each problem, take the place of those in the data: a model's own, say,
    from `greedy_solutions`. The same problems and seed give the same probes in every process, and
    a problem's probe does not depend on the others. Raises BadInput for an unknown kind.
    """
    if kind not in WORD_KINDS:
        raise BadInput(f"no probes of kind '{kind}': choose from {', '.join(WORD_KINDS)}")
    if solutions is not None and len(solutions) != len(problems):
        raise BadInput(f"{len(solutions)} solutions for {len(problems)} word problems")
    for index, problem in enumerate(problems):
        if solutions is not None:
            problem = replace(problem, solution=solutions[index])
        yield word_pair(kind, problem, tokenizer, seed, system_prompt)


def word_pair(
    kind: str, problem: WordProblem, tokenizer: Any, seed: int, system_prompt: str | None
) -> Pair | Dropped:
    made: Pair | Dropped = Dropped("no number of the question can be changed safely")
    for swap in swaps(kind, problem, random.Random(f"{seed} {kind} {problem.question}")):
        made = swap if isinstance(swap, Dropped) else tokens(kind, swap, tokenizer, system_prompt)
        if isinstance(made, Pair):
            break
    return made


def tokens(kind: str, swap: Swap, tokenizer: Any, system_prompt: str | None) -> Pair | Dropped:
    turns = TURNS[kind](swap)
    if isinstance(turns, Dropped):
        return turns
    clean, corrupted = turns
    before = chat_prompt(tokenizer, swap.problem.question, system_prompt) + clean.given
    after = chat_prompt(tokenizer, swap.question, system_prompt) + corrupted.given
    return pair_at_first_difference(tokenizer, (before, clean.target), (after, corrupted.target))


def swaps(kind: str, problem: WordProblem, order: random.Random) -> Iterator[Swap | Dropped]:
    """Every digit swap of a problem, number by number, in a random order."""
    if not problem.solution:
        yield Dropped("no worked solution")
        return
    solution, candidates = read_solution(problem.solution), changeable(problem.question)
    order.shuffle(candidates)
    if kind == "operand":
        candidates.sort(key=lambda number: -len(number.text))
    for number in candidates:
        if reason := objection(problem, solution, number):
            yield Dropped(reason)
            continue
        equation, ways = first_use(solution, number), digit_swaps(number, problem.question)
        order.shuffle(ways)
        if kind == "operand":
            # With its first digits written, it is settled which number the model is writing.
            ways.sort(key=lambda written: -first_difference(written, number.text))
        yield from (Swap(problem, solution, equation, number, written) for written in ways)


def first_difference(one: str, other: str) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


# A model's own solutions


def greedy_solutions(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, batch_size: int
) -> list[str]:
    """What the model answers to each prompt, greedily, without special tokens.

    The prompts are texts with the chat template applied. The model's mode and the state of every
    random generator are afterwards what they were.
    """
    solutions: list[str] = []
    with undisturbed(model), torch.no_grad():
        for start in range(0, len(prompts), batch_size):
            batch = tokenizer(
                list(prompts[start : start + batch_size]),
                add_special_tokens=False,
                padding=True,
                padding_side="left",
                return_tensors="pt",
            ).to(model.device)
            written = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **GREEDY,
            )
            new = written[:, batch["input_ids"].shape[1] :]
            solutions += tokenizer.batch_decode(new, skip_special_tokens=True)
    return solutions


GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "use_cache": True,
    # A model's own sampling settings would only draw warnings here.
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Modifies the model for its time: evaluation mode; then every module's own mode is back, and
    the random generators' states."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [model.device] if model.device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
