// The chosen node: its numbers at the chosen checkpoint, its history, its edges.

const HISTORY = ["share", "share_low", "share_high", "corrupt", "corrupt_low", "corrupt_high", "restore", "restore_low",
  "restore_high", "change", "drift", "origin", "cohort", "entry", "membership", "role", "weight_change"];

const historyOf = (run, node) => {
  const { nodes } = run.contrasts[view.contrast];
  const over = (name) => run.steps.map((_, i) => nodes[name][i * sizeOf(run) + node]);
  return {
    step: run.steps, state: over("state").map((code) => DATA.states[code]),
    alone: run.steps.map((_, i) => alone(run, node, i) ?? ""), measured: over("measured").map((one) => (one ? "yes" : "no")),
    ...Object.fromEntries(HISTORY.map((name) => [name, over(name)])),
  };
};

const number = (term, value, beneath = null) =>
  el("div", { "data-number": term }, el("dt", {}, term), el("dd", {}, value, beneath && el("small", {}, beneath)));

const nodeNumbers = (run, node) => {
  const all = historyOf(run, node);
  const i = indexOf(run);
  const { nodes, all_edges: edges } = run.contrasts[view.contrast];
  const range = (name) => (all.measured[i] === "yes" ? `95 %: ${span(all[`${name}_low`][i], all[`${name}_high`][i])}` : "by its scores: not measured");
  const mlp = isMlp(run, node);
  const fate = nodes.fate[node];
  const drift = all.drift[i] ? `since step ${run.steps[0]}: ${all.drift[i]}` : `since step ${run.steps[0]}`;
  return el("dl", { class: "numbers" },
    number("state", all.state[i], alone(run, node, i)),
    number("corrupt", num(all.corrupt[i]), range("corrupt")),
    number("restore", num(all.restore[i]), range("restore")),
    number("change", num(all.change[i]), drift + (nodes.lasting[node] ? ", more than the run fluctuates" : "")),
    number("entry", known(all.entry[i]) && all.entry[i] <= edges ? num(all.entry[i]) : "on no path", "top edges"),
    number("membership", num(all.membership[i]), "of resamples"),
    mlp ? null : number("role", all.role[i] === "-" ? "–" : all.role[i]),
    mlp ? null : number("weight change", num(all.weight_change[i])),
    number("cohort", known(all.cohort[i]) ? `step ${all.cohort[i]}` : "–",
      [all.origin[i], fate && `${fate} at step ${run.steps.at(-1)}`].filter(Boolean).join(", ") || null));
};

const EFFECTS = [["corrupt", "--ink", "circle"], ["restore", "--positive", "diamond"]];

const drawHistory = (host, run, node) => {
  const all = historyOf(run, node);
  const at = (place) => ({ yaxis: `y${place > 1 ? place : ""}` });
  const size = (contrast, one, name) => {
    const place = nodePlace(one, view.node);
    return place < 0 ? [] : one.steps.map((_, i) => contrast.nodes[name][i * sizeOf(one) + place]);
  };
  const range = (...names) => shared((contrast, one) => names.flatMap((name) => size(contrast, one, name)), 0);
  const words = { text: all.state, hovertemplate: "step %{x}: %{y:.3g}, %{text}<extra></extra>" };
  const grey = { line: { color: css("--soft"), width: 1.4 } };
  const effects = EFFECTS.flatMap(([name, ink, symbol]) => [
    band(all.step, all[`${name}_low`], all[`${name}_high`], faded(css(ink), css("--band")), at(1)),
    line(all.step, all[name], css(ink), { ...at(1), name, ...words, marker: { size: 8, symbol, color: css(ink) } }),
  ]);
  const { all_edges: edges } = run.contrasts[view.contrast];
  const entry = all.entry.map((one) => (known(one) && one <= edges ? one : null));
  const mlp = isMlp(run, node);
  const domains = mlp ? [[0.5, 1], [0.26, 0.43], [0, 0.19]] : [[0.58, 1], [0.38, 0.51], [0.19, 0.32], [0, 0.13]];
  plotOverSteps(host, run, [
    ...effects,
    line(all.step, entry, css("--soft"), { ...at(2), name: "entry", ...grey, ...words }),
    line(all.step, all.membership, css("--soft"), { ...at(3), name: "membership", ...grey, ...words }),
    ...(mlp ? [] : [line(all.step, all.weight_change, css("--soft"), { ...at(4), name: "weight_change", ...grey, ...words })]),
  ], {
    xaxis: axis({ text: "training step", range: stepRange(), anchor: mlp ? "y3" : "y4" }),
    yaxis: axis({ text: "share", domain: domains[0], range: range(...EFFECTS.flatMap(([name]) => [`${name}_low`, `${name}_high`])), zeroline: true, zerolinecolor: css("--line"), nticks: 6 }),
    yaxis2: axis({ text: "entry", domain: domains[1], type: "log", range: [0, Math.log10(edges)], nticks: 3 }),
    yaxis3: axis({ text: "member", domain: domains[2], range: [-0.06, 1.06], nticks: 3 }),
    ...(mlp ? {} : { yaxis4: axis({ text: "weights", domain: domains[3], range: range("weight_change"), nticks: 3 }) }),
  }, 480);
};

