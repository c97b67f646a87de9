// The report's sections, in order. Each returns what it shows of one run.

const NAMED = 12; // nodes of one kind that are named
const FEWEST = 5; // heads that emerged, of which there are curves
const COLOURED = 8; // cohorts whose colours are told one by one

const once = (run) => run.steps.length === 1;

const onlyOne = (run, what) => missing(`One checkpoint (step ${run.steps[0]}) has been analysed: ${what}`);

const tile = (value, what) => el("div", {}, el("dt", {}, what), el("dd", {}, value));

const nodeLink = (name) => {
  const button = el("button", { class: "link", type: "button" }, name);
  button.addEventListener("click", () => {
    choose({ node: name });
    document.getElementById("map").scrollIntoView();
  });
  return button;
};

const named = (word, names) => {
  if (!names.length) return null;
  const links = names.slice(0, NAMED).flatMap((name, i) => [i ? ", " : "", nodeLink(name)]);
  if (names.length > NAMED) links.push(` and ${names.length - NAMED} more`);
  return el("li", {}, `${word}: `, ...links);
};

// A figure of a summary: its value, and beneath it the interval.
const figured = ([value, low, high], what) => tile(num(value), `${what}${known(low) ? `, 95 %: ${span(low, high)}` : ""}`);

const happened = (run) => {
  const { summary } = run.contrasts[view.contrast];
  const tiles = once(run) ? null : el("dl", { class: "tiles" },
    figured(summary.behaviour, "behaviour at the end, logits"),
    figured(summary.growth, "change since the first checkpoint"),
    figured(summary.wiring, "wiring kept"),
    figured(summary.wiring_null, "its null"),
    tile(`${summary.sound} of ${summary.checkpoints}`, `checkpoints sound; the last is ${summary.verdict}`));
  const { base, recruited, ...others } = summary.carriers;
  const lists = [named("Recruited", recruited), named("Emerged with the behaviour", others["with the behaviour"]),
    named("Carry it from the start", base), named("Faded", summary.faded), named("Came and went", summary.transient)].filter(known);
  return [
    el("div", { class: "sentence" }, ...summary.parts.map((part, i) => el("p", { class: i ? null : "lead" }, part))), tiles,
    lists.length ? el("ul", { class: "carriers about" }, ...lists) : null,
    run.caveats.length ? el("p", { class: "about" }, el("a", { href: "#method" },
      `${run.caveats.length} ${run.caveats.length === 1 ? "warning" : "warnings"}`), " to know before believing the numbers.") : null,
  ];
};

const overTime = (run) => (once(run) ? [onlyOne(run, "there is no curve and no history yet.")] : story(run));

const cohortLegend = (run) => {
  const all = allCohorts();
  const color = (cohort) => rampColor(all.indexOf(cohort), all.length);
  const mark = (ground, wide) => {
    const node = el("span", { class: wide ? "swatch wide" : "swatch", "aria-hidden": "true" });
    node.style.background = ground;
    return node;
  };
  const mine = cohortsOf(run);
  if (mine.length <= COLOURED) return legend(...mine.map((cohort) => [mark(color(cohort)), `step ${cohort}`]));
  const ground = `linear-gradient(to right, ${mine.map(color).join(", ")})`;
  return legend([mark(ground, true), `step ${mine[0]} to ${mine.at(-1)}`]);
};

const lasting = (run) => {
  const { cohorts, survival } = run.contrasts[view.contrast];
  if (once(run)) return [onlyOne(run, "no head can have emerged yet.")];
  if (!cohorts.step.length) return [missing("No head emerged, so there is no cohort and nothing to survive.")];
  const emerged = cohorts.step.map((step, i) => (step === cohorts.cohort[i] ? cohorts.size[i] : 0)).reduce((a, b) => a + b);
  if (emerged < FEWEST) {
    return [missing(`${emerged} ${emerged === 1 ? "head" : "heads"} emerged: too few for curves. The picture above shows when, and what became of them.`)];
  }
  return [el("div", { class: "beside" },
    el("div", {}, figure("Cohorts", `Active emerged heads of ${run.name} by the step at which they came`, () => cohorts,
      (host) => drawCohorts(host, run), "Active heads that emerged, by the step at which they came."), cohortLegend(run)),
    figure("Survival", `Share of emerged heads of ${run.name} not pruned, by steps since they came`, () => survival,
      (host) => drawSurvival(host, run), "Kaplan and Meier, 95 % interval (none where the share is 1 or 0)."))];
};

