"""Switch heads off and see whether the model still solves problems, beside matched random heads.

    sparks ablate runs/mine --heads active recruited --benchmarks math500 [--mode zero mean]
    sparks ablate tiny --heads L1H3,L1H4 L2H5 --benchmarks tiny-easy,tiny-hard

Each of --heads is a set of nodes that is switched off together: active, base, recruited, survivors
or faded (heads, by a run's records, on --contrast) or names with commas between (L5H1,M3). Modes:
zero, mean and resample (of the model's own texts), scale:0.5. Every set is held against the model
as it is, and against --controls random sets of as many heads, of the same layers and of like write
norm, drawn from heads that are inactive (of a model without a run: from all others). The problems
and the noise of the sampling are the same everywhere; p-values are corrected over all that is asked
(Holm). MLPs have no matched others. With --into BASE the sets are also grafted into that model: its
heads then write what the model's do. With --each every head is also switched off alone, and the
loss held against its share on the run's prompt pairs. With --halves the easier and the harder
half of every benchmark stand by themselves: by the data set's levels, else by samples of the model
(with --into, of BASE) that are not compared.

Responses lie where those of `sparks eval` do and are shared with it; the same command goes on where
it was ended.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.interventions.matched import MatchedSets, matched_by_layer, matched_by_norm
from tracking.interventions.matched import write_norms as norms_of
from tracking.model.architecture import architecture_of
from tracking.model.decoder import Decoder
from tracking.model.graph import Graph
from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from train.ablation.arms import Comparison
from train.ablation.attention import attention_rows, turned_pairs
from train.ablation.difficulty.halves import Halves, halves_of, in_halves
from train.ablation.difficulty.harder import harder
from train.ablation.figure import trade_off, write_trade_off
from train.ablation.labelled import label_shares
from train.ablation.modes import GRAFT, Mode
from train.ablation.results import FEWEST, predictions, results
from train.ablation.study import Study, every_request
from train.ablation.targets import Target, targets
from train.ablation.view import failed_in, notes, predicted, sentences, show, suffered
from train.checkpoints.subject import Subject, subject
from train.evals.responses import Responses, lacking
from train.evals.sampling import prompts_of
from train.evals.sitting import sitting
from train.failures.shares import label_table
from train.flags.evaluation import Asked, add_evaluation
from train.flags.parsing import make_parser
from train.run.console import quieten, say
from train.run.lock import Lock

PROMPTS = 64  # that write norms are measured on
MOST = 64  # heads that are tried alone, where they are not more active than that


def main(arguments: Sequence[str]) -> None:
    """Run `sparks ablate` with these arguments."""
    options = _parse(arguments)
    quieten()
    modes = list(dict.fromkeys(Mode.parse(word) for word in options.mode))
    if options.controls and options.controls < FEWEST:
        raise BadInput(f"--controls is {options.controls}; 0 (none) or at least {FEWEST}")
    asked = Asked.of(options)
    for one in asked.benchmarks:
        if len(one.problems) < 2:
            raise BadInput(f"{one.name} has 1 problem; a comparison needs at least 2")
    base = subject(options.into) if options.into else None
    graph = _graph(asked, base)
    last = _last(Path(options.model), options.contrast)
    states = None if last is None else last[last["contrast"] == last["contrast"].iloc[0]]
    sets = targets(options.heads, graph, states)
    single = _single(graph, states, options.seed) if options.each else []
    with Lock(asked.folder):
        asked.responses()  # refuses what was sampled otherwise, as the next lines, before long work
        if base and (asked.folder / "grafts" / "settings.json").exists():
            _graft_responses(asked, base)
        model = asked.subject.model.load()
        controls = _controls(options, asked, model, sets, _pool(graph, last))
        for target in sets:
            for note in notes(controls[target.name]):
                say(f"note       {target.name}: {note}")
        held = [Comparison(one, mode, controls[one.name]) for one in sets for mode in modes]
        alone = [Comparison(one, mode, {}) for one in single for mode in modes]
        rows = _solved(asked, model, [*held, *alone])
        grafts = [Comparison(one, GRAFT, controls[one.name]) for one in sets if base]
        grafted = (_grafted(asked, base, model, grafts), grafts) if base else None
    _conclude(asked, rows, held, grafted)
    if single:
        _conclude_single(asked, rows, alone, states)
    (asked.folder / "halves.parquet").unlink(missing_ok=True)  # of other sets
    halves = _halved(asked, rows, held, grafted) if options.halves else []
    _attend(asked, model, rows, held, states)
    say(f"\nresponses  {asked.folder / 'responses'}")
    say(f"table      {asked.folder / 'ablation.parquet'}")
    _conclude_trade_off(asked, rows, held, grafted, halves)


def _conclude(
    asked: Asked,
    rows: pd.DataFrame,
    held: Sequence[Comparison],
    grafted: tuple[pd.DataFrame, Sequence[Comparison]] | None,
) -> None:
    """Write and print the results of the sets, in the model and in the base."""
    each = results(rows, held) + (results(*grafted) if grafted else [])
    _write(asked.folder / "ablation.parquet", [result.row for result in each])
    show(each)
    for line in sentences(each):
        say(line)
    failed = label_shares(label_table(rows, asked.benchmarks, asked.boxed), held)
    some = [one.row for one in failed if any(one.shares.values())]
    _write(asked.folder / "labels.parquet", some)
    for line in failed_in(failed):
        say(line)


def _conclude_single(
    asked: Asked, rows: pd.DataFrame, alone: Sequence[Comparison], states: pd.DataFrame | None
) -> None:
    """Write the results of single heads, and print whether their shares on the run's prompt pairs,
    where there are any, tell which of them solving needs."""
    each = results(rows, alone)
    shares = pd.Series(dtype=float) if states is None else states.set_index("node")["corrupt"]
    beside = [{**one.row, "share": shares.get(one.row["nodes"])} for one in each]
    _write(asked.folder / "heads.parquet", beside)
    correlated = [] if states is None else predictions(each, shares)
    _write(asked.folder / "predictions.parquet", [vars(one) for one in correlated])
    for line in predicted(correlated):
        say(line)


def _halved(
    asked: Asked,
    rows: pd.DataFrame,
    held: Sequence[Comparison],
    grafted: tuple[pd.DataFrame, Sequence[Comparison]] | None,
) -> list[Halves]:
    """Write and print the results in the easier and the harder half of every benchmark that has
    them, which are corrected by themselves."""
    sorting, whose = (grafted[0], "the base") if grafted else (rows, "the model")
    as_it_is = sorting[sorting["condition"] == ""]
    halved = [halves_of(one, as_it_is, whose) for one in asked.benchmarks]
    for benchmark, one in zip(asked.benchmarks, halved, strict=True):
        if isinstance(one, str):
            say(f"note       {benchmark.name} has no halves: {one}")
        else:
            say(f"halves     {one}")
    halves = [one for one in halved if isinstance(one, Halves)]
    if halves:
        each = results(in_halves(rows, halves), held)
        if grafted:
            each += results(in_halves(grafted[0], halves), grafted[1])
        by = {name: one.by for one in halves for name in one.names}
        written = [{**one.row, "easier": by[one.benchmark]} for one in each]
        _write(asked.folder / "halves.parquet", written)
        show(each)
    return halves


def _attend(
    asked: Asked,
    model: Any,
    rows: pd.DataFrame,
    held: Sequence[Comparison],
    states: pd.DataFrame | None,
) -> None:
    """Write where heads attend in the responses that the report shows."""
    shares = {} if states is None else dict(zip(states["node"], states["corrupt"], strict=True))
    pairs = turned_pairs(asked.folder, asked.requests, held, shares)
    kept = attention_rows(model, asked.subject.tokenizer, asked.sampling, rows, pairs, asked.folder)
    _write(asked.folder / "attention.parquet", kept)
    if pairs:
        say(f"attention  in {len(kept)} of the {len(pairs)} responses that the report shows")


def _conclude_trade_off(
    asked: Asked,
    rows: pd.DataFrame,
    held: Sequence[Comparison],
    grafted: tuple[pd.DataFrame, Sequence[Comparison]] | None,
    halves: Sequence[Halves],
) -> None:
    """Write and draw the first two benchmarks against each other, and halves, where there are, and
    say whether the harder one suffers more."""
    names = [one.name for one in asked.benchmarks]
    pairs = [*([(names[0], names[1])] if len(names) > 1 else []), *(one.names for one in halves)]
    picture, table = asked.folder / "ablation.png", asked.folder / "trade_off.parquet"
    if not pairs:
        for path in (picture, table, asked.folder / "harder.parquet"):
            path.unlink(missing_ok=True)
        return
    of_each = [
        (model, pd.concat([mine, in_halves(mine, halves)]), comparisons)
        for model, mine, comparisons in (
            ("the model", rows, held), *([("the base", *grafted)] if grafted else [])
        )
    ]  # fmt: skip
    points = pd.concat(trade_off(mine, comparisons, pairs, model)
                       for model, mine, comparisons in of_each)  # fmt: skip
    _write(table, points.to_dict("records"))
    changes = [one for _, mine, comparisons in of_each for one in results(mine, comparisons)]
    each = harder(changes, pairs)
    _write(asked.folder / "harder.parquet", [one.row for one in each])
    for line in suffered(each):
        say(line)
    write_trade_off(points, picture)
    say(f"picture    {picture}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("ablate", __doc__)
    add_evaluation(parser)
    add = parser.add_argument
    add("--heads", nargs="+", required=True, metavar="SET", help="active, base, recruited, "
        "survivors, faded, or L5H1,M3; several are compared one by one")  # fmt: skip
    add("--mode", nargs="+", default=["zero"], metavar="MODE",
        help="zero, mean, resample, scale:X (zero)")  # fmt: skip
    add("--controls", type=int, default=20, metavar="N", help="random sets a matching (20)")
    add("--each", action="store_true", help="also every head alone, against its share on pairs")
    add("--halves", action="store_true", help="also each benchmark's easier and harder half")
    add("--into", metavar="BASE", help="also graft the sets into this model: are they enough?")
    add("--contrast", metavar="NAME", help="whose states are meant (the run's first)")
    return parser.parse_args(list(arguments))


def _write(path: Path, rows: Sequence[Mapping[Any, object]]) -> None:
    sink = io.BytesIO()
    pd.DataFrame(rows).to_parquet(sink)
    write_whole(path, sink.getvalue())


def _graph(asked: Asked, base: Subject | None) -> Graph:
    """The model's; `BadInput` where its heads cannot be switched off, or put into the base."""
    model = asked.subject.model
    architecture_of(model.config.model_type, model.source)
    if base and (difference := model.differs(base.model)):
        raise BadInput(f"--into {base.model.source}: {difference}")
    return Graph(model.config.num_hidden_layers, model.config.num_attention_heads)