// The strongest edges into a node and out of it at the chosen checkpoint.
const edgesOf = (run, name) => {
  const edges = run.contrasts[view.contrast].edges[indexOf(run)];
  const nodes = nodesOf(run);
  const all = edges.source.map((_, i) => ({
    source: nodes.sources[edges.source[i]], target: nodes.targets[edges.target[i]], score: edges.score[i],
    membership: edges.membership[i], circuit: edges.circuit[i] ? "in" : "out",
  }));
  const into = all.filter((edge) => edge.target.split(".")[0] === name).slice(0, 4);
  const from = all.filter((edge) => edge.source === name).slice(0, 4);
  return [...into, ...from];
};

const edgeTable = (run, name) => {
  const rows = edgesOf(run, name);
  if (!rows.length) return missing(`At step ${stepOf(run)} no edge of ${name} has a score.`);
  const table = tableOf({
    edge: rows.map((edge) => `${edge.source} → ${edge.target}`), score: rows.map((edge) => edge.score),
    membership: rows.map((edge) => edge.membership), circuit: rows.map((edge) => edge.circuit),
  }, `Strongest edges of ${name} at step ${stepOf(run)}`);
  table.classList.add("edges");
  return table;
};

// The map with the node's numbers and edges beside it, its history beneath.
const mapAndNode = (run) => {
  const numbers = el("div", { class: "now", "aria-live": "polite" });
  const edges = el("div", {});
  const place = el("div", { class: "node" });
  let repaint = () => {};
  const paint = () => {
    const node = nodePlace(run, view.node);
    if (node < 0) {
      repaint = () => {};
      place.replaceChildren();
      edges.replaceChildren();
      numbers.replaceChildren(missing(`${view.node} is no node of this model.`));
      return;
    }
    repaint = () => {
      numbers.replaceChildren(el("h4", {}, `${view.node} at step ${stepOf(run)}`), nodeNumbers(run, node));
      edges.replaceChildren(
        el("h4", {}, `Strongest edges of ${view.node} at step ${stepOf(run)}`), edgeTable(run, view.node));
    };
    repaint();
    place.replaceChildren(figure(`History of ${view.node}`, `Shares, entry and membership of ${view.node} of ${run.name} over steps`,
      () => historyOf(run, node), (host) => drawHistory(host, run, node),
      "Share of the behaviour lost when it alone is corrupted (dots), gained when it alone is clean (diamonds), 95 %; "
      + "entry: fewest top edges among which it lies on a path."));
    drawWaiting();
  };
  onNode.push(paint);
  onStep.push(() => repaint());
  waiting.push(paint);
  return [el("div", { class: "beside" }, mapOf(run), el("div", {}, numbers, edges)), place];
};
