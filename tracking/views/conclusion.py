"""What is shown of a run at its end."""

from __future__ import annotations

from tracking.run_folder import RunFolder
from tracking.timeline.timeline import Timeline
from tracking.views import report, terminal
from tracking.views.figures import write_picture


def conclude(run: RunFolder, timeline: Timeline, table: terminal.Table) -> None:
    """Show the map of heads and MLPs and what happened, write the report and the picture, say where
    everything lies."""
    picture = write_picture(timeline, run.picture_path)
    table.close(timeline)
    table.sentences(timeline)
    terminal.where(
        {
            "report": report.write_report([run.path], run.report_path),
            "picture": picture,
            "records": run.ledger.folder,
            "timeline": run.ledger.timeline_path,
            **({"checkpoints": run.path} if run.checkpoints() else {}),
        }
    )
