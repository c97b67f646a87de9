"""Pairs are read back as they were written, by a hash that knows them."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.builders.prompt_pairs import ids, pair_sets, same
from tracking.errors import BadInput
from tracking.pairs.frozen import freeze, load_pairs, pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs


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


# On disk


@settings(max_examples=50)
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
