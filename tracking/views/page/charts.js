// Plotly's charts: one look, one axis of steps, and the mark of the chosen checkpoint on it.

const SYMBOLS = { // as the signs of the palette
  base: "circle", retained: "circle", faded: "x", new: "circle-open", surviving: "triangle-up",
  revived: "diamond", emergent: "triangle-up-open", pruned: "triangle-down-open",
};
const LEFT = 68; // of every chart, so that axes stand under each other
const RIGHT = 14;

const waiting = []; // charts that are drawn once their place is in the page

const figure = (caption, label, columns, draw, note = null) => {
  const host = el("div", { class: "chart", role: "img", "aria-label": label });
  waiting.push(() => draw(host));
  return el("figure", {},
    el("figcaption", {}, caption, note && el("small", {}, note)), host, dataOf(caption, columns));
};

const drawWaiting = () => {
  while (waiting.length) waiting.shift()();
};

const axis = (more = {}) => ({
  gridcolor: css("--grid"), zeroline: false, linecolor: css("--line"), showline: true,
  tickcolor: css("--line"), ticks: "outside", ticklen: 4, automargin: false, fixedrange: true,
  title: { text: more.text ?? "", font: { size: 12 }, standoff: 8 }, ...more,
});

const plot = (host, traces, layout, height) => {
  Plotly.react(host, traces, {
    height, paper_bgcolor: "transparent", plot_bgcolor: "transparent", showlegend: false,
    font: { family: "system-ui, sans-serif", size: 12, color: css("--soft") },
    margin: { l: LEFT, r: RIGHT, t: 10, b: 40 },
    hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink") } },
    hovermode: "closest", ...layout,
  }, { displayModeBar: false, responsive: true });
};

// The steps that all runs share, from 0 to where the last checkpoint's cell ends.
const stepRange = () => [0, Math.max(...DATA.runs.map((run) => borders(run.steps).at(-1)))];

// The least range that holds what `pick` takes from every run's pairs of the chosen contrast.
const shared = (pick, ...always) => {
  const values = DATA.runs.filter((run) => run.contrasts[view.contrast])
    .flatMap((run) => pick(run.contrasts[view.contrast], run)).concat(always).filter(known);
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
};

const band = (x, low, high, color, more = {}) => {
  const there = x.map((_, i) => i).filter((i) => known(low[i]) && known(high[i]));
  return {
    x: [...there.map((i) => x[i]), ...there.map((i) => x[i]).reverse()],
    y: [...there.map((i) => high[i]), ...there.map((i) => low[i]).reverse()],
    type: "scatter", mode: "none", fill: "toself", fillcolor: color, hoverinfo: "skip", ...more,
  };
};

const line = (x, y, color, more = {}) => ({
  x, y, type: "scatter", mode: "lines+markers", connectgaps: false, cliponaxis: false,
  line: { color, width: 2 }, marker: { size: 6, color }, ...more,
});

// Where the cells of neighbouring checkpoints meet, none below 0; one more than checkpoints.
const borders = (steps) => {
  if (steps.length === 1) return [Math.max(steps[0] - 0.5, 0), steps[0] + 0.5];
  const middle = steps.slice(1).map((step, i) => (step + steps[i]) / 2);
  return [Math.max(2 * steps[0] - middle[0], 0), ...middle, 2 * steps.at(-1) - middle.at(-1)];
};

// A span over every checkpoint whose verdict is one of `verdicts`.
const spans = (run, verdicts, color, layer, yref = "paper") => {
  const edges = borders(run.steps);
  return run.contrasts[view.contrast].counts.verdict.flatMap((verdict, i) => verdicts.includes(verdict) ? [{
    type: "rect", xref: "x", yref, x0: edges[i], x1: edges[i + 1], y0: 0, y1: 1,
    fillcolor: color, line: { width: 0 }, layer,
  }] : []);
};

const unsound = (run) => spans(run, ["weak", "unconverged", "absent"], css("--shade"), "below");

const chosenMark = (run) => ({
  type: "line", xref: "x", yref: "paper", x0: stepOf(run), x1: stepOf(run), y0: 0, y1: 1,
  line: { color: css("--soft"), width: 1.2, dash: "dot" }, name: "chosen", layer: "above",
});

const marked = []; // charts over the steps, to move the mark in

