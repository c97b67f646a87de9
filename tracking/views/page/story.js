// The main picture: behaviour, reward and wiring kept, and under them who carries it, on one axis.

const ROW = 18, GAP = 30; // pixels of a row of nodes, and between panels
const PANELS = [["behaviour", 130], ["reward", 95], ["wiring", 110]];

// White at 0, full colour at the largest share of all runs, at least 0.2 and at most 1.
const mostShare = () => {
  const all = DATA.runs.flatMap((run) => run.contrasts[view.contrast]?.nodes.share ?? []);
  return Math.min(1, Math.max(0.2, ...all.map((one) => Math.abs(one ?? 0))));
};

const shareGround = (value, most) => {
  const color = css(value < 0 ? "--negative" : "--positive");
  return mixed(color, css("--cell"), Math.min(1, Math.abs(value ?? 0) / most));
};

const told = (run, node, i) => {
  const { nodes } = run.contrasts[view.contrast];
  const at = i * sizeOf(run) + node;
  return [`${nodeName(run, node)} at step ${run.steps[i]}: ${DATA.states[nodes.state[at]]}`,
    alone(run, node, i),
    `share ${num(nodes.share[at])} (${span(nodes.share_low[at], nodes.share_high[at])})`,
    nodes.measured[at] ? null : "by its scores", nodes.drift[at] || null].filter(known).join(", ");
};

// Where a checkpoint alone does not bear the state out, what it says; else null.
const alone = (run, node, i) => {
  const { nodes } = run.contrasts[view.contrast];
  const at = i * sizeOf(run) + node;
  const said = [null, "cannot tell", `says ${nodes.active[at] ? "inactive" : "active"}`][nodes.undecided[at]];
  return said && `this checkpoint alone ${said}`;
};

const rasterTraces = (run, names) => {
  const { nodes, rows } = run.contrasts[view.contrast];
  const most = mostShare();
  const edges = borders(run.steps);
  const middle = run.steps.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const at = (node, i) => i * sizeOf(run) + node;
  const cells = rows.flatMap((node, row) => run.steps.map((_, i) => ({ row, i, at: at(node, i) })));
  const on = { yaxis: "y4", type: "scatter", mode: "markers", hoverinfo: "skip" };
  const signs = Object.entries(SYMBOLS).flatMap(([state, symbol]) => {
    const mine = cells.filter((cell) => DATA.states[nodes.state[cell.at]] === state);
    const [face, rim] = /open/.test(symbol) ? ["#ffffff", "#15181b"] : ["#15181b", "#ffffff"];
    return mine.length ? [{ ...on, name: state, x: mine.map((c) => middle[c.i]), y: mine.map((c) => names[c.row]),
      marker: { symbol: symbol.replace("-open", ""), size: 8, color: face, line: { width: 1, color: rim } } }] : [];
  });
  const strokes = [0.15, 0.38, 0.62, 0.85]; // of the hatching, across a cell
  const unsure = cells.filter((cell) => nodes.undecided[cell.at]).flatMap(({ row, i }) =>
    strokes.map((share) => [edges[i] + share * (edges[i + 1] - edges[i]), names[row]]));
  const colors = [-1, 0, 1].map((end, n) => [n / 2, `rgb(${shareGround(end * most, most).join(", ")})`]);
  return [
    { type: "heatmap", name: "share", yaxis: "y4", x: edges, y: names, z: rows.map((node) => run.steps.map((_, i) => nodes.share[at(node, i)])),
      text: rows.map((node) => run.steps.map((_, i) => told(run, node, i))), hovertemplate: "%{text}<extra></extra>",
      zmin: -most, zmax: most, colorscale: colors, showscale: false, xgap: 1, ygap: 1 },
    { ...on, name: "undecided", x: unsure.map((p) => p[0]), y: unsure.map((p) => p[1]),
      marker: { symbol: "line-ne", size: ROW * 0.5, line: { width: 1, color: css("--soft") } } },
    ...signs,
  ];
};

