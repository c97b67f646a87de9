// What the run solves: benchmarks by step, and with sets of heads off.

const INKS = ["--positive", "--negative", "--emergent", "--ink"]; // of benchmarks, in turn
const MARKS = [["circle", "●"], ["square", "■"], ["triangle-up", "▲"], ["diamond", "◆"], ["x", "✖"]];

const benchmarks = () => [...new Set(DATA.runs.flatMap(({ solving: of }) => [...(of?.accuracy.benchmark ?? []),
  ...(of?.studies.flatMap((one) => one.table.benchmark) ?? [])]))];

// The colour and the mark of a place: what is told apart is told by both.
const lookAt = (place) => [css(INKS[place % INKS.length]), ...MARKS[place % MARKS.length]];

// A benchmark's, the same in every run.
const lookOf = (benchmark) => lookAt(benchmarks().indexOf(benchmark));

const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}` : "–");

const signOf = (sign, color) => {
  const mark = el("span", { class: "sign", "aria-hidden": "true" }, sign);
  mark.style.color = color;
  return mark;
};

const benchmarkLegend = (names) => legend(...names.map((name) => {
  const [color, , sign] = lookOf(name);
  return [signOf(sign, color), name];
}));

const drawAccuracy = (host, run) => {
  const { accuracy } = run.solving;
  const traces = [...new Set(accuracy.benchmark)].flatMap((benchmark) => {
    const [color, symbol] = lookOf(benchmark);
    const rows = accuracy.step.map((_, i) => i).filter((i) => accuracy.benchmark[i] === benchmark);
    const of = (name) => rows.map((i) => accuracy[name][i]);
    return [
      band(of("step"), of("avg_low"), of("avg_high"), faded(color, css("--band"))),
      line(of("step"), of("avg"), color, { name: benchmark, marker: { size: 7, symbol, color },
        text: rows.map((i) => `${benchmark}, step ${accuracy.step[i]}: ${num(accuracy.avg[i])} (${span(accuracy.avg_low[i], accuracy.avg_high[i])})`),
        hovertemplate: "%{text}<extra></extra>" }),
    ];
  });
  const last = Math.max(stepRange()[1], ...DATA.runs.flatMap((one) => one.solving?.accuracy.step ?? []));
  plotOverSteps(host, run, traces, {
    xaxis: axis({ text: "training step", range: [0, last] }),
    yaxis: axis({ text: "accuracy", range: shared((_, one) => (one.solving
      ? [...one.solving.accuracy.avg, ...one.solving.accuracy.avg_high] : []), 0) }),
  }, 250, []);
};

const accuracyOf = (run) => {
  const { accuracy } = run.solving;
  if (!accuracy.step.length) return null;
  return el("div", {}, benchmarkLegend([...new Set(accuracy.benchmark)]), figure("Accuracy by step", `Accuracy of ${run.name} in benchmarks by training step`,
    () => accuracy, (host) => drawAccuracy(host, run), "Mean over problems of the share of right responses. Bands: 95 % over problems."));
};

const spread = (table, name, row, starred) => (known(table[name][row])
  ? `${signed(table[name][row])} (${signed(table[`${name}_low`][row])} to ${signed(table[`${name}_high`][row])})${starred ? "*" : ""}` : "–");

// Off less controls off, by matching.
const againstControls = (table, rows) => Object.fromEntries(["layer", "norm"].filter((matching) => table[`${matching}_less`])
  .map((matching) => [`controls by ${matching}`, rows.map((row) => spread(table, `${matching}_less`, row, table[`${matching}_beyond`]?.[row]))]));

const setOf = (table, row) => `${table.heads[row]} ${table.mode[row]}`;

// As `sparks ablate` prints it.
const ablationTable = (table, label) => {
  const rows = table.heads.map((_, row) => row);
  return tableOf({
    "heads off": rows.map((row) => setOf(table, row)),
    benchmark: table.benchmark,
    on: table.on,
    off: table.off,
    change: rows.map((row) => spread(table, "change", row, table.significant[row])),
    p: table.p.map((p) => (known(p) && p < 1e-4 ? "<0.0001" : num(p))),
    ...againstControls(table, rows),
    shows: table.smallest,
  }, label);
};

const about = (...words) => el("p", { class: "about" }, ...words);

// Halves of benchmarks, and what told them apart.
const halvesOf = ({ name, halves }) => {
  if (!halves) return [];
  const told = [...new Set(halves.benchmark.flatMap((half, row) => (half.endsWith(", easier") ? [`${half}: ${halves.easier[row]}`] : [])))];
  return [el("h4", {}, `Easier and harder problems: ${name}`),
    about(`${told.join("; ")}. Samples that sorted the problems are not compared: problems that were solved before would be solved less often the second time, whatever is done. * after Holm over this table.`),
    ablationTable(halves, `Accuracy in easier and harder problems with sets of heads off, of ${name}`)];
};

// How responses fail.
const labelsOf = ({ name, labels }) => {
  if (!labels) return [];
  const rows = labels.heads.map((_, row) => row);
  return [el("h4", {}, `How responses fail: ${name}`),
    about("Share of responses with a label (by rules on their text; several may hold), off less on, and off less controls off, 95 % intervals over problems (and sets), not corrected over labels. Labels that no response has are left out."),
    tableOf({
      "heads off": rows.map((row) => setOf(labels, row)), benchmark: labels.benchmark, label: labels.label, on: labels.on, off: labels.off,
      change: rows.map((row) => spread(labels, "change", row)), ...againstControls(labels, rows),
    }, `Failure labels with sets of heads off, of ${name}`)];
};

const bars = (low, value, high, color) => ({ type: "data", symmetric: false, color, thickness: 1, width: 3,
  array: value.map((v, i) => (known(high[i]) ? high[i] - v : 0)), arrayminus: value.map((v, i) => (known(low[i]) ? v - low[i] : 0)) });

const placesOf = (column, value) => column.map((_, i) => i).filter((i) => column[i] === value);

// A condition's look in a trade-off: the base's marks are open.
const conditionLook = (table, what, model) => {
  const open = model === "the base" ? "-open" : "";
  if (what === "control set") return [css("--soft"), `circle${open}`, "·"];
  const conditions = [...new Set(table.what)].filter((one) => one !== "control set");
  const [color, symbol, sign] = conditions.indexOf(what) ? lookAt(conditions.indexOf(what) - 1) : [css("--ink"), "diamond", "◆"];
  return [color, symbol + open, sign];
};

const drawTradeOff = (host, table, rows) => {
  const groups = [...new Set(rows.map((row) => `${table.model[row]}\t${table.what[row]}`))].map((key) => key.split("\t"));
  const traces = groups.map(([model, what]) => {
    const mine = rows.filter((row) => table.model[row] === model && table.what[row] === what);
    const of = (column) => mine.map((row) => table[column][row]);
    const control = what === "control set";
    const [color, symbol] = conditionLook(table, what, model);
    return { type: "scatter", mode: "markers", x: of("x"), y: of("y"), name: `${model}, ${what}`,
      marker: { symbol, color, size: control ? 4 : 10, line: { width: control ? 1 : 1.6, color } },
      ...(control ? {} : { error_x: bars(of("x_low"), of("x"), of("x_high"), color), error_y: bars(of("y_low"), of("y"), of("y_high"), color) }),
      hovertemplate: `${model}, ${what}: %{x:.3f}, %{y:.3f}<extra></extra>` };
  });
  plot(host, traces.reverse(), {
    xaxis: axis({ text: `${table.easy[rows[0]]}, accuracy`, range: [-0.04, 1.04] }),
    yaxis: axis({ text: `${table.hard[rows[0]]}, accuracy`, range: [-0.04, 1.04] }),
    shapes: [{ type: "line", x0: 0, x1: 1, y0: 0, y1: 1, line: { color: css("--line"), width: 1 }, layer: "below" }],
  }, 340);
};

const tradeOffOf = ({ name, trade_off: table }) => {
  if (!table) return [];
  const pairs = [...new Set(table.hard)].map((hard) => placesOf(table.hard, hard));
  const words = [...new Set(table.what)].map((what) => {
    const [color, , sign] = conditionLook(table, what);
    return [signOf(sign, color), what];
  });
  if (table.model.includes("the base")) words.push([signOf("○", css("--soft")), "open: the base, with heads grafted in"]);
  return [el("h4", {}, `Hard against easy: ${name}`), legend(...words),
    el("div", { class: "beside" }, ...pairs.map((rows) => figure(`${table.hard[rows[0]]} against ${table.easy[rows[0]]}`,
      `Accuracy in ${table.hard[rows[0]]} against ${table.easy[rows[0]]} by condition`,
      () => Object.fromEntries(["model", "what", "x", "x_low", "x_high", "y", "y_low", "y_high"].map((column) => [column, rows.map((row) => table[column][row])])),
      (host) => drawTradeOff(host, table, rows), "Bars: 95 % over problems. Small: random control sets. Below the diagonal the hard is solved less.")))];
};

const drawEach = (host, table, rows) => {
  const traces = [...new Set(rows.map((row) => table.benchmark[row]))].map((benchmark) => {
    const mine = rows.filter((row) => table.benchmark[row] === benchmark);
    const of = (column) => mine.map((row) => table[column][row]);
    const [color, symbol] = lookOf(benchmark);
    return { type: "scatter", mode: "markers", x: of("share").map((one) => (known(one) ? Math.abs(one) : null)), y: of("change"), name: benchmark,
      marker: { symbol, size: 9, color: of("p").map((p) => (p <= 0.05 ? color : css("--page"))), line: { width: 1.6, color } },
      error_y: bars(of("change_low"), of("change"), of("change_high"), faded(color, 0.5)),
      text: mine.map((row) => `${table.nodes[row]}, ${benchmark}: ${spread(table, "change", row, table.p[row] <= 0.05)}, share ${num(table.share[row])}`),
      hovertemplate: "%{text}<extra></extra>" };
  });
  const most = Math.max(...rows.map((row) => Math.abs(table.share[row] ?? 0))) || 1;
  plot(host, traces, {
    xaxis: axis({ text: "share of the behaviour on prompt pairs, size", range: [-0.04 * most, 1.06 * most] }),
    yaxis: axis({ text: "change of accuracy", zeroline: true, zerolinecolor: css("--line") }),
  }, 320);
};

const eachOf = ({ name, heads, predictions }) => {
  if (!heads) return [];
  const of = (rows) => Object.fromEntries(["nodes", "benchmark", "share", "on", "off", "change", "change_low", "change_high", "p"]
    .filter((column) => heads[column]).map((column) => [column, rows.map((row) => heads[column][row])]));
  const told = (mode) => (predictions?.mode ?? []).map((_, i) => i).filter((i) => predictions.mode[i] === mode).map((i) =>
    `${predictions.benchmark[i]} ${num(predictions.value[i])} (${span(predictions.low[i], predictions.high[i])})`).join(", ");
  const charts = [...new Set(heads.mode)].map((mode) => {
    const rows = placesOf(heads.mode, mode);
    const title = `Each head alone, ${mode}`;
    if (!heads.share) return el("div", {}, el("h4", {}, title), tableOf(of(rows), `${title}, of ${name}`));
    return figure(title, `Change of accuracy with each head off alone (${mode}) by its share on prompt pairs`, () => of(rows), (host) => drawEach(host, heads, rows),
      "Filled: significant after Holm over all heads, modes and benchmarks. Bars: 95 % over problems."
      + (told(mode) ? ` Share and loss over heads, Spearman's correlation: ${told(mode)}.` : ""));
  });
  return [el("h4", {}, `Head by head: ${name}`), benchmarkLegend([...new Set(heads.benchmark)]), el("div", { class: "beside" }, ...charts)];
};