const plotOverSteps = (host, run, traces, layout, height, shapes = unsound(run)) => {
  plot(host, traces, { ...layout, shapes: [...shapes, chosenMark(run)] }, height);
  marked.push({ host, run });
  host.on("plotly_click", ({ points: [point] }) => choose({
    step: nearest(DATA.steps, point.x), node: typeof point.y === "string" ? point.y : null,
  }));
};

const moveMarks = () => {
  marked.splice(0, marked.length, ...marked.filter(({ host }) => host.isConnected));
  marked.forEach(({ host, run }) => {
    const others = host.layout.shapes.filter((shape) => shape.name !== "chosen");
    Plotly.relayout(host, { shapes: [...others, chosenMark(run)] });
  });
};

// What stands for the reward: the reward, a token accuracy or the loss.
const rewardName = (run) => run.contrasts[view.contrast].coupling.reward_name;

const RAMP = ["#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838"]; // cividis

const rampColor = (place, size) => {
  const at = size > 1 ? (place / (size - 1)) * (RAMP.length - 1) : 2;
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${mixed(RAMP[low + 1], RAMP[low], at - low).join(", ")})`;
};

const cohortsOf = (run) => [...new Set(run.contrasts[view.contrast].cohorts.cohort)];

// The cohorts of all runs, so that one has the same colour in each.
const allCohorts = () => [...new Set(DATA.runs.flatMap((run) => (run.contrasts[view.contrast] ? cohortsOf(run) : [])))]
  .sort((a, b) => a - b);

// Heads that emerged and are active, stacked by the step at which they came.
const drawCohorts = (host, run) => {
  const { cohorts } = run.contrasts[view.contrast];
  const edges = borders(run.steps);
  const all = allCohorts();
  const traces = cohortsOf(run).map((cohort) => {
    const rows = cohorts.cohort.map((_, i) => i).filter((i) => cohorts.cohort[i] === cohort);
    const width = rows.map((i) => {
      const place = run.steps.indexOf(cohorts.step[i]);
      return 0.86 * Math.min(...edges.slice(1).map((e, j) => e - edges[j]), edges[place + 1] - edges[place]);
    });
    return {
      type: "bar", x: rows.map((i) => cohorts.step[i]), y: rows.map((i) => cohorts.left[i]), width,
      marker: { color: rampColor(all.indexOf(cohort), all.length), line: { width: 0.6, color: css("--soft") } },
      hovertemplate: `step %{x}: %{y} of ${cohorts.size[rows[0]]} heads of step ${cohort}<extra></extra>`,
    };
  });
  const totals = (contrast) => {
    const sums = {};
    contrast.cohorts.step.forEach((step, i) => { sums[step] = (sums[step] ?? 0) + contrast.cohorts.left[i]; });
    return Object.values(sums);
  };
  plotOverSteps(host, run, traces, {
    barmode: "stack", xaxis: axis({ text: "training step", range: stepRange() }),
    yaxis: axis({ text: "active heads", range: [0, shared(totals, 0)[1]] }),
  }, 270);
};

const drawSurvival = (host, run) => {
  const { survival } = run.contrasts[view.contrast];
  const color = DATA.looks.surviving.color;
  const stepped = { line: { color, width: 2.4, shape: "hv" } };
  const end = Math.max(...DATA.runs.flatMap((one) => one.contrasts[view.contrast]?.survival.time ?? [0]), 1);
  const low = [], high = [], time = [];
  survival.time.forEach((t, i) => { // as steps, like the curve itself
    const until = survival.time[i + 1] ?? t;
    time.push(t, until); low.push(survival.low[i], survival.low[i]); high.push(survival.high[i], survival.high[i]);
  });
  plot(host, [
    band(time, low, high, faded(color, css("--band"))),
    line(survival.time, survival.survival, color, { ...stepped, text: survival.at_risk,
      hovertemplate: "after %{x} steps: %{y:.3g}, %{text} heads seen that long<extra></extra>" }),
  ], {
    xaxis: axis({ text: "steps since the head came", range: [-0.03 * end, 1.03 * end] }),
    yaxis: axis({ text: "share not pruned", range: [0, 1.05] }),
  }, 270);
};

const drawCurve = (host, run) => {
  const contrast = run.contrasts[view.contrast];
  const i = indexOf(run);
  const { share, value, low, high } = contrast.curves[i];
  const color = css("--positive");
  const own = contrast.circuit_edges[i] / contrast.all_edges;
  const { counts } = contrast;
  const least = Math.min(own || 1, ...DATA.runs.flatMap((one) => one.contrasts[view.contrast]?.curves.flatMap((c) => c.share.filter((s) => s > 0)) ?? []));
  const x = share.map((s) => Math.max(s, least));
  plot(host, [
    band(x, low, high, faded(color, css("--band"))),
    line(x, value, color, { hovertemplate: "%{x:.3g} of all edges, taken by score: %{y:.3g}<extra></extra>" }),
    ...(known(counts.faithfulness[i]) ? [{ x: [own], y: [counts.faithfulness[i]], type: "scatter", mode: "markers",
      marker: { symbol: "diamond", size: 12, color: css("--ink") },
      error_y: { type: "data", symmetric: false, array: [counts.faithfulness_high[i] - counts.faithfulness[i]],
        arrayminus: [counts.faithfulness[i] - counts.faithfulness_low[i]], color: css("--ink"), width: 5 },
      hovertemplate: "the circuit: %{x:.3g} of all edges, after pruning: %{y:.3g}<extra></extra>" }] : []),
  ], {
    xaxis: axis({ text: "share of all edges (line: taken, diamond: left)", type: "log", range: [Math.log10(least) - 0.1, 0.08], dtick: 1, tickformat: "~g" }),
    yaxis: axis({ text: "faithfulness", range: shared((k) => [...k.curves.flatMap((c) => [...c.value, ...c.low, ...c.high]),
      ...k.counts.faithfulness, ...k.counts.faithfulness_low, ...k.counts.faithfulness_high], 0, 1, 1.05) }),
    shapes: [1, contrast.wanted].filter(known).map((y, n) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y,
      line: { color: css("--soft"), width: 1, dash: n ? "dash" : "dot" }, layer: "below" })),
  }, 300);
};

const CHANGES = [["behaviour", "circle", "--ink"], ["active", "square", "--positive"], ["emergent", "triangle-up", "--emergent"]];

// The correlation of changes with the reward's by lag; filled where p says it is beyond what shifts
// in time give.
const drawCoupling = (host, run) => {
  const { table } = run.contrasts[view.contrast].coupling;
  const traces = CHANGES.map(([series, symbol, ink], place) => {
    const rows = table.lag.map((_, i) => i).filter((i) => table.series[i] === series);
    const color = css(ink);
    return line(rows.map((i) => table.lag[i] + 0.12 * (place - 1)), rows.map((i) => table.correlation[i]), color, {
      name: series, line: { color, width: 1.2 },
      text: rows.map((i) => `${series}, lag ${table.lag[i]}: r = ${num(table.correlation[i])}, p = ${num(table.p[i])}, over lags ${num(table.p_corrected[i])}`),
      hovertemplate: "%{text}<extra></extra>",
      marker: { size: 10, symbol, color: rows.map((i) => table.p_corrected[i] <= 0.05 ? color : css("--page")), line: { width: 1.6, color } },
    });
  });
  plot(host, traces, {
    xaxis: axis({ text: `lag in checkpoints, after the ${rewardName(run)}`, range: [-3.5, 3.5], dtick: 1 }),
    yaxis: axis({ text: "correlation", range: [-1.08, 1.08], zeroline: true, zerolinecolor: css("--line") }),
  }, 270);
};

const drawTurned = (host, run) => {
  const { solved, failed } = run.completions;
  const bar = (y, look, word) => ({ type: "bar", x: run.steps, y, marker: { color: DATA.looks[look].color },
    customdata: y.map(Math.abs), hovertemplate: `step %{x}: %{customdata} newly ${word}<extra></extra>` });
  plotOverSteps(host, run, [bar(solved, "surviving", "solved"), bar(failed.map((n) => -n), "pruned", "failed")], {
    barmode: "relative", xaxis: axis({ text: "training step", range: stepRange() }),
    yaxis: axis({ text: "problems", zeroline: true, zerolinecolor: css("--line"),
      range: shared((_, one) => one.completions ? [...one.completions.solved, ...one.completions.failed.map((n) => -n)] : [], 0) }),
  }, 210, []);
};