def _last(run: Path, contrast: str | None) -> pd.DataFrame | None:
    """The nodes of a run's timeline at its last checkpoint, the contrast that is asked for first;
    None where it is no run. `BadInput` where that checkpoint has no record."""
    if not RunFolder(run).config_path.exists():
        return None
    timeline = Timeline.read(run)
    offset = RunFolder(run).ledger.offset
    step, last = timeline.records[-1].step, offset + max(RunFolder(run).checkpoints(), default=0)
    if step != last:
        raise BadInput(
            f"{run}: its last checkpoint is of step {last}, its last record of step {step}; "
            f"sparks track {run} makes the others"
        )
    first = contrast or timeline.contrasts[0]
    timeline.of_contrast(first)  # refuses an unknown one
    names = [first, *(name for name in timeline.contrasts if name != first)]
    return pd.concat([timeline.at(step, name) for name in names], ignore_index=True)


def _pool(graph: Graph, last: pd.DataFrame | None) -> list[str]:
    """The heads that control sets are drawn from: of a run those that are inactive on all of its
    contrasts, of a model without one all."""
    if last is None:
        return [*graph.head_names]
    heads = last[last["kind"] == "head"]
    inactive = (~heads["active"] & (heads["alone"] == "inactive")).groupby(heads["node"]).all()
    return [head for head in graph.head_names if inactive[head]]


