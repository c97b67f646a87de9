// What the run solves: benchmarks by step, and with sets of heads off.

const INKS = ["--positive", "--negative", "--emergent", "--ink"]; // of benchmarks, in turn
const MARKS = [["circle", "●"], ["square", "■"], ["triangle-up", "▲"], ["diamond", "◆"], ["x", "✖"]];

const benchmarks = () => [...new Set(DATA.runs.flatMap((run) => run.solving?.accuracy.benchmark ?? []))];

// A benchmark's colour and mark, the same in every run.
const lookOf = (benchmark) => {
  const place = benchmarks().indexOf(benchmark);
  return [css(INKS[place % INKS.length]), ...MARKS[place % MARKS.length]];
};

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
  const marks = [...new Set(accuracy.benchmark)].map((benchmark) => {
    const [color, , sign] = lookOf(benchmark);
    const mark = el("span", { class: "sign", "aria-hidden": "true" }, sign);
    mark.style.color = color;
    return [mark, benchmark];
  });
  return el("div", {}, legend(...marks), figure("Accuracy by step", `Accuracy of ${run.name} in benchmarks by training step`,
    () => accuracy, (host) => drawAccuracy(host, run), "Mean over problems of the share of right responses. Bands: 95 % over problems."));
};

const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}` : "–");

const spread = (table, name, row, starred) => (known(table[name][row])
  ? `${signed(table[name][row])} (${signed(table[`${name}_low`][row])} to ${signed(table[`${name}_high`][row])})${starred ? "*" : ""}` : "–");

const setOf = (table, row) => `${table.heads[row]} ${table.mode[row]}`;

// As `sparks ablate` prints it.
const ablationTable = ({ name, table }) => {
  const rows = table.heads.map((_, row) => row);
  const matchings = ["layer", "norm"].filter((matching) => table[`${matching}_less`]);
  return tableOf({
    "heads off": rows.map((row) => setOf(table, row)),
    benchmark: table.benchmark,
    on: table.on,
    off: table.off,
    change: rows.map((row) => spread(table, "change", row, table.significant[row])),
    p: table.p.map((p) => (known(p) && p < 1e-4 ? "<0.0001" : num(p))),
    ...Object.fromEntries(matchings.map((matching) => [`controls by ${matching}`,
      rows.map((row) => spread(table, `${matching}_less`, row, table[`${matching}_beyond`][row]))])),
    shows: table.smallest,
  }, `Accuracy with sets of heads off, of ${name}`);
};

const side = (title, text) => el("div", {}, el("header", {}, title), el("pre", {}, text));

const turnedProblem = (texts, i, condition) => el("article", { class: "sample" },
  el("header", {}, `problem ${texts.problem[i]}, sample ${texts.sample[i]}`), el("pre", {}, texts.prompt[i]),
  el("div", { class: "beside" },
    side(`as it is: ${texts.change[i] === "failed" ? "right" : "wrong"}`, texts.before[i]),
    side(`${condition}: ${texts.change[i] === "failed" ? "wrong" : "right"}`, texts.after[i])));

const turnedKind = (one, change, condition) => {
  const rows = one.texts.change.map((_, i) => i).filter((i) => one.texts.change[i] === change);
  const shown = rows.length < one[change] ? `, ${rows.length} shown` : "";
  return [el("h4", {}, `Newly ${change}: ${one[change]} of ${one.problems} problems, in ${one[`${change}_responses`]} of ${one.responses} responses${shown}`),
    ...rows.map((i) => turnedProblem(one.texts, i, condition))];
};

// Made when it is opened.
const turnedRow = (table, one) => {
  const set = setOf(table, one.row);
  const said = `${set}, ${table.benchmark[one.row]}: ` + (one.responses
    ? `${one.failed} of ${one.problems} problems newly failed, ${one.solved} newly solved` : "its responses are not there");
  const details = el("details", {}, el("summary", {}, said));
  const condition = `${table.mode[one.row]} ${table.nodes[one.row]}`;
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(...["failed", "solved"].flatMap((change) => turnedKind(one, change, condition)));
    }
  });
  return details;
};

const study = (one) => [
  el("h4", {}, `With heads off: ${one.name}`),
  el("p", { class: "about" }, "Only what is beyond random sets (controls) says that these heads are needed: the change says that the model needs something there. "
    + "Off less on, then off less controls off, 95 % intervals over problems (and sets). * significant after Holm. "
    + "Shows: the smallest change that so many problems would show in four of five studies."
    + (one.table.mode.includes("graft") ? " Graft: the base as it is (on), and with the heads put in (off)." : "")),
  ablationTable(one),
  ...(one.turned.length ? [
    el("h4", {}, `Newly failed and newly solved: ${one.name}`),
    el("p", { class: "about" }, "Problems right as the model is and wrong under the condition at the same sample number, and the other way round, of every significant change. "
      + "They are picked by their outcome: sampled again, fewer would come out so, whatever is switched off."),
    ...one.turned.map((row) => turnedRow(one.table, row))] : []),
];

const solving = (run) => (run.solving ? [accuracyOf(run), ...run.solving.studies.flatMap(study)]
  : [missing("No benchmarks were solved with this run.")]);

SECTIONS.splice(-1, 0, ["solving", "Solving", null, solving]); // this file is here only where a run has it
