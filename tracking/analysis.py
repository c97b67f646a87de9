"""One checkpoint's analysis: a model and frozen probes in, a record's contents out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from tracking.attribution import attribute
from tracking.ledger import Analysis
from tracking.probes import ProbeSet
from tracking.settings import Settings
from tracking.stability import circuits_heads, head_effects, resamples


def analyse(
    model: nn.Module,
    probes: Mapping[str, ProbeSet],
    settings: Settings,
    label: str = "",
) -> dict[str, Analysis]:
    """Scores, circuit, membership and effects of `model` on every kind of probe.

    Neither the model nor any random state is changed. `label` heads the progress bar; without one
    there is none.
    """
    analyses = {}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        for kind, of_kind in probes.items():
            analyses[kind] = _analyse_kind(model, of_kind, settings, label and f"{label} {kind}")
    return analyses


def _analyse_kind(model: nn.Module, probes: ProbeSet, settings: Settings, label: str) -> Analysis:
    scores = attribute(
        model,
        probes,
        metric="prob",
        steps=settings.steps,
        quadrature=settings.quadrature,
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        per_probe=True,
        label=label,
    )
    assert scores.per_probe is not None
    weights = resamples(settings.resamples, len(probes))
    return Analysis(
        edges=scores.edges,
        strength=scores.strength,
        circuit=scores.circuit(share=settings.share).edges,
        in_circuit=circuits_heads(scores.graph, scores.per_probe, weights, settings.share),
        effect=head_effects(scores.graph, scores.per_probe),
        gap=scores.gap,
        clean=float(-scores.clean.mean()),
        corrupted=float(-scores.corrupted.mean()),
    )
