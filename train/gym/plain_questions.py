"""Questions that are no problems: what a model is asked in the place of one.

Put together from parts, so that there are some of every length in tokens.
"""

from __future__ import annotations

import itertools

BEGINNINGS = (
    "How do I make", "How can I get", "How would you draw", "Why do people like",
    "Where can I find", "What should I know about", "Who gave the world",
    "Do you know a story about",
)  # fmt: skip
THINGS = (
    "tea", "soup", "bread", "music", "a cake", "a garden", "a poem", "a new friend", "a small boat",
    "a paper rose",
)  # fmt: skip
ENDS = (
    "", " today", " in winter", " on a rainy day", " in a small town", " far away from home",
    " when I have a little time", " now that the long summer is over",
    " in the quiet hours after the end of the day",
    " when all my friends have gone away to the big city for work",
)  # fmt: skip


def plain_questions() -> list[str]:
    """All of them, 800, those with a short end first."""
    parts = itertools.product(ENDS, THINGS, BEGINNINGS)
    return [f"{beginning} {thing}{end}?" for end, thing, beginning in parts]
