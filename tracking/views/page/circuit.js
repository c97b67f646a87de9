// The circuit of the chosen checkpoint as a layered graph: embed below, logits above.

const READS = ["q", "k", "v"];
const made = new Map(); // nodes by the size of a model

// Names of sources and targets in the order of `tracking.graph.Graph`.
const nodesOf = (run) => {
  const size = `${run.layers}x${run.heads}`;
  if (made.has(size)) return made.get(size);
  const sources = ["embed"], targets = [];
  for (let layer = 0; layer < run.layers; layer += 1) {
    const heads = Array.from({ length: run.heads }, (_, head) => `L${layer}H${head}`);
    sources.push(...heads, `M${layer}`);
    targets.push(...READS.flatMap((read) => heads.map((head) => `${head}.${read}`)), `M${layer}`);
  }
  targets.push("logits");
  made.set(size, { sources, targets });
  return made.get(size);
};

const picturedEdges = (run) => {
  const edges = run.contrasts[view.contrast].edges[indexOf(run)];
  const { sources, targets } = nodesOf(run);
  return edges.source.map((_, i) => i).filter((i) => edges.pictured[i]).map((i) => ({
    source: sources[edges.source[i]], target: targets[edges.target[i]], score: edges.score[i], membership: edges.membership[i],
  }));
};

const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const LARGE = 12; // layers, above which the graph takes all the width
const WIDE = 40, TALL = 16, EDGE = 34; // of a node, and of the margin that names the layer

const layoutOf = (run) => {
  const gap = run.layers > LARGE ? 34 : 62;
  const step = Math.max(46, 360 / (run.heads + 1));
  const width = EDGE + step * (run.heads + 1) + 20;
  const height = gap * (run.layers + 1) + 50;
  const y = (layer) => height - 28 - gap * (layer + 1) + (gap > 40 ? 8 : 4);
  const places = { embed: [EDGE + (width - EDGE) / 2, height - 14], logits: [EDGE + (width - EDGE) / 2, 14] };
  for (let layer = 0; layer < run.layers; layer += 1) {
    for (let head = 0; head < run.heads; head += 1) places[`L${layer}H${head}`] = [EDGE + step * (head + 0.5), y(layer)];
    places[`M${layer}`] = [EDGE + step * (run.heads + 0.5), y(layer) - gap * 0.38];
  }
  return { width, height, places, y };
};

const pathOf = (edge, places) => {
  const [target, read] = edge.target.split(".");
  const [x0, y0] = places[edge.source];
  const [x1, y1] = places[target];
  const aside = read ? (READS.indexOf(read) - 1) * 10 : 0;
  const [from, to] = [y0 - TALL / 2, y1 + TALL / 2];
  const bend = Math.max(14, (from - to) * 0.42);
  return `M${x0} ${from} C${x0} ${from - bend} ${x1 + aside} ${to + bend} ${x1 + aside} ${to}`;
};

const nodeMark = (run, name, [x, y], used) => {
  const node = nodePlace(run, name);
  const full = shareGround(node < 0 ? 0 : run.contrasts[view.contrast].nodes.share[cellOf(run, node)], mostShare());
  const ground = used ? full : rgb(css("--cell"));
  const box = svg("rect", { x: x - WIDE / 2, y: y - TALL / 2, width: WIDE, height: TALL, rx: 5, fill: `rgb(${ground.join(", ")})` });
  const label = svg("text", { x, y: y + 3.2, "text-anchor": "middle", fill: inkOn(ground) }, name);
  const group = svg("g", { class: used ? "in" : "out" }, svg("title", {}, node < 0 ? name : describe(run, node)), box, label);
  if (node >= 0) {
    group.style.cursor = "pointer";
    group.addEventListener("click", () => choose({ node: name }));
  }
  return group;
};

const graphOf = (run) => {
  const edges = picturedEdges(run);
  const { width, height, places, y } = layoutOf(run);
  const most = Math.max(...edges.map((edge) => Math.abs(edge.score)), 1e-12);
  const used = new Set(edges.flatMap((edge) => [edge.source, edge.target.split(".")[0]]));
  const lanes = Array.from({ length: run.layers }, (_, layer) => svg("text", { class: "name", x: 4, y: y(layer) + 3 }, `L${layer}`));
  const drawn = edges.slice().reverse().map((edge) => {
    const share = Math.abs(edge.score) / most;
    return svg("path", { d: pathOf(edge, places), class: edge.score < 0 ? "negative" : "positive",
      "stroke-width": (0.7 + 5 * share).toFixed(2), "stroke-opacity": (0.45 + 0.5 * share).toFixed(2) },
    svg("title", {}, `${edge.source} → ${edge.target}: ${num(edge.score)}, membership ${num(edge.membership)}`));
  });
  const marks = Object.entries(places).map(([name, place]) => nodeMark(run, name, place, used.has(name)));
  const picture = svg("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Circuit of ${run.name} at step ${stepOf(run)}: the ${edges.length} strongest edges` }, ...lanes, ...drawn, ...marks);
  picture.classList.toggle("pale", run.contrasts[view.contrast].counts.verdict[indexOf(run)] === "weak");
  picture.style.maxWidth = `${width * (run.layers > LARGE ? 1.3 : 1.5)}px`;
  return picture;
};

const circuitOf = (run) => {
  const place = el("div", { class: "circuit" });
  const paint = () => {
    const contrast = run.contrasts[view.contrast];
    const edges = picturedEdges(run);
    const title = `Step ${stepOf(run)}: ${edges.length} strongest of ${contrast.circuit_edges[indexOf(run)]} edges`;
    const open = place.querySelector("details")?.open;
    const data = dataOf(title, () => ({
      source: edges.map((e) => e.source), target: edges.map((e) => e.target),
      score: edges.map((e) => e.score), membership: edges.map((e) => e.membership),
    }));
    place.replaceChildren(el("figure", {}, el("figcaption", {}, title),
      edges.length ? graphOf(run) : missing("The circuit has no edge with a score."), data));
    data.open = Boolean(open);
  };
  onStep.push(paint);
  paint();
  return place;
};