const curve = (run) => {
  const place = el("div", {});
  const host = el("div", { class: "chart", role: "img" });
  const box = el("div", {});
  const paint = () => {
    const { counts } = run.contrasts[view.contrast];
    const i = indexOf(run);
    host.setAttribute("aria-label", `Faithfulness of circuits of ${run.name} by size at step ${stepOf(run)}; `
      + `of the circuit itself ${num(counts.faithfulness[i])}, 95 % ${span(counts.faithfulness_low[i], counts.faithfulness_high[i])}`);
    const caption = `Faithfulness by size, step ${stepOf(run)}`;
    const absent = counts.verdict[i] === "absent" ? " None here: clean and corrupted prompts hardly differ." : "";
    box.replaceChildren(el("figcaption", {}, caption, el("small", {},
      "Line: edges taken by score, before dead ends are pruned. Diamond: the circuit, by the edges left after it. Dotted: the whole model. Dashed: below it a circuit is weak. Bands and bars: 95 % over pairs." + absent)));
    data.replaceChildren(dataOf(caption, () => run.contrasts[view.contrast].curves[i]));
    if (host.isConnected) drawCurve(host, run);
  };
  const data = el("div", {});
  place.append(el("figure", {}, box, host, data));
  paint();
  waiting.push(() => drawCurve(host, run));
  onStep.push(paint);
  return place;
};

const circuit = (run) => [el("div", { class: run.layers > LARGE ? null : "beside" }, circuitOf(run), curve(run))];

const hazardSentence = (run) => {
  const { correlation, p, n, reward_name: name } = run.contrasts[view.contrast].coupling;
  if (!known(correlation)) return `Whether heads are pruned when the ${name} turns cannot be told from ${n} checkpoints.`;
  return `Share of heads pruned against the change of the ${name}: Spearman's correlation ${num(correlation)}, `
    + `p = ${num(p)} from shifts in time, ${n} checkpoints.`;
};

const coupled = (run) => {
  const { coupling } = run.contrasts[view.contrast];
  const name = rewardName(run);
  const caveat = el("p", { class: "notice" }, coupling.caveat);
  const note = coupling.note ? el("p", { class: "notice" }, `${coupling.note}.`) : null;
  if (!coupling.table.lag.length) {
    return [caveat, note, missing(`Changes cannot be compared with the ${name}'s over ${run.steps.length} analysed checkpoints.`)];
  }
  const signs = { circle: "●", square: "■", "triangle-up": "▲" };
  const marks = CHANGES.map(([series, symbol, ink]) => {
    const sign = el("span", { class: "sign", "aria-hidden": "true" }, signs[symbol]);
    sign.style.color = css(ink);
    return [sign, series === "behaviour" ? series : `${series} heads`];
  });
  return [
    caveat, note, legend(...marks),
    figure("Changes by lag", `Correlation of changes of the behaviour and of counts of heads of ${run.name} with the ${name}'s by lag`,
      () => coupling.table, (host) => drawCoupling(host, run),
      `Changes from checkpoint to checkpoint, of both. Positive lag: after the ${name}. Filled: p over all lags is at most 0.05; `
      + "open: shifts in time do as well."),
    el("h4", {}, "Pruning"), el("p", { class: "about" }, hazardSentence(run)),
    dataOf(`pruning and the ${name}`, () => coupling.hazard),
    ...(coupling.per_node.node.length ? [el("h4", {}, "Node by node"),
      el("p", { class: "about" }, `Changes of each node's share against the ${name}'s: Spearman's correlation, p from shifts in time, q after Benjamini and Hochberg.`),
      dataOf(`${name} by node`, () => coupling.per_node)] : []),
  ];
};

