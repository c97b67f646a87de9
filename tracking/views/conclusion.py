"""What is shown of a run at its end."""

from __future__ import annotations

import html
from pathlib import Path

from tracking.atomic import write_whole
from tracking.run_folder import RunFolder
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline
from tracking.views import terminal
from tracking.views.figures import write_picture
from tracking.views.report import named, report_of
from tracking.views.solving.tables import accuracies, in_words

BEGIN, END = "<!-- sparks: begin -->\n", "<!-- sparks: end -->\n"


def conclude(run: RunFolder, timeline: Timeline, table: terminal.Table) -> None:
    """Show the map of heads and MLPs, what happened and what was solved, write the report, the
    picture and the model card's section, say where everything lies."""
    accuracy = accuracies(run.path)
    picture = write_picture(timeline, run.picture_path, accuracy)
    table.close(timeline)
    table.sentences(timeline)
    for line in in_words(accuracy):
        table.note(line)
    terminal.where(
        {
            "report": _write_report(run, timeline),
            "picture": picture,
            "records": run.ledger.folder,
            "timeline": run.ledger.timeline_path,
            **({"checkpoints": run.path} if run.checkpoints() else {}),
        }
    )
    put_section(run, card_section(run, timeline))


def _write_report(run: RunFolder, timeline: Timeline) -> Path:
    """The report by the thresholds of the timeline, as the picture and the words beside it."""
    (name,) = named([run.path])
    text = report_of({name: run.path}, {name: timeline})
    write_whole(run.report_path, text.encode())
    return run.report_path


def card_section(run: RunFolder, timeline: Timeline) -> str:
    """Markdown for the model card of a run: what happened, by contrast, with what supports it, and
    where the rest lies."""
    sentences = [
        f"- {html.escape(Summary.of(timeline, contrast).sentence, quote=False)}\n"
        for contrast in timeline.contrasts
    ]
    table = run.ledger.timeline_path.relative_to(run.path)
    return (
        f"{BEGIN}\n## What training did to its heads\n\n{''.join(sentences)}\n"
        f"![Behaviour, reward, wiring and nodes by checkpoint]({run.picture_path.name})\n\n"
        f"Intervals are of 95 %, over the prompt pairs. The whole: `{run.report_path.name}`; every "
        f"head and MLP at every checkpoint: `{table}`. Made with Sparks.\n\n{END}"
    )


def section_of(run: RunFolder) -> str:
    """The section that the model card has, with its marks; empty where it has none."""
    text = run.card_path.read_text() if run.card_path.exists() else ""
    _, begin, rest = text.partition(BEGIN)
    section, end, _ = rest.partition(END)
    return begin + section + end if end else ""


def put_section(run: RunFolder, section: str) -> None:
    """Put a section at the end of the model card that the trainer has written, in the place of the
    one that it has; nothing where there is no card."""
    if run.card_path.exists():
        text = run.card_path.read_text()
        if there := section_of(run):
            text = text.replace(there, "")
        write_whole(run.card_path, f"{text.rstrip()}\n\n{section}".encode())
