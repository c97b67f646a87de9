"""Random prompt pairs, made in place from a seed."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from tracking.pairs.prompt_pairs import PromptPairs


def make_pairs(
    pairs: int = 5,
    length: int = 8,
    vocabulary: int = 50,
    ragged: bool = False,
    side: str = "right",
    looks: int = 1,
    labels: bool = True,
    shared: int = 0,
    seed: int = 0,
) -> PromptPairs:
    """Random pairs that differ between clean and corrupted in the first token after `shared` ones
    that are the same, and in others behind it.

    `ragged` ones have from half of `length` to all of it; padding, on `side`, is random tokens that
    differ between clean and corrupted too. The metric looks at `looks` random positions behind the
    shared ones and always at the last one.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    sizes = drawn((length + 1) // 2, length + 1, pairs) if ragged else torch.full((pairs,), length)
    positions = torch.arange(length).expand(pairs, -1)
    starts = (length - sizes if side == "left" else torch.zeros_like(sizes))[:, None]
    mask = (positions >= starts) & (positions < starts + sizes[:, None])
    clean = drawn(0, vocabulary, pairs, length)
    other = (clean + drawn(1, vocabulary, pairs, length)) % vocabulary
    begins = starts + shared
    changed = (drawn(0, 3, pairs, length) == 0) & (positions > begins)
    changed = changed | (positions == begins) | ~mask
    last = positions == starts + sizes[:, None] - 1
    seen = mask & (positions >= begins)
    rank = torch.rand(pairs, length, generator=generator).masked_fill(~seen, 2)
    rank = rank.masked_fill(last, -1).argsort(1).argsort(1)
    first = drawn(0, vocabulary, pairs, 1)
    second = (first + drawn(1, vocabulary, pairs, 1)) % vocabulary
    return PromptPairs(
        clean,
        torch.where(changed, other, clean),
        mask.long(),
        torch.cat([first, second], dim=1) if labels else None,
        (rank < looks) & seen,
    )


def repadded(pairs: PromptPairs, side: str, extra: int, seed: int) -> PromptPairs:
    """The same tokens with other padding: on `side`, `extra` columns more, other junk in it."""
    real = [row.bool() for row in pairs.attention_mask]
    longest = max(int(row.sum()) for row in real) + extra
    generator = torch.Generator().manual_seed(seed)

    def laid(tensor: Tensor, fill: Tensor) -> Tensor:
        out = fill.clone()
        for index, row in enumerate(real):
            start = longest - int(row.sum()) if side == "left" else 0
            out[index, start : start + int(row.sum())] = tensor[index, row]
        return out

    shape = (len(pairs), longest)
    zeros = torch.zeros(shape, dtype=torch.long)
    return PromptPairs(
        laid(pairs.clean, torch.randint(50, shape, generator=generator)),
        laid(pairs.corrupted, torch.randint(50, shape, generator=generator)),
        laid(pairs.attention_mask, zeros),
        pairs.labels,
        laid(pairs.supervised.long(), zeros).bool(),
    )


def ids(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)


@st.composite
def pair_sets(draw) -> PromptPairs:
    pairs, positions = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def drawn(columns: int) -> torch.Tensor:
        return torch.randint(0, 2**40, (pairs, columns), generator=generator)

    optional: dict[str, torch.Tensor] = {}
    if draw(st.booleans()):
        starts = torch.randint(0, positions, (pairs, 1), generator=generator)
        optional["attention_mask"] = (torch.arange(positions) >= starts).long()
        if draw(st.booleans()):
            optional["supervised"] = optional["attention_mask"].bool()
    if draw(st.booleans()):
        optional["labels"] = drawn(2)
    texts = st.lists(st.tuples(st.text(), st.text()), min_size=pairs, max_size=pairs)
    return PromptPairs(drawn(positions), drawn(positions), texts=tuple(draw(texts)), **optional)


def same(one: PromptPairs, other: PromptPairs) -> bool:
    tensors = one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) and tensor.dtype == other.tensors[name].dtype
        for name, tensor in one.tensors.items()
    )
    return tensors and one.texts == other.texts