const sample = (table, i) => el("article", { class: "sample" },
  el("header", {}, `step ${table.step[i]}, reward ${num(table.reward[i])}`),
  el("pre", {}, table.prompt[i]), el("pre", {}, table.completion[i]));

const problems = (run, change) => {
  const { turned } = run.completions;
  const total = run.completions[change][indexOf(run)];
  const rows = turned.step.map((_, i) => i).filter((i) => turned.step[i] === stepOf(run) && turned.change[i] === change);
  const said = `Newly ${change}: ${total}` + (rows.length < total ? `, ${rows.length} shown` : "");
  return el("div", {}, el("h4", {}, said), el("ul", { class: "problems" }, ...rows.map((i) => el("li", {},
    el("pre", {}, turned.prompt[i]), `mean reward ${num(turned.before[i])} → ${num(turned.after[i])}`))));
};

const written = (run) => {
  if (!run.completions) return [el("h4", {}, "Completions"), missing("No completions are kept of this run (log_completions: true keeps them).")];
  const place = el("div", {});
  const paint = () => {
    const table = run.completions.samples[indexOf(run)];
    const rows = (table.step ?? []).map((_, i) => sample(table, i));
    place.replaceChildren(el("h4", {}, `Completions up to step ${stepOf(run)}`),
      ...(rows.length ? rows : [missing("None since the checkpoint before.")]),
      problems(run, "solved"), problems(run, "failed"));
  };
  onStep.push(paint);
  paint();
  const { solved, failed } = run.completions;
  return [once(run) ? null : figure("Newly solved and newly failed", `Problems of ${run.name} newly solved and newly failed between checkpoints`,
    () => ({ step: run.steps, solved, failed }), (host) => drawTurned(host, run),
    "Problems seen before whose mean reward crossed half of the largest so far: solved upwards, failed downwards."), place];
};

const reward = (run) => [el("div", { class: run.completions ? "beside" : null },
  el("div", {}, ...coupled(run).filter(known)), el("div", {}, ...written(run).filter(known)))];

const terms = (facts) => el("dl", { class: "facts" },
  ...Object.entries(facts).flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));

const method = (run) => {
  const folded = (title, ...children) => el("details", {}, el("summary", {}, title), ...children);
  return [
    el("h4", {}, "Warnings"),
    run.caveats.length ? el("ul", { class: "caveats" }, ...run.caveats.map((line) => el("li", {}, line)))
      : el("p", { class: "about" }, "None."),
    el("p", { class: "about" }, DATA.sound),
    el("h4", {}, "Facts"), terms(run.facts),
    el("h4", {}, "Settings of the tracking"), terms(run.settings),
    el("h4", {}, "Recipe"),
    run.recipe === null ? missing("The folder has no readable config.yaml.")
      : el("div", {}, el("p", { class: "about" }, el("code", {}, run.recipe.split("\n")[0])), folded("config.yaml", el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Recipe" },
        el("pre", { class: "recipe" }, run.recipe)))),
  ];
};

const SECTIONS = [
  ["what", "What happened", null, (run) => [...happened(run), ...overTime(run)]],
  ["map", "Who carries it", "Share of the behaviour by colour, state by sign, the layer's MLP on the right; hatched: this checkpoint "
    + "alone cannot tell, or says otherwise; pale: a weak record. Move the slider above; choose a node for its history and its edges.", mapAndNode],
  ["wiring", "Wired as before?", "Circuits ranked by the first step's scores, on today's model, beside today's own ranking and its null.", wiring],
  ["circuit", "The circuit", "Embedding below, logits above. Width: strength of an edge. Blue: for the right token; "
    + "orange and dashed: against it.", circuit],
  ["lasting", "How long heads last", null, lasting],
  ["reward", "Beside the reward", null, reward],
  ["method", "Method and numbers", null, method],
];
