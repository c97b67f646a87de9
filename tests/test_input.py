"""Whatever stands in a file, reading it ends in a value or in one line, and changes nothing."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.builders.analyses import make_analysis
from tests.builders.paths import TINY
from tracking.errors import BadInput
from tracking.ledger.codec import read_record, to_bytes
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.pairs.frozen import freeze, load_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from train import config
from train.commands import track
from train.run.manifest import MANIFEST, Manifest
from train.tasks.registry import rows_of

RECIPE = TINY / "grpo.yaml"
KEYS = sorted(config.make_parser("grpo")._option_string_actions)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
fuzz = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(reader: Callable[[Path], object], name: str, content: bytes) -> object:
    """What the reader makes of the file: a value, or None where it refuses it in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            result = reader(path)
        except BadInput as error:
            assert "\n" not in str(error)
            result = None
        assert [file.name for file in Path(folder).iterdir()] == [name]
        assert path.read_bytes() == content
        return result


def job(path: Path) -> config.Job:
    return config.load("grpo", ["--config", str(path)])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A recipe's `env` is set: not for other tests. Nothing is written where the tests are run."""
    monkeypatch.setattr("os.environ", dict(__import__("os").environ))
    monkeypatch.chdir(tmp_path)


@fuzz
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"a: &a [*a]")
@example(b"&a a: *a")
@example(b"!!python/object/apply:os.system ['touch executed']")
@example(b"env: 3")
@example(b"- " * 2000)
@example(b"[" * 2000)
def test_any_recipe_is_read_or_refused(content: bytes) -> None:
    read(job, "recipe.yaml", content)
    assert not Path("executed").exists()


@fuzz
@given(st.dictionaries(st.sampled_from([key.lstrip("-") for key in KEYS]), values, max_size=4))
def test_any_value_of_a_known_key_is_taken_or_refused(keys: dict[str, Any]) -> None:
    known = yaml.safe_load(RECIPE.read_text())
    text = yaml.safe_dump(known | {key: value for key, value in keys.items() if key != "env"})
    read(job, "recipe.yaml", text.encode())


@fuzz
@given(st.lists(st.sampled_from(KEYS) | st.text(max_size=12), max_size=5))
def test_any_flags_are_taken_or_refused(words: list[str]) -> None:
    try:
        config.load(
            "grpo", ["--config", str(RECIPE), *(w for w in words if w not in ("-h", "--help"))]
        )
    except BadInput as error:
        assert "\n" not in str(error)


@settings(fuzz, max_examples=40)
@given(
    st.binary(max_size=100)
    | st.lists(
        st.dictionaries(
            st.sampled_from(["question", "answer", "problem", "solution", "prompt", "messages"]),
            values,
        ).map(json.dumps),
        max_size=3,
    ).map(lambda lines: "\n".join(lines).encode())
)
@example(b'{" ":9223372036854775808,"":[null,null]}')
@example(b'{"problem": null, "solution": [null, null], "messages": 0}\n{"messages": 0.0}')
def test_any_rows_are_read_or_refused(content: bytes) -> None:
    base = config.load("grpo", ["--config", str(RECIPE)])

    def rows(path: Path) -> object:
        base.script.dataset_name = str(path)
        return rows_of(base, "train")

    read(rows, "rows.jsonl", content)


RECORD = to_bytes(Record(3, 1, 1, "ab", {"cue": make_analysis(Graph(1, 1))}))


@st.composite
def spoiled(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file cut short, with a stretch of it replaced."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(start + 20, len(whole))))
    changed = whole[:start] + draw(st.binary(max_size=20)) + whole[end:]
    return changed[: draw(st.integers(0, len(changed)) | st.just(len(changed)))]


@fuzz
@given(st.binary(max_size=300) | spoiled(RECORD))
def test_any_record_is_read_or_refused(content: bytes) -> None:
    read(read_record, "step-00000003.safetensors", content)


def pairs_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tokens = torch.arange(12).view(2, 6)
        pairs = PromptPairs(tokens, tokens + 1, labels=torch.tensor([[1, 2], [3, 4]]))
        freeze({"cue": pairs}, Path(folder) / "pairs.safetensors")
        return (Path(folder) / "pairs.safetensors").read_bytes()


@fuzz
@given(st.binary(max_size=300) | spoiled(pairs_file()))
def test_any_pairs_are_read_or_refused(content: bytes) -> None:
    read(load_pairs, "pairs.safetensors", content)


@fuzz
@given(st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
def test_any_mark_and_any_manifest_is_read_or_refused(content: bytes) -> None:
    read(lambda path: Ledger(path.parent).marks(), "missing-00000003.json", content)
    read(lambda path: Manifest.read(path.parent), MANIFEST, content)


@fuzz
@given(
    st.binary(max_size=100)
    | st.text(max_size=100).map(lambda text: b"# sparks grpo\n" + text.encode())
)
def test_any_run_s_settings_are_read_or_refused(content: bytes) -> None:
    read(lambda path: track._job(path.parent, []), "config.yaml", content)
