// The chosen head: its numbers at the chosen checkpoint, its history, its edges.

const historyOf = (run, head) => {
  const { heads } = run.contrasts[view.contrast];
  const size = run.layers * run.heads;
  const over = (name) => run.steps.map((_, i) => heads[name][i * size + head]);
  return {
    step: run.steps, state: over("state").map((code) => DATA.states[code]),
    undecided: over("undecided").map((one) => (one ? "yes" : "no")),
    membership: over("membership"), membership_half: over("membership_half"), membership_double: over("membership_double"),
    effect: over("effect"), effect_low: over("effect_low"), effect_high: over("effect_high"),
    importance: over("importance"), role: over("role"), change: over("weight_change"), cohort: over("cohort"), growth: over("growth"),
  };
};

const number = (term, value, beneath = null) =>
  el("div", { "data-number": term }, el("dt", {}, term), el("dd", {}, value, beneath && el("small", {}, beneath)));

const headNumbers = (run, head) => {
  const all = historyOf(run, head);
  const i = indexOf(run);
  const fate = run.contrasts[view.contrast].heads.fate[head];
  return el("dl", { class: "numbers" },
    number("state", all.state[i], all.undecided[i] === "yes" ? "undecided at this checkpoint" : null),
    number("membership", num(all.membership[i]),
      `half as many edges ${num(all.membership_half[i])}, twice ${num(all.membership_double[i])}`),
    number("effect", num(all.effect[i]), `95 %: ${span(all.effect_low[i], all.effect_high[i])}`),
    number("importance", num(all.importance[i])),
    number("role", all.role[i] === "-" ? "–" : all.role[i]),
    number("weight change", num(all.change[i])),
    number("cohort", known(all.cohort[i]) ? `step ${all.cohort[i]}` : "–", fate ? `${fate} at step ${run.steps.at(-1)}` : null),
    all.growth[i] ? number("growth", all.growth[i]) : null);
};

const drawHistory = (host, run, head) => {
  const all = historyOf(run, head);
  const ink = css("--ink");
  const colors = all.state.map(colorOf);
  const dots = { marker: { size: 9, color: colors, symbol: all.state.map((state) => SYMBOLS[state].replace(/-(open|thin)$/, "")), line: { width: 1, color: css("--soft") } } };
  const path = { line: { color: css("--soft"), width: 1.4 } };
  const at = (place) => ({ yaxis: `y${place > 1 ? place : ""}` });
  const words = { text: all.state, hovertemplate: "step %{x}: %{y:.3g}, %{text}<extra></extra>" };
  const size = run.layers * run.heads;
  const ofHead = (contrast, one, name) => {
    const place = headPlace(one, view.head);
    return place < 0 ? [] : one.steps.map((_, i) => contrast.heads[name][i * (one.layers * one.heads) + place]);
  };
  const range = (...names) => shared((contrast, one) => names.flatMap((name) => ofHead(contrast, one, name)), 0);
  const low = (a, b) => a.map((value, i) => Math.min(value, b[i], all.membership[i]));
  const high = (a, b) => a.map((value, i) => Math.max(value, b[i], all.membership[i]));
  const grey = faded(DATA.undecided.color, 0.22);
  plotOverSteps(host, run, [
    band(all.step, low(all.membership_half, all.membership_double), high(all.membership_half, all.membership_double), grey, at(1)),
    line(all.step, all.membership, ink, { ...at(1), ...path, ...dots, ...words }),
    band(all.step, all.effect_low, all.effect_high, grey, at(2)),
    line(all.step, all.effect, ink, { ...at(2), ...path, ...dots, ...words }),
    line(all.step, all.importance, ink, { ...at(3), ...path, ...dots, ...words }),
    line(all.step, all.change, ink, { ...at(4), ...path, ...dots, ...words }),
  ], {
    xaxis: axis({ text: "training step", range: stepRange(), anchor: "y4" }),
    yaxis: axis({ text: "membership", domain: [0.79, 1], range: [-0.06, 1.06], nticks: 4 }),
    yaxis2: axis({ text: "effect", domain: [0.53, 0.74], range: range("effect_low", "effect_high"), nticks: 4 }),
    yaxis3: axis({ text: "importance", domain: [0.27, 0.48], range: range("importance"), nticks: 4 }),
    yaxis4: axis({ text: "weights", domain: [0, 0.21], range: range("weight_change"), nticks: 4 }),
  }, 460);
};

// The strongest edges into a head and out of it at the chosen checkpoint.
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

// The map with the head's numbers and edges beside it, its history beneath.
const mapAndHead = (run) => {
  const numbers = el("div", { class: "now", "aria-live": "polite" });
  const edges = el("div", {});
  const place = el("div", { class: "head" });
  let repaint = () => {};
  const paint = () => {
    const head = headPlace(run, view.head);
    if (head < 0) {
      repaint = () => {};
      place.replaceChildren();
      edges.replaceChildren();
      numbers.replaceChildren(missing(`${view.head} is no head of this model.`));
      return;
    }
    repaint = () => {
      numbers.replaceChildren(el("h4", {}, `${view.head} at step ${stepOf(run)}`), headNumbers(run, head));
      edges.replaceChildren(
        el("h4", {}, `Strongest edges of ${view.head} at step ${stepOf(run)}`), edgeTable(run, view.head));
    };
    repaint();
    place.replaceChildren(figure(`History of ${view.head}`, `Membership, effect, importance and weight change of ${view.head} of ${run.name} over steps`,
      () => historyOf(run, head), (host) => drawHistory(host, run, head),
      "Marks show the state. Bands: membership with half and twice as many edges; 95 % of the effect."));
    drawWaiting();
  };
  onHead.push(paint);
  onStep.push(() => repaint());
  waiting.push(paint);
  return [el("div", { class: "beside" }, mapOf(run), el("div", {}, numbers, edges)), place];
};
