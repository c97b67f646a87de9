"""Parts carry what was changed in them, and nothing where nothing was."""

import copy
from typing import Any

import pytest

from tests.builders.draws import arches
from tests.builders.planted import pairs, planted
from tests.builders.two_models import changed, misreading, scaled
from tracking import BadInput
from tracking.comparison.exchange.parts import PartEffects, part_effects

SHARES = ["lost_share", "gained_share"]


def at(effects: PartEffects, by: str) -> Any:
    return effects.table[effects.table["by"] == by].set_index("part")


@arches
@pytest.mark.parametrize("tied", [False, True])
def test_everything_carries_all_of_the_difference(
    tiny_decoder, random_pairs, arch: str, tied: bool
) -> None:
    base = tiny_decoder(arch, tied=tied)
    drawn = random_pairs(pairs=12, ragged=True)
    effects = part_effects(base, changed(base, 1), drawn)
    table = effects.table.set_index("part").loc["everything"]
    for way in ("lost", "gained"):
        wanted = [float(effects.difference.mean)] * 2
        assert table[way].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_a_model_against_itself_differs_in_nothing(tiny_decoder, random_pairs) -> None:
    base = tiny_decoder()
    effects = part_effects(base, copy.deepcopy(base), random_pairs(pairs=12))
    assert not effects.there
    assert float(effects.difference.mean) == pytest.approx(0, abs=1e-5)
    assert (effects.table[["lost", "gained"]].abs() < 1e-5).all(axis=None)
    assert effects.table[SHARES].isna().all(axis=None)


@pytest.mark.parametrize("factor", [1.5, 0.5])  # a gain and a loss
def test_a_changed_head_is_found_in_its_layer(factor: float) -> None:
    base = planted(noise=0.01)
    effects = part_effects(base, scaled(base, factor), pairs())
    assert effects.there and (float(effects.difference.mean) > 0) == (factor > 1)
    for by in ("writes", "weights"):
        shares = at(effects, by)[SHARES]
        for part in ("attention", "heads of layer 1", "everything"):
            assert shares.loc[part].tolist() == pytest.approx([1, 1], abs=1e-3)
        for part in ("MLPs", "embeddings", "unembedding", "heads of layer 0", "heads of layer 2"):
            assert shares.loc[part].tolist() == pytest.approx([0, 0], abs=1e-2)


def test_a_gain_of_the_last_norm_is_the_unembedding_alone() -> None:
    base = planted(noise=0.01)
    trained = copy.deepcopy(base)
    trained.model.norm.weight.data *= 2
    shares = at(part_effects(base, trained, pairs()), "writes")[SHARES]
    assert shares.loc["unembedding"].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert shares.loc["attention + MLPs"].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_what_is_only_passed_on_has_an_effect_by_writes_alone() -> None:
    trained = planted(noise=0.01)
    effects = part_effects(misreading(trained), trained, pairs())
    assert at(effects, "writes").loc["heads of layer 1", "gained_share"] > 0.9
    assert abs(at(effects, "weights").loc["heads of layer 1", "gained_share"]) < 1e-6
    assert at(effects, "writes").loc["embeddings", "gained_share"] == pytest.approx(1, abs=1e-2)


def test_intervals_are_around_their_means(tiny_decoder, random_pairs) -> None:
    base = tiny_decoder()
    table = part_effects(base, changed(base, 1), random_pairs(pairs=12)).table
    for name in ("lost", "gained"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
        assert table[f"{name}_p"].between(0, 1).all()


def test_pairs_without_labels_are_refused(tiny_decoder, random_pairs) -> None:
    base = tiny_decoder()
    with pytest.raises(BadInput, match="pairs have no labels"):
        part_effects(base, changed(base, 1), random_pairs(labels=False))
