// Whether the behaviour is wired as at the first step: curves over sizes, and the edges that the old ranking
// lacks.

const rankings = (run) => [["own", "today's own ranking", "--ink", "solid"], ["half", "today's, by half of the pairs", "--soft", "dash"],
  ["old", `step ${run.steps[0]}'s ranking`, "--negative", "solid"]];

const wiringAt = (run) => run.contrasts[view.contrast].wiring[indexOf(run)];

const drawWiring = (host, run) => {
  const { curves } = wiringAt(run);
  const all = DATA.runs.flatMap((one) => one.contrasts[view.contrast]?.wiring.flatMap((w) => w?.curves.sizes ?? []) ?? []).filter((s) => s > 0);
  plot(host, rankings(run).map(([name, words, ink, dash]) => line(curves.sizes, curves[name], css(ink), {
    name, line: { color: css(ink), width: 2, dash }, hovertemplate: `%{x:.3g} of all edges by ${words}: %{y:.3g}<extra></extra>` })), {
    xaxis: axis({ text: "share of all edges taken", type: "log", range: [Math.log10(Math.min(...all)) - 0.1, 0.08], dtick: 1, tickformat: "~g" }),
    yaxis: axis({ text: "faithfulness", range: shared((k) => k.wiring.flatMap((w) => (w ? [...w.curves.own, ...w.curves.old, ...w.curves.half] : [])), 0, 1.05) }),
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: css("--soft"), width: 1, dash: "dot" }, layer: "below" }],
  }, 270);
};

const missingTable = (run) => {
  const { source, target, restored } = wiringAt(run);
  if (!source.length) return missing(`No edge that step ${run.steps[0]}'s circuit lacks restores anything.`);
  const nodes = nodesOf(run);
  const table = tableOf({ edge: source.map((one, i) => `${nodes.sources[one]} → ${nodes.targets[target[i]]}`), restores: restored },
    `Edges that step ${run.steps[0]}'s circuit lacks at step ${stepOf(run)}`);
  table.classList.add("edges");
  return table;
};

const wiring = (run) => {
  const place = el("div", {});
  const paint = () => {
    const { counts } = run.contrasts[view.contrast];
    const i = indexOf(run);
    if (!wiringAt(run)) {
      const why = counts.verdict[i] === "absent" ? "there is no behaviour to carry" : i ? `step ${run.steps[0]}'s wiring was not compared` : "there is no earlier wiring to compare";
      place.replaceChildren(missing(`At step ${stepOf(run)} ${why}.`));
      return;
    }
    const host = el("div", { class: "chart", role: "img", "aria-label": `Faithfulness by size at step ${stepOf(run)} of circuits by own and by step ${run.steps[0]}'s ranking` });
    const kept = `At the run's size step ${run.steps[0]}'s circuit carries ${num(counts.wiring_kept[i])} (${span(counts.wiring_kept_low[i], counts.wiring_kept_high[i])}) `
      + `of what today's own does, the null ${num(counts.wiring_null[i])} (${span(counts.wiring_null_low[i], counts.wiring_null_high[i])}); `
      + `at twice the size ${num(counts.wiring_kept_double[i])}, the null ${num(counts.wiring_null_double[i])}.`;
    const title = `Faithfulness by size and ranking, step ${stepOf(run)}`;
    place.replaceChildren(el("p", { class: "about" }, kept), el("div", { class: "beside" },
      el("figure", {}, el("figcaption", {}, title), legend(...rankings(run).map(([, words, ink, dash]) => [rule(css(ink), dash === "dash" ? "dashed" : "solid"), words])),
        host, dataOf(title, () => wiringAt(run).curves)),
      el("div", {}, el("h4", {}, "What the old wiring lacks"),
        el("p", { class: "about" }, `Edges outside step ${run.steps[0]}'s circuit, by how much faithfulness each alone restores to it.`), missingTable(run))));
    if (place.isConnected) drawWiring(host, run);
    else waiting.push(() => drawWiring(host, run));
  };
  onStep.push(paint);
  paint();
  return [place];
};
