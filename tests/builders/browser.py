"""A report in a real browser."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tracking.views.report import report

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Shown:
    """Reports in the browser, and what the browser complained of and fetched."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.pages: dict[tuple[str, ...], Any] = {}
        self.complaints: list[str] = []
        self.fetched: list[str] = []

    def __call__(self, runs: dict[str, Path]) -> Any:
        """The page of these runs, opened once; 1400 pixels wide and light."""
        key = tuple(map(str, runs.values()))
        if key not in self.pages:
            path = self.folder / f"report-{len(self.pages)}.html"
            path.write_text(report(runs))
            self.pages[key] = self.opened(path)
        return self.pages[key]

    def opened(self, path: Path) -> Any:
        page = self.browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("console", lambda logged: self.complaints.append(logged.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.fetched.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("main:not([aria-busy])")
        return page


def until(page: Any, condition: str) -> None:
    """Wait for a condition; without `eval`, which the page forbids."""
    end = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def move_to(page: Any, place: int) -> None:
    """Move the slider to a checkpoint by keyboard."""
    page.locator("#step").focus()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")


def states_shown(page: Any, run: str) -> dict[str, str]:
    return dict(
        page.locator(f"#map [data-run={run}] .map button").evaluate_all(
            "all => all.map(one => [one.dataset.node, one.dataset.state])"
        )
    )


def near(shown: str, wanted: float) -> bool:
    return shown == "–" if pd.isna(wanted) else float(shown) == pytest.approx(wanted, rel=6e-3)


def traces(page: Any, place: str) -> list[dict[str, Any]]:
    """What Plotly was given for the chart of a place."""
    return page.locator(place).first.evaluate(
        "one => JSON.parse(JSON.stringify(one.data.map(({selectedpoints, ...rest}) => rest)))"
    )


def alike(drawn: Sequence[Any], wanted: Sequence[Any] | pd.Series) -> None:
    known = pd.Series(list(wanted), dtype=float).to_numpy()
    assert pd.Series(drawn, dtype=float).to_numpy() == pytest.approx(known, rel=1e-3, nan_ok=True)


def is_band(trace: dict[str, Any], x: pd.Series, low: pd.Series, high: pd.Series) -> None:
    """Up along the upper end, back along the lower; nothing where there is no interval."""
    assert trace["fill"] == "toself"
    there = (low.notna() & high.notna()).to_numpy()
    assert there.any()
    alike(trace["x"], [*x[there], *x[there][::-1]])
    alike(trace["y"], [*high[there], *low[there][::-1]])