const drawStory = (host, run) => {
  const { counts, rows } = run.contrasts[view.contrast];
  const name = rewardName(run);
  const names = rows.map((node) => nodeName(run, node));
  const tall = [...PANELS.map(([, height]) => height), Math.max(ROW * names.length, 2 * ROW)];
  const total = tall.reduce((a, b) => a + b) + GAP * PANELS.length;
  const domain = (panel) => {
    const above = tall.slice(0, panel).reduce((a, b) => a + b, 0) + GAP * panel;
    return [Math.max(0, 1 - (above + tall[panel]) / total), 1 - above / total];
  };
  const withBand = (column, color, y) => [
    band(counts.step, counts[`${column}_low`], counts[`${column}_high`], faded(color, css("--band")), { yaxis: y }),
    line(counts.step, counts[column], color, { yaxis: y, name: column, hovertemplate: "step %{x}: %{y:.3g}<extra></extra>" }),
  ];
  const ink = css("--ink");
  const traces = [
    ...withBand("behaviour", ink, "y"),
    line(counts.step, counts.reward, DATA.reward, { yaxis: "y2", name, hovertemplate: "step %{x}: %{y:.3g}<extra></extra>" }),
    band(counts.step, counts.wiring_null_low, counts.wiring_null_high, css("--null"), { yaxis: "y3" }),
    ...withBand("wiring_kept", css("--emergent"), "y3"),
    ...rasterTraces(run, names),
  ];
  const panel = (text, place, range) => axis({ text, domain: domain(place), range, nticks: 5 });
  plotOverSteps(host, run, traces, {
    margin: { l: LEFT, r: RIGHT, t: 6, b: 40 },
    xaxis: axis({ text: "training step", range: stepRange(), anchor: "y4", showgrid: false }),
    yaxis: panel("behaviour (logits)", 0, shared((k) => [...k.counts.behaviour, ...k.counts.behaviour_low, ...k.counts.behaviour_high], 0)),
    yaxis2: panel(name, 1, shared((k, one) => (rewardName(one) === name ? k.counts.reward : []))),
    yaxis3: panel("wiring kept", 2, shared((k) => [...k.counts.wiring_kept_low, ...k.counts.wiring_kept_high, ...k.counts.wiring_null_high], 0, 1.05)),
    yaxis4: axis({ domain: domain(3), autorange: false, range: [names.length - 0.5, -0.5], showgrid: false, ticks: "",
      type: "category", tickfont: { size: 11 }, nticks: names.length }),
  }, total + 46, [...unsound(run), ...spans(run, ["weak", "absent"], faded(css("--page"), 0.6), "above", "y4 domain"), ...mlpLine(run), ...stageLines(run)]);
};

// Where a later stage of the training begins.
const stageLines = (run) => run.stages.map((step) => ({ type: "line", xref: "x", yref: "paper", x0: step, x1: step,
  y0: 0, y1: 1, line: { color: css("--ink"), width: 1, dash: "dash" }, name: "stage", label: { text: "next stage",
    textposition: "end", textangle: 0, xanchor: "left", yanchor: "top", font: { size: 11, color: css("--soft") } } }));

// A line between heads and MLPs.
const mlpLine = (run) => {
  const { rows } = run.contrasts[view.contrast];
  const heads = rows.filter((node) => !isMlp(run, node)).length;
  return heads && heads < rows.length ? [{ type: "line", xref: "paper", yref: "y4", x0: 0, x1: 1,
    y0: heads - 0.5, y1: heads - 0.5, line: { color: css("--ink"), width: 1 } }] : [];
};

// The numbers behind the raster: a row a node, a column a step.
const rasterData = (run) => {
  const { nodes, rows } = run.contrasts[view.contrast];
  return {
    node: rows.map((node) => nodeName(run, node)),
    ...Object.fromEntries(run.steps.map((step, i) => [`step ${step}`, rows.map((node) => {
      const at = i * sizeOf(run) + node;
      return `${num(nodes.share[at])} ${DATA.states[nodes.state[at]]}`;
    })])),
  };
};

const shareLegend = () => {
  const node = el("span", { class: "swatch wide", "aria-hidden": "true" });
  const ends = [-1, 0, 1].map((end) => `rgb(${shareGround(end, 1).join(", ")})`);
  node.style.background = `linear-gradient(to right, ${ends.join(", ")})`;
  const most = Number(mostShare().toPrecision(2));
  return [node, `share of the behaviour, −${most} to ${most}`];
};

const stateLegend = (contrasts) => {
  const shown = new Set(contrasts.flatMap((contrast) => contrast.nodes.state).map((code) => DATA.states[code]));
  const signs = DATA.states.filter((state) => shown.has(state) && SYMBOLS[state] && !(state === "base" && shown.has("retained")));
  return legend(shareLegend(),
    ...signs.map((state) => [el("span", { class: "sign", "aria-hidden": "true" }, DATA.looks[state].sign), state === "retained" ? "base, retained" : state]),
    [hatch(), "this checkpoint alone cannot tell, or says otherwise"]);
};

const story = (run) => {
  const contrast = run.contrasts[view.contrast];
  const { summary, left_out: others } = contrast;
  const none = contrast.rows.length ? null : missing("No node was active at any checkpoint, and none is undecided at the end.");
  const note = "Bands: 95 % over pairs. Grey band: the null of wiring kept, today's own ranking by half of the pairs. "
    + "Rows: heads, then MLPs, that were ever active or cannot be told at the end. Shaded, pale: not sound."
    + (others ? ` ${others} nodes that cannot be told and were never active are left out.` : "");
  const data = dataOf("shares and states", () => rasterData(run), "Data of the rows");
  return [
    contrast.counts.reward.every((value) => !known(value)) ? missing("No reward is known at any checkpoint; its panel is empty.") : null,
    stateLegend([contrast]), none,
    figure("Behaviour, reward, wiring, and who carries it", `${run.name}: ${summary.sentence}`,
      () => contrast.counts, (host) => drawStory(host, run), note), contrast.rows.length ? data : null];
};
