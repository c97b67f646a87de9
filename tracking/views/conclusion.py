"""What is shown of a run at its end."""

from __future__ import annotations

from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from tracking.views import report, terminal
from tracking.views.figures import write_picture
from tracking.views.solving.tables import accuracies, in_words


def conclude(run: RunFolder, timeline: Timeline, table: terminal.Table) -> None:
    """Show the map of heads and MLPs, what happened and what was solved, write the report and the
    picture, say where everything lies."""
    accuracy = accuracies(run.path)
    picture = write_picture(timeline, run.picture_path, accuracy)
    table.close(timeline)
    table.sentences(timeline)
    for line in in_words(accuracy):
        table.note(line)
    terminal.where(
        {
            "report": report.write_report([run.path], run.report_path),
            "picture": picture,
            "records": run.ledger.folder,
            "timeline": run.ledger.timeline_path,
            **({"checkpoints": run.path} if run.checkpoints() else {}),
        }
    )