def _single(graph: Graph, states: pd.DataFrame | None, seed: int) -> list[Target]:
    """Every head; of many those that are active, and as many of the others as make `MOST`."""
    heads = [*graph.head_names]
    if len(heads) > MOST:
        active = [] if states is None else [*states["node"][states["active"]]]
        others = [head for head in heads if head not in active]
        drawn = Random(seed).sample(others, min(len(others), max(MOST - len(active), 16)))
        heads = [head for head in heads if head in {*active, *drawn}]
    return [Target(head, (head,)) for head in heads]


def _controls(
    options: argparse.Namespace, asked: Asked, model: Any, sets: Sequence[Target], pool: list[str]
) -> dict[str, dict[str, MatchedSets]]:
    """The control sets of every target, by matching."""
    out: dict[str, dict[str, MatchedSets]] = {target.name: {} for target in sets}
    wanted = [target for target in sets if target.heads == target.nodes] if options.controls else []
    if not wanted:
        return out
    graph, norms = Decoder.of(model).graph, _write_norms(asked, model)
    for target in wanted:
        out[target.name] = {
            "layer": matched_by_layer(graph, target.heads, pool, options.controls, options.seed),
            "norm": matched_by_norm(norms, target.heads, pool, options.controls, options.seed),
        }
    return out


