// The page: unpacks the data, keeps what is chosen, and draws the sections again when it changes.

let DATA = null;
const view = { contrast: null, step: null, node: null };
const onStep = []; // what to paint again when another checkpoint is chosen
const onNode = [];

const nearest = (steps, step) =>
  steps.reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best));

const stepOf = (run) => nearest(run.steps, view.step);
const indexOf = (run) => run.steps.indexOf(stepOf(run));

// Chooses a step, a node or both, and paints what shows them.
const choose = ({ step, node }) => {
  if (known(step)) view.step = step;
  if (known(node)) {
    view.node = node;
    onNode.forEach((paint) => paint());
  }
  if (known(step)) {
    onStep.forEach((paint) => paint());
    moveMarks();
    showStep();
  }
};

const unpack = async (id) => {
  const place = document.getElementById(id);
  const bytes = Uint8Array.from(atob(place.textContent), (letter) => letter.charCodeAt(0));
  place.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

// Reads the steps of the slider's places out, with every run's verdict.
const verdicts = () => {
  const here = DATA.runs.filter((run) => run.contrasts[view.contrast])
    .map((run) => [run.name, run.contrasts[view.contrast].counts.verdict[indexOf(run)]]);
  return here.length === 1 ? here[0][1] : here.map((pair) => pair.join(": ")).join("; ");
};

const showStep = () => {
  const slider = document.getElementById("step");
  slider.value = DATA.steps.indexOf(view.step);
  slider.setAttribute("aria-valuetext", `step ${view.step}, ${verdicts()}`);
  document.getElementById("step-is").textContent = `step ${view.step}`;
};

const contrastChoice = () => {
  if (DATA.contrasts.length < 2) return null;
  const options = DATA.contrasts.map((contrast, i) => {
    const radio = el("input", { type: "radio", name: "contrast", value: String(i) });
    radio.checked = contrast === view.contrast;
    radio.addEventListener("change", () => { view.contrast = contrast; draw(); });
    return el("label", {}, radio, contrast);
  });
  return el("fieldset", {}, el("legend", {}, "Pairs"), ...options);
};

const stepChoice = () => {
  const slider = el("input", { type: "range", id: "step", min: 0, max: DATA.steps.length - 1, step: 1 });
  slider.disabled = DATA.steps.length < 2;
  slider.addEventListener("input", () => choose({ step: DATA.steps[Number(slider.value)] }));
  return el("div", { class: "steps" }, el("label", { for: "step" }, "Checkpoint"), slider,
    el("output", { id: "step-is", for: "step" }));
};

const section = ([id, title, about, show]) => {
  const several = DATA.runs.length > 1;
  const parts = DATA.runs.map((run) => {
    const content = run.contrasts[view.contrast] ? show(run).filter(known) : [missing(`This run has no ${view.contrast} pairs.`)];
    return el("article", several ? { "aria-label": run.name, "data-run": run.name } : { "data-run": run.name },
      several ? el("h3", {}, run.name) : null, ...content);
  });
  const contrasts = DATA.runs.map((run) => run.contrasts[view.contrast]).filter(known);
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title),
    about && el("p", { class: "about" }, about),
    id === "map" ? stateLegend(contrasts) : null, el("div", { class: "runs" }, ...parts));
};

// The first thing to look at: a node that was recruited, else the one with the largest share.
const firstNode = () => {
  const run = DATA.runs.find((one) => one.contrasts[view.contrast]);
  const { summary, nodes } = run.contrasts[view.contrast];
  const last = nodes.share.slice(-sizeOf(run)).map((one) => Math.abs(one ?? 0));
  const emerged = [...summary.carriers.recruited, ...summary.carriers["with the behaviour"]];
  return emerged[0] ?? nodeName(run, last.indexOf(Math.max(...last)));
};

const draw = () => {
  const main = document.getElementById("main");
  const focused = document.activeElement?.getAttribute?.("name") === "contrast";
  main.querySelectorAll(".chart").forEach((host) => Plotly.purge(host));
  for (const list of [onStep, onNode, marked, waiting]) list.length = 0;
  const between = DATA.caveats.map((line) => el("p", { class: "notice" }, line));
  const [first, ...rest] = SECTIONS;
  main.replaceChildren(...between, el("div", { class: "bar" }, contrastChoice(), stepChoice()), section(first), ...rest.map(section));
  drawWaiting();
  showStep();
  if (focused) main.querySelector("input[name=contrast]:checked")?.focus();
  main.removeAttribute("aria-busy");
};

const start = async () => {
  document.getElementById("main").append(el("p", { class: "none" }, "Unpacking the report ..."));
  DATA = JSON.parse(await unpack("packed-data"));
  document.head.append(el("script", {}, await unpack("packed-plotly")));
  DATA.steps = [...new Set(DATA.runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
  document.documentElement.classList.toggle("several", DATA.runs.length > 1);
  Object.assign(view, { contrast: DATA.contrasts[0], step: DATA.steps.at(-1) });
  view.node = firstNode();
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
};

start().catch((error) => {
  document.getElementById("main").replaceChildren(missing(`The report could not be unpacked (${error.message}); it needs a browser of 2023 or later.`));
  throw error;
});