const side = (title, text) => el("div", {}, el("header", {}, title), el("pre", {}, text));

const turnedProblem = (texts, i, condition, attention) => el("article", { class: "sample" },
  el("header", {}, `problem ${texts.problem[i]}, sample ${texts.sample[i]}`), el("pre", {}, texts.prompt[i]),
  el("div", { class: "beside" },
    side(`as it is: ${texts.change[i] === "failed" ? "right" : "wrong"}`, texts.before[i]),
    side(`${condition}: ${texts.change[i] === "failed" ? "wrong" : "right"}`, texts.after[i])),
  attention(texts.problem[i], texts.sample[i]));

const turnedKind = (one, change, condition, attention) => {
  const rows = one.texts.change.map((_, i) => i).filter((i) => one.texts.change[i] === change);
  const shown = rows.length < one[change] ? `, ${rows.length} shown` : "";
  return [el("h4", {}, `Newly ${change}: ${one[change]} of ${one.problems} problems, in ${one[`${change}_responses`]} of ${one.responses} responses${shown}`),
    ...rows.map((i) => turnedProblem(one.texts, i, condition, attention))];
};

// Made when it is opened.
const turnedRow = ({ table, attention: kept }, one) => {
  const set = setOf(table, one.row);
  const said = `${set}, ${table.benchmark[one.row]}: ` + (one.responses
    ? `${one.failed} of ${one.problems} problems newly failed, ${one.solved} newly solved` : "its responses are not there");
  const details = el("details", {}, el("summary", {}, said));
  const condition = `${table.mode[one.row]} ${table.nodes[one.row]}`;
  const attention = (problem, sample) => attentionOf(kept, table.benchmark[one.row], problem, sample, condition);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(...["failed", "solved"].flatMap((change) => turnedKind(one, change, condition, attention)));
    }
  });
  return details;
};