def _write_norms(asked: Asked, model: Any) -> pd.Series:
    """On the prompts of the first problems."""
    tokenizer, system = asked.subject.tokenizer, asked.sampling.system_prompt
    ids = [ids for _, ids in prompts_of(tokenizer, asked.requests, system).values()]
    padded = tokenizer.pad({"input_ids": ids[:PROMPTS]}, return_tensors="pt")
    return norms_of(model, padded["input_ids"], padded["attention_mask"])


def _solved(asked: Asked, model: Any, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """The responses as the model is and under all arms; what is lacking is generated."""
    responses = asked.responses()
    every = every_request(asked.requests, comparisons)
    asked.announce(len(every), len(lacking(every, responses)))
    with sitting(asked.benchmarks, every, responses) as (grader, done):
        study = Study(model, asked.subject.tokenizer, asked.requests, asked.sampling, responses,
                      grader, done)  # fmt: skip
        return study.solve(comparisons)


def _graft_responses(asked: Asked, base: Subject) -> Responses:
    """Those of the base that are there; `BadInput` where they are another base's."""
    facts = {**base.facts, **asked.sampling.facts, "donor": asked.subject.facts["weights"]}
    return Responses(asked.folder / "grafts", facts)


def _grafted(
    asked: Asked, base: Subject, donor: Any, comparisons: Sequence[Comparison]
) -> pd.DataFrame:
    """The responses of the base as it is, and with the donor's nodes in their place."""
    responses = _graft_responses(asked, base)
    every = every_request(asked.requests, comparisons)
    left = len(lacking(every, responses))
    say(f"grafts     into {base.model.source}: {left} to generate, {len(every) - left} there")
    with sitting(asked.benchmarks, every, responses) as (grader, done):
        study = Study(base.model.load(), asked.subject.tokenizer, asked.requests, asked.sampling,
                      responses, grader, done, donor)  # fmt: skip
        return study.solve(comparisons)
