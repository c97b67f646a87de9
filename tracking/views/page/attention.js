// Where a head attends over a response, from the token that is chosen.

const STRONGEST = 3; // weights that are told in words
const LEVELS = 255; // of a weight in a byte

const bytesOf = (packed) => Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));

const quoted = (token) => `“${token.replaceAll("\n", "↵")}”`;

// Attention weights of a head from a token to all up to it; `head` is its place.
const weightsFrom = ({ tokens, first, bytes, heads }, head, place) => {
  const queries = bytes.length / heads / tokens.length;
  const start = (head * queries + place - first) * tokens.length;
  return Array.from(bytes.slice(start, start + place + 1), (level) => level / LEVELS);
};

// The tokens of a prompt and its response; those from the prompt's last on can be chosen, by
// pointer or by arrow keys, and what the head attends to from there is shaded.
const tokenText = (side, title) => {
  const spans = side.tokens.map((token, place) => el("span", { class: place < side.first ? "asked" : null, "data-place": place }, token.replaceAll("\n", "↵\n")));
  const text = el("pre", { class: "tokens", tabindex: 0, role: "group", "aria-label": `${title}: tokens, arrow keys choose one` }, ...spans);
  const told = el("p", { class: "about", role: "status" });
  let head = 0;
  let chosen = side.tokens.length - 1;
  const paint = () => {
    const weights = weightsFrom(side, head, chosen);
    spans.forEach((span, place) => {
      const ground = mixed(css("--accent"), css("--page"), weights[place] ?? 0);
      span.style.background = `rgb(${ground.join(", ")})`;
      span.style.color = (weights[place] ?? 0) > 0.25 ? inkOn(ground) : "";
      span.classList.toggle("chosen", place === chosen);
    });
    const order = weights.map((_, place) => place).sort((a, b) => weights[b] - weights[a])
      .slice(0, STRONGEST).filter((place, rank) => !rank || weights[place] >= 0.005);
    told.textContent = `From ${quoted(side.tokens[chosen])}: ${order.map((place) => `${weights[place].toFixed(2)} on ${quoted(side.tokens[place])}`
      + (place === chosen ? " itself" : "")).join(", ")}.`;
  };
  const move = (place) => {
    if (place === chosen || place < side.first || place >= side.tokens.length) return;
    chosen = place;
    paint();
  };
  for (const event of ["mouseover", "click"]) {
    text.addEventListener(event, ({ target }) => { if (target.dataset.place) move(Number(target.dataset.place)); });
  }
  text.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    move(chosen + by);
  });
  return { shown: el("div", {}, el("header", {}, title), text, told), show: (place) => { head = place; paint(); } };
};

// A choice of heads, and both responses token by token once one is chosen; nothing where the
// attention of this problem was not kept.
const attentionOf = (kept, benchmark, problem, sample, condition) => {
  const row = (kept?.problem ?? []).findIndex((one, i) => one === problem && kept.sample[i] === sample
    && kept.benchmark[i] === benchmark && kept.condition[i] === condition);
  if (row < 0) return null;
  const heads = kept.heads[row];
  const side = (name) => ({ tokens: kept[`${name}_tokens`][row], first: kept.first[row], bytes: bytesOf(kept[`${name}_weights`][row]), heads: heads.length });
  const choice = el("select", {}, el("option", { value: "" }, "choose a head"), ...heads.map((head, place) => el("option", { value: place }, head)));
  const place = el("div", {});
  const sides = [];
  choice.addEventListener("change", () => {
    if (!sides.length) sides.push(tokenText(side("before"), "as it is"), tokenText(side("after"), condition));
    place.replaceChildren(...(choice.value === "" ? [] : [el("div", { class: "beside" }, ...sides.map(({ shown }) => shown))]));
    if (choice.value !== "") sides.forEach(({ show }) => show(Number(choice.value)));
  });
  return el("div", { class: "attention" }, el("label", {}, "Attention of ", choice), place);
};