const study = (one) => [
  el("h4", {}, `With heads off: ${one.name}`),
  about("Only what is beyond random sets (controls) says that these heads are needed: the change says that the model needs something there. "
    + "Off less on, then off less controls off, 95 % intervals over problems (and sets). * significant after Holm. "
    + "Shows: the smallest change that so many problems would show in four of five studies."
    + (one.table.mode.includes("graft") ? " Graft: the base as it is (on), and with the heads put in (off)." : "")),
  ablationTable(one.table, `Accuracy with sets of heads off, of ${one.name}`),
  ...halvesOf(one), ...labelsOf(one), ...tradeOffOf(one), ...eachOf(one),
  ...(one.turned.length ? [
    el("h4", {}, `Newly failed and newly solved: ${one.name}`),
    about("Problems right as the model is and wrong under the condition at the same sample number, and the other way round, of every significant change. "
      + "They are picked by their outcome: sampled again, fewer would come out so, whatever is switched off."),
    one.attention ? about("Under short responses a head can be chosen. Shaded is what it attends to from the token under the pointer (or by arrow keys), from which the next one is written. "
      + "With heads off their attention is still computed, though nothing of it is written. Where a head looks is not what it does.") : null,
    ...one.turned.map((row) => turnedRow(one, row))] : []),
];

const solving = (run) => (run.solving ? [accuracyOf(run), ...run.solving.studies.flatMap(study).filter(known)]
  : [missing("No benchmarks were solved with this run.")]);

SECTIONS.splice(-1, 0, ["solving", "Solving", null, solving]); // this file is here only where a run has it
