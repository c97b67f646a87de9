// The layer x head map of the chosen checkpoint: state by colour and sign, membership by strength.

const PALE = 0.4; // strength left to the heads of a weak circuit

const headName = (run, head) => `L${Math.floor(head / run.heads)}H${head % run.heads}`;

const headPlace = (run, name) => {
  const [layer, head] = name.slice(1).split("H").map(Number);
  return layer < run.layers && head < run.heads ? layer * run.heads + head : -1;
};

const cellOf = (run, head) => indexOf(run) * run.layers * run.heads + head;

const describe = (run, head) => {
  const { heads } = run.contrasts[view.contrast];
  const cell = cellOf(run, head);
  const unsure = heads.undecided[cell] ? ", undecided" : "";
  return `${headName(run, head)}: ${DATA.states[heads.state[cell]]}${unsure}, membership ${num(heads.membership[cell])}`;
};

const paintCell = (run, head, button) => {
  const contrast = run.contrasts[view.contrast];
  const cell = cellOf(run, head);
  const state = DATA.states[contrast.heads.state[cell]];
  const unsure = Boolean(contrast.heads.undecided[cell]);
  const weak = contrast.counts.verdict[indexOf(run)] === "weak";
  const member = contrast.heads.membership[cell] ?? 0;
  const strength = (0.22 + 0.78 * member) * (weak ? PALE : 1) * (state === "inactive" ? 0.5 : 1);
  const ground = mixed(colorOf(state), css("--cell"), strength);
  button.style.backgroundColor = `rgb(${ground.join(", ")})`;
  button.style.color = inkOn(ground);
  button.style.setProperty("--hatch", unsure ? `color-mix(in srgb, ${inkOn(ground)} 30%, transparent)` : "none");
  button.classList.toggle("hatched", unsure);
  button.dataset.state = state;
  button.textContent = unsure ? DATA.undecided.sign : DATA.looks[state].sign;
  button.setAttribute("aria-label", describe(run, head));
  button.title = describe(run, head);
  const chosen = headName(run, head) === view.head;
  button.setAttribute("aria-pressed", String(chosen));
  button.tabIndex = chosen ? 0 : -1;
};

const MOVES = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0],
};

// Where a key leads from a head, or null; layers grow upwards.
const moved = (run, head, key) => {
  const [layer, place] = [Math.floor(head / run.heads), head % run.heads];
  if (key === "Home") return layer * run.heads;
  if (key === "End") return layer * run.heads + run.heads - 1;
  const move = MOVES[key];
  if (!move) return null;
  const [to, at] = [layer + move[0], place + move[1]];
  return to >= 0 && to < run.layers && at >= 0 && at < run.heads ? to * run.heads + at : head;
};

const headMap = (run) => {
  const map = el("div", { class: "map", role: "group", "aria-label": `Heads of ${run.name}; arrow keys move, Enter chooses` });
  map.style.setProperty("--heads", run.heads);
  map.style.setProperty("--tall", run.layers > 16 ? "1.35rem" : run.layers > 8 ? "1.7rem" : "2.4rem");
  const buttons = [];
  const row = (label, cells) => el("div", {}, el("span", {}, label), ...cells);
  for (let layer = run.layers - 1; layer >= 0; layer -= 1) {
    const cells = Array.from({ length: run.heads }, (_, place) => {
      const head = layer * run.heads + place;
      buttons[head] = el("button", { type: "button", "data-head": headName(run, head) });
      buttons[head].addEventListener("click", () => choose({ head: headName(run, head) }));
      return buttons[head];
    });
    map.append(row(`L${layer}`, cells));
  }
  map.append(row("", Array.from({ length: run.heads }, (_, place) => el("span", {}, `H${place}`))));
  map.addEventListener("keydown", (event) => {
    const head = buttons.indexOf(event.target);
    const to = head < 0 ? null : moved(run, head, event.key);
    if (to === null) return;
    event.preventDefault();
    buttons[head].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  });
  const paint = () => {
    buttons.forEach((button, head) => paintCell(run, head, button));
    if (!buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
  };
  onStep.push(paint);
  onHead.push(paint);
  paint();
  return map;
};

// How many heads are in each state, in words.
const tally = (run) => {
  const size = run.layers * run.heads;
  const { heads } = run.contrasts[view.contrast];
  const here = heads.state.slice(indexOf(run) * size, (indexOf(run) + 1) * size);
  const unsure = heads.undecided.slice(indexOf(run) * size, (indexOf(run) + 1) * size).reduce((a, b) => a + b, 0);
  const parts = DATA.states.map((state, code) => [here.filter((one) => one === code).length, state]);
  if (unsure) parts.push([unsure, "undecided"]);
  return parts.filter(([count]) => count).map(([count, state]) => `${count} ${state}`).join(", ");
};

const stateLegend = (contrasts, ...without) => {
  const shown = new Set(contrasts.flatMap((contrast) => contrast.heads.state).map((code) => DATA.states[code]));
  const order = DATA.states.filter((state) => shown.has(state) && !without.includes(state));
  return legend(...order.map((state) => [swatch(colorOf(state), DATA.looks[state].sign), state]),
    [hatch(), `undecided (${DATA.undecided.sign})`]);
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
  return el("div", {}, el("h4", {}, at, verdictBadge(run)), headMap(run), text);
};
