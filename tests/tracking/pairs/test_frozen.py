"""Pairs fit together, are read back as they were written, and end where continuations part."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tracking.errors import BadInput
from tracking.pairs.frozen import freeze, load_pairs, pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Dropped, Pair, choose, pair_at_first_difference


def tokenizer_of(pattern: str, vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """Splits text at every match of `pattern`; what the vocabulary lacks is token 0."""
    words = {word: index for index, word in enumerate(["<unk>", *vocabulary])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")  # type: ignore
    core.decoder = decoders.Fuse()  # type: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


CHARACTERS = tokenizer_of("[\\s\\S]", [chr(code) for code in (10, *range(32, 127))])
NUMBERS_WHOLE = tokenizer_of(r"\d+|\D", [*map(str, range(100)), *"abc +="])


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


# A set of pairs


def test_by_default_every_token_counts_and_the_metric_looks_at_the_last():
    pairs = PromptPairs(ids([1, 2, 3]), ids([1, 5, 3]))
    assert pairs.attention_mask.tolist() == [[1, 1, 1]]
    assert pairs.supervised.tolist() == [[False, False, True]]


def test_the_last_token_is_found_with_padding_on_either_side():
    mask = ids([0, 0, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0])
    pairs = PromptPairs(torch.ones(3, 4).long(), torch.ones(3, 4).long(), mask)
    assert pairs.supervised.long().argmax(dim=1).tolist() == [3, 2, 0]
    assert pairs.supervised.sum() == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"corrupted": ids([1, 2])}, "differ in shape"),
        ({"clean": ids([]).long(), "corrupted": ids([]).long()}, "not one token"),
        ({"clean": torch.ones(3).long(), "corrupted": torch.ones(3).long()}, r"\[pair, position"),
        ({"clean": ids([1, 2, -1])}, "clean holds negative"),
        ({"corrupted": torch.ones(1, 3)}, "torch.float32"),
        ({"attention_mask": ids([1, 0, 1])}, "hole"),
        ({"attention_mask": ids([0, 0, 0])}, "without a token"),
        ({"attention_mask": ids([1, 2, 1])}, "more than 0 and 1"),
        ({"attention_mask": ids([1, 1])}, "attention_mask is"),
        (
            {"attention_mask": ids([1, 1, 0]), "supervised": ids([0, 1, 1]).bool()},
            "supervised is true on padding",
        ),
        ({"supervised": ids([0, 0, 0]).bool()}, "nowhere"),
        ({"supervised": ids([1]).bool()}, "supervised is"),
        ({"labels": ids([1, 2, 3])}, "correct, incorrect"),
        ({"labels": ids([1, -2])}, "negative"),
        ({"labels": torch.ones(1, 2)}, "torch.float32"),
        ({"texts": (("a", "b"), ("c", "d"))}, "2 texts for 1 pairs"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(arguments, complaint):
    with pytest.raises(BadInput, match=complaint) as refusal:
        PromptPairs(**{"clean": ids([1, 2, 3]), "corrupted": ids([1, 5, 3]), **arguments})
    assert "\n" not in str(refusal.value)


def test_pairs_are_padded_on_the_right_and_keep_their_targets():
    pairs = [Pair((1, 2), (1, 3), 7, 8, ("a", "b")), Pair((4, 5, 6), (4, 9, 6), 1, 2, ("c", "d"))]
    pairs = PromptPairs.padded(pairs, pad_token_id=99)
    assert pairs.labels is not None
    assert pairs.clean.tolist() == [[1, 2, 99], [4, 5, 6]]
    assert pairs.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert pairs.labels.tolist() == [[7, 8], [1, 2]]
    assert pairs.texts == (("a", "b"), ("c", "d"))


def test_no_pairs_and_uneven_pairs_are_refused():
    with pytest.raises(BadInput, match="not one pair"):
        PromptPairs.padded([], pad_token_id=0)
    with pytest.raises(BadInput, match="1 and 2 tokens"):
        PromptPairs.padded([Pair((1,), (1, 2), 3, 4, ("", ""))], pad_token_id=0)


@given(pair_sets(), st.data())
def test_picked_pairs_are_the_same_by_list_tensor_and_slice(pairs, data):
    count = data.draw(st.integers(1, len(pairs)))
    by_list = pairs[list(range(count))]
    assert len(by_list) == count
    assert same(by_list, pairs[:count]) and same(by_list, pairs[torch.arange(count)])
    assert same(pairs[list(range(len(pairs)))], pairs)


@given(pair_sets())
def test_pairs_on_another_device_are_the_same_pairs(pairs):
    assert same(pairs.to(torch.device("cpu")), pairs)


def test_a_pick_may_repeat_pairs_but_not_be_empty():
    pairs = PromptPairs(ids([1], [2]), ids([3], [4]), texts=(("a", "b"), ("c", "d")))
    assert pairs[[1, 1, 0]].clean.tolist() == [[2], [2], [1]]
    assert pairs[[1, 1, 0]].texts == (("c", "d"), ("c", "d"), ("a", "b"))
    with pytest.raises(BadInput, match="non-empty"):
        pairs[5:]


def test_the_hash_follows_the_tensors_and_not_the_texts():
    pairs = PromptPairs(ids([1, 2]), ids([3, 4]), labels=ids([5, 6]))
    named = PromptPairs(ids([1, 2]), ids([3, 4]), labels=ids([5, 6]), texts=(("a", "b"),))
    others = [
        PromptPairs(ids([3, 4]), ids([1, 2]), labels=ids([5, 6])),
        PromptPairs(ids([1, 2]), ids([3, 4])),
        PromptPairs(ids([1], [2]), ids([3], [4]), labels=ids([5, 6], [5, 6])),
        PromptPairs(ids([1, 2]), ids([3, 4]), labels=ids([5, 6]), supervised=ids([1, 1]).bool()),
    ]
    assert pairs.hash == named.hash and len(pairs.hash) == 16
    assert len({pairs.hash, *(other.hash for other in others)}) == 5


# From text


def test_a_pair_ends_where_the_continuations_part():
    pair = pair_at_first_difference(CHARACTERS, ("48/2=", "so 24"), ("46/2=", "so 23"))
    assert isinstance(pair, Pair)
    assert pair.text == ("48/2=so 2⟦4⟧", "46/2=so 2⟦3⟧")
    assert CHARACTERS.decode([pair.correct, pair.incorrect]) == "43"
    assert len(pair.clean) == len(pair.corrupted) == len("48/2=so 2")


@pytest.mark.parametrize(
    ("tokenizer", "clean", "corrupted", "reason"),
    [
        (CHARACTERS, ("48=", "2"), ("148=", "3"), "unequal token length before the target"),
        (CHARACTERS, ("48=", "2"), ("46=", "2"), "continuations do not differ"),
        (CHARACTERS, ("48=", "2"), ("46=", "23"), "continuations do not differ"),
        (CHARACTERS, ("48=", "2"), ("48=", "3"), "prompts do not differ"),
    ],
)
def test_a_pair_that_is_no_pair_is_dropped_with_its_reason(tokenizer, clean, corrupted, reason):
    assert pair_at_first_difference(tokenizer, clean, corrupted) == Dropped(reason)


def test_a_token_over_the_boundary_is_the_continuations():
    pair = pair_at_first_difference(NUMBERS_WHOLE, ("b+1", "2"), ("c+1", "3"))
    assert isinstance(pair, Pair)
    assert pair.text == ("b+⟦12⟧", "c+⟦13⟧")


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(BadInput, match="fast tokenizer"):
        pair_at_first_difference(object(), ("a", "b"), ("c", "d"))


DIGITS = st.text("0123456789", min_size=1, max_size=6)


@given(st.tuples(DIGITS, DIGITS), st.tuples(DIGITS, DIGITS))
def test_every_pair_is_of_equal_length_and_differs_in_prompt_and_target(clean, corrupted):
    pair = pair_at_first_difference(CHARACTERS, clean, corrupted)
    if isinstance(pair, Pair):
        assert len(pair.clean) == len(pair.corrupted) >= len(clean[0])
        assert pair.clean != pair.corrupted and pair.correct != pair.incorrect
        whole = CHARACTERS("".join(clean))["input_ids"]
        assert whole[: len(pair.clean) + 1] == [*pair.clean, pair.correct]


# Choosing


PAIR = Pair((1,), (2,), 3, 4, ("a", "b"))


def test_the_first_usable_pairs_are_taken_and_no_more_are_made():
    def endless():
        while True:
            yield Dropped("odd")
            yield PAIR

    assert choose(endless(), "operand", count=5, minimum=5) == [PAIR] * 5


def test_too_few_pairs_are_refused_with_the_reasons_counted():
    pairs = [PAIR, *[Dropped("too odd")] * 2, *[Dropped("not used")] * 30]
    with pytest.raises(BadInput) as refusal:
        choose(pairs, "operand", count=128, minimum=16)
    assert str(refusal.value) == (
        "pairs 'operand': 1 usable pairs of 33 (need at least 16); dropped: 30 not used, 2 too odd"
    )


# On disk


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=8), pair_sets(), max_size=3))
def test_pairs_read_back_are_those_written(pairs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads" / "pairs.safetensors"
        freeze(pairs, path)
        back = load_pairs(path)
        assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert list(back) == list(pairs)
    assert all(same(back[contrast], pairs[contrast]) for contrast in pairs)
    assert pairs_hash(back) == pairs_hash(pairs)


def test_a_runs_hash_knows_kinds_but_not_their_order():
    one, other = PromptPairs(ids([1]), ids([2])), PromptPairs(ids([3]), ids([4]))
    assert pairs_hash({"a": one, "b": other}) == pairs_hash({"b": other, "a": one})
    assert pairs_hash({"a": one, "b": other}) != pairs_hash({"a": other, "b": one})


def test_missing_cut_and_foreign_files_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "pairs.safetensors"
    freeze({"cue": PromptPairs(ids([1, 2]), ids([1, 3]))}, whole)
    content = whole.read_bytes()
    files = {"cut": content[:-1], "cut_header": content[:20], "empty": b"", "foreign": b"no" * 99}
    for name, bytes_ in files.items():
        (tmp_path / name).write_bytes(bytes_)
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights")
    save_file({"cue/clean": ids([1])}, tmp_path / "partial", {"sparks-prompt-pairs": '{"cue": []}'})
    save_file({"a": torch.zeros(1)}, tmp_path / "other_header", {"sparks-prompt-pairs": "[1]"})
    for name in (*files, "weights", "partial", "other_header", "missing"):
        with pytest.raises(BadInput, match=name) as refusal:
            load_pairs(tmp_path / name)
        assert "\n" not in str(refusal.value)


def test_a_failed_write_leaves_the_old_pairs(tmp_path, monkeypatch):
    path = tmp_path / "pairs.safetensors"
    freeze({"cue": PromptPairs(ids([1, 2]), ids([1, 3]))}, path)
    before = path.read_bytes()

    def full_disk(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        freeze({"cue": PromptPairs(ids([9]), ids([8]))}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
