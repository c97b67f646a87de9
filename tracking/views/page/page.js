// The page: unpacks the data, keeps what is chosen, and draws the sections again when it changes.

let DATA = null;
const view = { contrast: null, step: null, head: null };
const onStep = []; // what to paint again when another checkpoint is chosen
const onHead = [];

const nearest = (steps, step) =>
  steps.reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best));

const stepOf = (run) => nearest(run.steps, view.step);
const indexOf = (run) => run.steps.indexOf(stepOf(run));

// Chooses a step, a head or both, and paints what shows them.
const choose = ({ step, head }) => {
  if (known(step)) view.step = step;
  if (known(head)) {
    view.head = head;
    onHead.forEach((paint) => paint());
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
    id === "map" ? stateLegend(contrasts) : null, id === "raster" ? stateLegend(contrasts, "inactive") : null, el("div", { class: "runs" }, ...parts));
};

// The first thing to look at: a survivor, else the head that stands in most circuits at the end.
const firstHead = () => {
  const run = DATA.runs.find((one) => one.contrasts[view.contrast]);
  const { summary, heads } = run.contrasts[view.contrast];
  const size = run.layers * run.heads;
  const last = heads.membership.slice(-size);
  return summary.survivors[0] ?? headName(run, last.indexOf(Math.max(...last)));
};

const draw = () => {
  const main = document.getElementById("main");
  const focused = document.activeElement?.getAttribute?.("name") === "contrast";
  main.querySelectorAll(".chart").forEach((host) => Plotly.purge(host));
  for (const list of [onStep, onHead, marked, waiting]) list.length = 0;
  const between = DATA.caveats.map((line) => el("p", { class: "notice" }, line));
  const [first, ...rest] = SECTIONS;
  main.replaceChildren(...between, el("div", { class: "bar" }, contrastChoice(), stepChoice()), section(first), ...rest.map(section));
  drawWaiting();
  showStep();
  if (focused) main.querySelector("input[name=contrast]:checked")?.focus();
  main.removeAttribute("aria-busy");
};

const start = async () => {
  DATA = JSON.parse(await unpack("packed-data"));
  document.head.append(el("script", {}, await unpack("packed-plotly")));
  DATA.steps = [...new Set(DATA.runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
  document.documentElement.classList.toggle("several", DATA.runs.length > 1);
  Object.assign(view, { contrast: DATA.contrasts[0], step: DATA.steps.at(-1) });
  view.head = firstHead();
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
};

start().catch((error) => {
  document.getElementById("main").append(missing(`The report could not be unpacked (${error.message}); it needs a browser of 2023 or later.`));
  throw error;
});
