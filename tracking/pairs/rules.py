"""What is asked of a word problem before a pair is made of it: rules, each with its reason.

A rule says whether it objects. The first that does gives the reason why there is no pair, and
`scripts/study_word_pairs.py` counts what each of them changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from tracking.pairs.equations import Solution
from tracking.pairs.numbers import NUMBER, first_difference, implied_values, numbers, values
from tracking.pairs.problems import WordProblem
from tracking.pairs.swaps import Swap, Use, sources
from tracking.pairs.text import Pair

Rules = Mapping[str, Callable[..., bool]]


def objection(rules: Rules, *subject: object) -> str | None:
    """The reason of the first rule that objects to the subject, or None."""
    return next((reason for reason, objects in rules.items() if objects(*subject)), None)


# The solution: a number of unknown origin may depend on the changed one unseen.


def does_not_hold(problem: WordProblem, solution: Solution) -> bool:
    """Whether an equation of the solution is false."""
    return not all(equation.holds for equation in solution.equations)


def ends_elsewhere(problem: WordProblem, solution: Solution) -> bool:
    """Whether the last equation's result is not the answer, a number."""
    results = [equation.value for equation in solution.equations]
    return not NUMBER.fullmatch(problem.answer) or values(problem.answer) != results[-1:]


def from_nowhere(problem: WordProblem, solution: Solution) -> bool:
    """Whether a number comes not from the question, a word in it or an equation before."""
    given = sources(problem.question)
    results = [(equation.value, equation.position) for equation in solution.equations]
    written = [(number.value, number.end) for number in numbers(solution.text)]
    operands = [
        (value, equation.start) for equation in solution.equations for value in equation.operands
    ]
    return not all(
        value in given or any(value == result and known <= place for result, known in results)
        for value, place in written + operands
    )


SOLUTION_RULES: Rules = {
    "an equation of the solution does not come out": does_not_hold,
    "the answer is not the last equation's result": ends_elsewhere,
    "a number of the solution comes from nowhere": from_nowhere,
}


# The number: only one reading of what it is, and only one source of it in the solution.

NOT_ITS_DIGITS_BEFORE = re.compile(
    r"(?:[\w,:/^_{\u2013-]|\ban? )\Z",  # "an 8" would become "an 9"
    re.IGNORECASE,
)
NOT_ITS_DIGITS_AFTER = re.compile(
    r"\s*\\?%|[\w^/:!(]|[,\u2013-]\d|\\[a-zA-Z]|\s*(?:percent|point)\b"
    r"|\s+(?:hundred|thousand|million|billion|dozen|[ap]\.?m\b|o'clock)"
    r"|\s+(?:and\s+)?\d+/\d",
    re.IGNORECASE,
)


def stands_twice(use: Use) -> bool:
    """Whether the question has the number's value more than once."""
    return values(use.problem.question).count(use.number.value) > 1


def is_one(use: Use) -> bool:
    """Whether "1 apple" would become "7 apple"."""
    return use.number.value == 1


def is_in_words(use: Use) -> bool:
    """Whether a word may bring the number in: `week` a 7, "the eight gifts" an 8."""
    words = f"{use.problem.question} {use.solution.text}"
    return use.number.value in implied_values(words)


def is_not_its_digits(use: Use) -> bool:
    """Whether what stands around the number makes it another than its digits say (`5%`, `3 and
    1/2`, `2 dozen`), or hangs on them (`an 8`)."""
    question, number = use.problem.question, use.number
    return bool(
        NOT_ITS_DIGITS_BEFORE.search(question[: number.start])
        or NOT_ITS_DIGITS_AFTER.match(question[number.end :])
    )


NUMBER_RULES: Rules = {
    "the question has the number twice": stands_twice,
    "the number is 1": is_one,
    "a word brings in the number": is_in_words,
    "the number is more, or other, than its digits": is_not_its_digits,
}


# The change: the question stays one that people ask, and the solution one that they write.


