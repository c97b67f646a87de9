"""One checkpoint to one record: what the callback, `sparks track` and any other process share.

    worker = Worker(Ledger(run / "heads"), pairs)
    worker.work(step, load, reward)     # claims the step, analyses the model, writes the record
    worker.derive()                     # the timeline, from all records that there are

Several workers may share a ledger: each claims the step that it is at, and the timeline is derived
by one of them at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import torch
from torch import nn

from tracking.analysis import analyse, at_once, record
from tracking.circuits.all_edges import check_all_edges
from tracking.contrast import Before, Subject
from tracking.errors import BadInput, Postponed
from tracking.ledger.ledger import Ledger, Mark
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.ledger.screens import OutOfTurn, Screens
from tracking.model.decoder import Decoder
from tracking.model.passes import check
from tracking.model.sharded import outside_sharding
from tracking.pairs.frozen import freeze, load_pairs, pairs_hash
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.ranks import Peers
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.timeline.timeline import Timeline


@dataclass(frozen=True)
class Call:
    """What the main process asks of the others: to make an analysis with it."""

    pairs: str  # their hash
    before: Mapping[str, Before]  # by contrast


@dataclass
class Worker:
    """Makes the records of a run.

    `models` loads the models of other steps when asked to: that of step 0, and those of checkpoints
    that may still lack a record.
    """

    ledger: Ledger
    pairs: Mapping[str, PromptPairs]  # by contrast
    settings: Settings = field(default_factory=Settings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    subject: Subject = field(default_factory=Subject)
    models: Mapping[int, Callable[[], nn.Module]] = field(default_factory=dict)
    analysing: bool = False  # while nothing is lost where an analysis is broken off
    postponed: bool = False

    def check(self, model: nn.Module) -> None:
        """Refuse now what the first analysis would stumble over."""
        decoder = Decoder.of(model)
        if not self.pairs:
            raise BadInput("no prompt pairs: tracking needs at least one set of them")
        for contrast, of_contrast in self.pairs.items():
            if of_contrast.labels is None:
                raise BadInput(
                    f"the {contrast!r} pairs have no labels: the correct and the incorrect token"
                )
            check(decoder, of_contrast, self.settings.batch_size)
            sides = torch.cat([of_contrast.clean, of_contrast.corrupted], dim=1)
            if twice := len(sides) - len(sides.unique(dim=0)):
                raise BadInput(
                    f"{twice} of the {len(sides)} {contrast!r} pairs stand twice; intervals take "
                    "each for another: leave them out"
                )
            check_all_edges(decoder, of_contrast)

    def take_up(self, step: int) -> list[str]:
        """Freeze the pairs of a new run; for one that goes on at `step`, check that they are its
        own, and set aside records of later steps and damaged ones; what was wrong with each."""
        path, ours = self.ledger.pairs_path, pairs_hash(self.pairs)
        if path.exists():
            there = pairs_hash(load_pairs(path))
            if there != ours:
                raise BadInput(
                    f"{path}: this run's pairs are {there}, not {ours}; keep to them, or take "
                    "another folder"
                )
        else:
            freeze(self.pairs, path)
        self.ledger.supersede(after=step if step else -1)
        damages = self.ledger.set_aside_damaged()
        if (records := self.ledger.records()) and records[0].pairs != ours:
            raise BadInput(f"{path}: the records' pairs are {records[0].pairs}, not {ours}")
        return damages

    def lacking(self, now: int) -> list[int]:
        """Steps up to `now` that should have a record and can be given one."""
        marks = self.ledger.marks()
        for step in set(marks) - {now, *self.models}:
            if marks[step].why in ("preempted", "budget"):
                self.ledger.mark(Mark(step, "deleted", "its checkpoint was deleted before"))
        wanted = {step for step in self.models if step < now} | {now}
        left = {step for step in wanted if step in marks and marks[step].why != "preempted"}
        return sorted(wanted - left - set(self.ledger.steps()))

    def model(self, step: int) -> nn.Module:
        """The model of another step, loaded whole; random states are as before."""
        return whole(self.models[step])

    def work(
        self,
        step: int,
        load: Callable[[], nn.Module],
        reward: Reward,
        current: Callable[[], bool] = lambda: True,
        awaited: Collection[int] = (),
        shared: bool = False,
    ) -> Record | None:
        """Analyse the model of a step and write its record; None where the step has one, where
        another process is at it, or where what was analysed is no longer the run's: `current()` is
        asked before the record is written, since a run may be resumed from an earlier step
        meanwhile. A failure is marked in the ledger and raised.

        `awaited` are earlier steps that other workers are at: what their scores make likely is
        measured here too. Raises `OutOfTurn`, with no mark, where one of them is given up, or its
        record is not what its worker said. A `shared` model is one that all processes of a training
        hold: where it takes several passes, they `help`.
        """
        with self.ledger.claim(step) as claimed:
            if not claimed:
                return None
            screens = Screens(self.ledger, step, awaited)
            screens.withdraw()
            if step in self.ledger.steps():
                return None
            try:
                self.analysing = True
                analysed = self._analysed(step, load(), reward, screens, shared)
                screens.confirm(analysed.analyses)
                self.analysing = False
                with self.ledger.alone():  # a run that is resumed moves its records so
                    if not current():
                        return None
                    self.ledger.write(analysed)
            except OutOfTurn:
                raise
            except Exception as error:
                if not current():
                    return None
                with contextlib.suppress(OSError):  # a full disk has no room for the mark either
                    self.ledger.mark_failed(step, error)
                raise
            finally:
                self.analysing = False
                screens.withdraw()
            return analysed

    def _analysed(
        self, step: int, model: nn.Module, reward: Reward, screens: Screens, shared: bool
    ) -> Record:
        place = self.ledger.offset + step
        settled = self._settled(place)
        before = {
            contrast: replace(one, meanwhile=partial(screens.exchange, contrast))
            for contrast, one in settled.items()
        }
        peers = Peers.of_world(self.sheltered) if shared and self._divides(model) else None
        call = Call(pairs_hash(self.pairs), settled)
        with peers.together(call) if peers else contextlib.nullcontext():
            return record(
                model,
                self.pairs,
                self.settings,
                step,
                reward,
                self.subject,
                self.thresholds,
                _heard(before, peers),
                label=f"heads at step {place}",
                peers=peers,
            )

    def help(self, call: Call, model: nn.Module) -> None:
        """Take a share of the analysis that the main process is at, of the model that all hold."""
        if peers := Peers.of_world():
            with peers.together():
                if call.pairs != (ours := pairs_hash(self.pairs)):
                    raise BadInput(f"its pairs are {ours}, those of the first {call.pairs}")
                before = _heard(call.before, peers)
                analyse(
                    model,
                    self.pairs,
                    self.settings,
                    thresholds=self.thresholds,
                    before=before,
                    peers=peers,
                )

    def _divides(self, model: nn.Module) -> bool:
        """Whether the pairs make more than one batch."""
        each = self.pairs.values()
        return any(at_once(model, pairs, self.settings) < len(pairs) for pairs in each)

    def postpone(self) -> None:
        """End an analysis that is under way by raising `Postponed` inside it; none begins later."""
        self.postponed = True
        if self.analysing:
            self.analysing = False  # a second signal finds nothing to end
            raise Postponed

    @contextlib.contextmanager
    def sheltered(self) -> Iterator[None]:
        """Within it no analysis is ended: that is done on leaving it."""
        analysing, self.analysing = self.analysing, False
        yield
        if analysing and self.postponed:
            raise Postponed
        self.analysing = analysing

    def in_turn(self, step: int, lacking: Collection[int]) -> bool:
        """Whether the record of a step would come out now as if all steps were taken in order,
        while those of `lacking` have none: all earlier ones have theirs, or those before the first
        that has none have settled the size of circuits. What earlier ones measure beside is
        waited for within `work`."""
        gap = min((other for other in lacking if other < step), default=None)
        if gap is None:
            return True
        with self.ledger.alone():
            place = self.ledger.offset + gap
            settled = [record for record in self.ledger.records() if record.step < place]
        return all(self._before(settled, contrast).size is not None for contrast in self.pairs)

    def _settled(self, place: int) -> dict[str, Before]:
        """What the records before a step settle; the size of circuits is the run's, also where
        only a later record has settled it."""
        records = self.ledger.records()
        earlier = [one for one in records if one.step < place]
        settled = {}
        for contrast in self.pairs:
            before = self._before(earlier, contrast)
            size = before.size or self._before(records, contrast).size
            step = earlier[0].step if earlier else None
            settled[contrast] = replace(before, size=size, step=step)
        return settled

    def _before(self, earlier: Sequence[Record], contrast: str) -> Before:
        return Before.of([one.analyses[contrast] for one in earlier], self.settings.rank)

    def facts(self) -> dict[str, object]:
        """What a dashboard keeps of how this run is tracked."""
        counts = {contrast: len(of_contrast) for contrast, of_contrast in self.pairs.items()}
        pairs = {"hash": pairs_hash(self.pairs), "count": counts}
        return {"tracking": {**asdict(self.settings), **asdict(self.thresholds)}, "pairs": pairs}

    def derive(self) -> Timeline:
        """Write the timeline of all records that there are."""
        with self.ledger.alone():
            timeline = Timeline.of(self.ledger.records(), self.thresholds)
            self.ledger.write_timeline(timeline.nodes, timeline.counts)
        return timeline


def _heard(before: Mapping[str, Before], peers: Peers | None) -> Mapping[str, Before]:
    """Where the main process alone hears of other workers, what it hears."""
    if peers is None:
        return before
    return {
        contrast: replace(one, meanwhile=partial(peers.of_main, one.meanwhile))
        for contrast, one in before.items()
    }


def whole(load: Callable[[], nn.Module]) -> nn.Module:
    """The model that `load` gives, in no process's shards; random states are as before."""
    with torch.random.fork_rng(), outside_sharding():  # loading a model may draw from it
        return load()
