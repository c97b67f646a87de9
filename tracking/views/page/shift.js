// What training changed, found on texts that the model and its base write: by checkpoint.

const drawShift = (host, run) => {
  const { shift } = run, color = css("--emergent");
  plotOverSteps(host, run, [line(shift.step, shift.nats, color, {
    name: "nats a token", marker: { size: 7, color },
    text: shift.step.map((step, i) => `step ${step}: ${num(shift.nats[i])} nats a token, ${shift.places[i]} places, ${shift.nodes[i].join(", ") || "no node"}`),
    hovertemplate: "%{text}<extra></extra>",
  })], {
    xaxis: axis({ text: "training step", range: [0, Math.max(stepRange()[1], ...shift.step)] }),
    yaxis: axis({ text: "nats a token", range: shared((_, one) => (one.shift ? one.shift.nats : []), 0) }),
  }, 220, []);
};

const shiftTable = ({ shift }, label) => tableOf({
  step: shift.step,
  asked: shift.asked,
  "nats a token": shift.nats,
  "90 % on tokens": shift.concentration,
  "by entropy": shift.concentration_of_entropy,
  places: shift.places,
  prompts: shift.prompts,
  "behaviour there": shift.step.map((_, i) => (known(shift.behaviour[i])
    ? `${num(shift.behaviour[i])} (${span(shift.behaviour_low[i], shift.behaviour_high[i])})` : "–")),
  "nodes that come out": shift.nodes.map((nodes, i) => nodes.join(" ") || shift.why_not[i] || "none"),
}, label);

const shifted = (run) => (run.shift ? [
  figure("Policies apart", `How far the policy of ${run.name} is from its base's by training step`, () => run.shift,
    (host) => drawShift(host, run), "KL of the policy from its base's at each token of texts that both write, mean. A run that is taught nothing moves too."),
  shiftTable(run, `What training changed in ${run.name}, by step`),
  el("p", { class: "about" }, "Places are tokens that carry the divergence and at which the two prefer different ones; the behaviour there is above 0 by construction. ",
    "Nodes are those whose writes, exchanged between the two models, surely change it. Texts and figures of each step lie in shift/ of the run."),
] : [missing("This run was not set beside its base while it trained (track_shift).")]);

SECTIONS.splice(-1, 0, ["shift", "What training changed", null, shifted]); // this file is here only where a run has it
