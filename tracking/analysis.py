"""One checkpoint's analysis: a model and frozen pairs in, a record's contents out."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn

from tracking.contrast import Before, Subject, analyse_contrast
from tracking.errors import BadInput
from tracking.ledger.record import Analysis, Record
from tracking.ledger.reward import Reward
from tracking.model.decoder import Decoder
from tracking.model.ends import kept_gb
from tracking.model.passes import fitting
from tracking.pairs.frozen import pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.ranks import NoRoom, Peers, out_of_memory
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds

log = logging.getLogger(__name__)

PACKAGES = ("thinking-sparks", "torch", "transformers", "trl")


def record(
    model: nn.Module,
    pairs: Mapping[str, PromptPairs],
    settings: Settings,
    step: int,
    reward: Reward,
    subject: Subject,
    thresholds: Thresholds | None = None,
    before: Mapping[str, Before] | None = None,
    label: str = "",
    peers: Peers | None = None,
) -> Record:
    """The record of `model` at a step; neither the model nor any random state is changed.

    `thresholds` are kept beside it, for those who read the record; `before` is what the run's
    earlier records settle, by contrast. `label` heads the progress bar; without one there is none.
    With `peers`, all of them call this at once.
    """
    begin, graph = time.monotonic(), Decoder.of(model).graph
    return Record(
        step=step,
        n_layers=graph.n_layers,
        n_heads=graph.n_heads,
        pairs=pairs_hash(pairs),
        analyses=analyse(model, pairs, settings, subject, thresholds, before, label, peers),
        reward=reward.value,
        reward_name=reward.name,
        reward_parts=reward.parts,
        seconds=time.monotonic() - begin,
        settings=dataclasses.asdict(settings),
        thresholds=dataclasses.asdict(thresholds or Thresholds()),
        versions=_versions(),
        precision=Decoder.of(model).precision,
    )


def analyse(
    model: nn.Module,
    pairs: Mapping[str, PromptPairs],
    settings: Settings,
    subject: Subject | None = None,
    thresholds: Thresholds | None = None,
    before: Mapping[str, Before] | None = None,
    label: str = "",
    peers: Peers | None = None,
) -> dict[str, Analysis]:
    """Behaviour, scores, circuit and wiring, and what every node does, by contrast."""
    analyses, subject = {}, subject or Subject()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        for contrast, of_contrast in pairs.items():
            if len(of_contrast) < 2:
                raise BadInput("1 pair: how sure a circuit is takes at least 2, better 128")
            analyses[contrast] = _halving(
                at_once(model, of_contrast, settings),
                partial(
                    analyse_contrast,
                    model,
                    of_contrast,
                    settings,
                    thresholds or Thresholds(),
                    subject,
                    (before or {}).get(contrast, Before()),
                    label and f"{label} {contrast}",
                    peers,
                ),
                NoRoom if peers else Exception,
            )
    return analyses


def at_once(model: nn.Module, pairs: PromptPairs, settings: Settings) -> int:
    """How many of the pairs an analysis takes in one pass, by the memory that it may take."""
    decoder = Decoder.of(model)
    kept = kept_gb(decoder, pairs, settings.memory_gb)
    return min(settings.batch_size, fitting(decoder, pairs, settings.memory_gb - kept), len(pairs))


def _versions() -> dict[str, str]:
    """Of the packages that are installed; neither TRL nor Sparks itself needs to be."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _halving(
    batch_size: int, make: Callable[[int], Analysis], by: type[Exception] = Exception
) -> Analysis:
    """What `make` makes of a batch size, half as large as often as memory runs out, which an error
    of the class `by` says."""
    while True:
        try:
            return make(batch_size)
        except by as error:
            if batch_size == 1 or not (isinstance(error, NoRoom) or out_of_memory(error)):
                raise
        batch_size //= 2  # out here, where the failed attempt's tensors are gone
        log.warning("out of memory: the analysis goes on with %d pairs a batch", batch_size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