def is_known(swap: Swap) -> bool:
    """Whether the new number is 1, as "1 apples", or has a source in the question or solution."""
    results = [equation.value for equation in swap.use.solution.equations]
    return swap.value in {Fraction(1), *sources(swap.use.problem.question), *results}


def does_not_come_out(swap: Swap) -> bool:
    """Whether an equation of the changed question has no result that could be written: a fraction
    where there was a whole number, less than nothing."""
    return None in swap.results


def has_two_sources(swap: Swap) -> bool:
    """Whether a value that changes is also one that does not, or changes in two ways."""
    changes, equations = swap.changes, swap.use.solution.equations
    results = zip(equations, swap.results, strict=True)
    unchanged = {equation.value for equation, result in results if result == equation.value}
    unchanged |= sources(swap.use.problem.question) - {swap.use.number.value}
    return any(old in unchanged for old, _ in changes) or len(dict(changes)) < len(set(changes))


def result_is_given(swap: Swap) -> bool:
    """Whether a changed result stands in one of the two questions."""
    given = {*values(swap.use.problem.question), swap.value}
    return any(old in given or new in given for old, new in swap.changes[1:])


def changes_order(swap: Swap) -> bool:
    """Whether the number no longer stands in its place among those of the question, by size: a
    part of 8 does not become 9."""
    others = set(values(swap.use.problem.question)) - {swap.use.number.value}
    return any((swap.use.number.value < other) != (swap.value < other) for other in others)


CHANGE_RULES: Rules = {
    "the new number has another source": is_known,
    "no digit keeps the order of the question's numbers": changes_order,
    "no digit gives equations that come out well": does_not_come_out,
    "an equation's result has two sources": has_two_sources,
    "a changed result stands in a question": result_is_given,
}


# The pair: what stands before an operand settles which number comes, and no result can be copied.

OPERATOR = re.compile(
    r"(?:(?<![a-zA-Z\n*])[-+*/x\u00d7\u00f7\u2013\u2212]|\\times|\\cdot|\\div)\s*\\?\$?\Z"
)
DIGITS = re.compile(rf"(?:{NUMBER.pattern})[.,]?\Z")


def is_unsettled(swap: Swap, pair: Pair) -> bool:
    """Whether neither a digit nor an operator stands before the target: anything could follow."""
    before = before_target(pair)
    return not DIGITS.search(before) and not OPERATOR.search(before)


def begins_alike(swap: Swap, pair: Pair) -> bool:
    """Whether the digits before the target also begin another number of the question, one that
    the solution has written, or the result, which may be written at once."""
    digits = DIGITS.search(before_target(pair))
    if digits is None:
        return False
    use = swap.use
    earlier = numbers(use.solution.text[: use.mentions[0].start])
    others = [other for other in numbers(use.problem.question) if other != use.number]
    written = [other.text for other in [*others, *earlier]]
    results = [f"{float(each):g}" for each in (use.equation.value, swap.result) if each]
    return any(text.startswith(digits.group()) for text in written + results)


def before_target(pair: Pair) -> str:
    """The clean side's text up to the target, which stands between white brackets."""
    return pair.text[0].rpartition("\u27e6")[0]


def can_be_copied(swap: Swap, pair: Pair) -> bool:
    """Whether the targets are the changed digit itself: 54 + 20 = 7[4] of 50 + 20 = 7[0]."""
    place = first_difference(swap.use.number.text, swap.written)
    digits = (swap.use.number.text[place], swap.written[place])
    targets = tuple(text.rpartition("\u27e6")[2].removesuffix("\u27e7") for text in pair.text)
    return targets == digits


NOT_COPIED: Rules = {"no digit gives a target that is not the changed digit": can_be_copied}
PAIR_RULES: Mapping[str, Rules] = {
    "operand": {
        "neither a digit nor an operator stands before the target": is_unsettled,
        "another number of the question begins alike": begins_alike,
    },
    "result": NOT_COPIED,
    "answer": NOT_COPIED,
}
