// The map of the chosen checkpoint: heads by layer and beside them the layer's MLP, share by colour,
// state by sign.

const PALE = 0.4; // strength left to the nodes of a weak record

const wide = (run) => run.heads + 1; // a layer's heads and its MLP
const sizeOf = (run) => run.layers * wide(run);
const isMlp = (run, node) => node % wide(run) === run.heads;

const nodeName = (run, node) => {
  const layer = Math.floor(node / wide(run));
  return isMlp(run, node) ? `M${layer}` : `L${layer}H${node % wide(run)}`;
};

// The place of a node in the graph's order, -1 where this model has none of the name.
const nodePlace = (run, name) => {
  const [, layer, head = run.heads] = (/^[LM](\d+)(?:H(\d+))?$/.exec(name) ?? [null, run.layers]).map((part) => part && Number(part));
  if (layer >= run.layers || (name[0] === "L" && head >= run.heads)) return -1;
  return layer * wide(run) + head;
};

const cellOf = (run, node) => indexOf(run) * sizeOf(run) + node;

const describe = (run, node) => told(run, node, indexOf(run)).replace(` at step ${stepOf(run)}`, "");

const paintCell = (run, node, button) => {
  const contrast = run.contrasts[view.contrast];
  const cell = cellOf(run, node);
  const state = DATA.states[contrast.nodes.state[cell]];
  const unsure = Boolean(contrast.nodes.undecided[cell]);
  const veiled = ["weak", "absent"].includes(contrast.counts.verdict[indexOf(run)]);
  const full = shareGround(contrast.nodes.share[cell], mostShare());
  const ground = veiled ? mixed(`#${full.map((part) => part.toString(16).padStart(2, "0")).join("")}`, css("--cell"), PALE) : full;
  button.style.backgroundColor = `rgb(${ground.join(", ")})`;
  button.style.color = inkOn(ground);
  button.style.setProperty("--hatch", unsure ? `color-mix(in srgb, ${inkOn(ground)} 30%, transparent)` : "none");
  button.classList.toggle("hatched", unsure);
  button.dataset.state = state;
  button.textContent = DATA.looks[state].sign;
  button.setAttribute("aria-label", describe(run, node));
  button.title = describe(run, node);
  const chosen = nodeName(run, node) === view.node;
  button.setAttribute("aria-pressed", String(chosen));
  button.tabIndex = chosen ? 0 : -1;
};

const MOVES = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0],
};

// Where a key leads from a node, or null; layers grow upwards.
const moved = (run, node, key) => {
  const [layer, place] = [Math.floor(node / wide(run)), node % wide(run)];
  if (key === "Home") return layer * wide(run);
  if (key === "End") return layer * wide(run) + run.heads;
  const move = MOVES[key];
  if (!move) return null;
  const [to, at] = [layer + move[0], place + move[1]];
  return to >= 0 && to < run.layers && at >= 0 && at < wide(run) ? to * wide(run) + at : node;
};

const nodeMap = (run) => {
  const map = el("div", { class: "map", role: "group", "aria-label": `Heads and MLPs of ${run.name}; arrow keys move, Enter chooses` });
  map.style.setProperty("--heads", wide(run));
  map.style.setProperty("--tall", run.layers > 16 ? "1.35rem" : run.layers > 8 ? "1.7rem" : "2.4rem");
  const buttons = [];
  const row = (label, cells) => el("div", {}, el("span", {}, label), ...cells);
  for (let layer = run.layers - 1; layer >= 0; layer -= 1) {
    const cells = Array.from({ length: wide(run) }, (_, place) => {
      const node = layer * wide(run) + place;
      const name = nodeName(run, node);
      buttons[node] = el("button", { type: "button", "data-node": name, class: isMlp(run, node) ? "mlp" : null });
      buttons[node].addEventListener("click", () => choose({ node: name }));
      return buttons[node];
    });
    map.append(row(`L${layer}`, cells));
  }
  const names = Array.from({ length: run.heads }, (_, place) => el("span", {}, `H${place}`));
  map.append(row("", [...names, el("span", {}, "MLP")]));
  map.addEventListener("keydown", (event) => {
    const node = buttons.indexOf(event.target);
    const to = node < 0 ? null : moved(run, node, event.key);
    if (to === null) return;
    event.preventDefault();
    buttons[node].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  });
  const paint = () => {
    buttons.forEach((button, node) => paintCell(run, node, button));
    if (!buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
  };
  onStep.push(paint);
  onNode.push(paint);
  paint();
  return map;
};

// How many heads and MLPs are in each state, in words.
const tally = (run) => {
  const { nodes } = run.contrasts[view.contrast];
  const all = Array.from({ length: sizeOf(run) }, (_, node) => node);
  const words = (kind, mine) => {
    const states = mine.map((node) => DATA.states[nodes.state[cellOf(run, node)]]);
    const parts = DATA.states.map((state) => [states.filter((one) => one === state).length, state]);
    return `${kind}: ${parts.filter(([count]) => count).map(([count, state]) => `${count} ${state}`).join(", ")}`;
  };
  return `${words("heads", all.filter((node) => !isMlp(run, node)))}; ${words("MLPs", all.filter((node) => isMlp(run, node)))}`;
};

const verdictBadge = (run) => {
  const badge = el("span");
  const paint = () => {
    const verdict = run.contrasts[view.contrast].counts.verdict[indexOf(run)];
    badge.className = `badge ${verdict}`;
    badge.textContent = verdict;
  };
  onStep.push(paint);
  paint();
  return badge;
};

const mapOf = (run) => {
  const text = el("p", { class: "about tally", "aria-live": "polite" });
  const at = el("span", { class: "at" });
  const paint = () => {
    at.textContent = `Step ${stepOf(run)} `;
    text.textContent = tally(run);
  };
  onStep.push(paint);
  paint();
  return el("div", {}, el("h4", {}, at, verdictBadge(run)), nodeMap(run), text);
};
