"use strict";
// What every part of the page uses: elements, numbers, colours, tables.

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const known = (value) => value !== null && value !== undefined;

// Three significant digits; a dash where a number is missing.
const num = (value) => {
  if (!known(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
};

const span = (low, high) => (known(low) && known(high) ? `${num(low)} to ${num(high)}` : "–");

const rgb = (color) => {
  const hex = color.trim().replace("#", "");
  return [0, 2, 4].map((place) => parseInt(hex.slice(place, place + 2), 16));
};

const mixed = (color, ground, share) => {
  const [from, onto] = [rgb(color), rgb(ground)];
  return from.map((part, i) => Math.round(share * part + (1 - share) * onto[i]));
};

const faded = (color, alpha) => `rgba(${rgb(color).join(", ")}, ${alpha})`;

// Black or white, whichever can be read on a colour.
const inkOn = (parts) => {
  const [red, green, blue] = parts.map((part) => {
    const level = part / 255;
    return level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4;
  });
  const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#ffffff" : "#15181b";
};

// A table of columns; those that hold text stand to the left. `label` names it for screen readers.
const tableOf = (columns, label) => {
  const names = Object.keys(columns);
  const rows = names.length ? columns[names[0]].map((_, row) => row) : [];
  const side = (name) => (columns[name].some((v) => typeof v === "string") ? "words" : null);
  const head = el("tr", {}, ...names.map((n) => el("th", { scope: "col", class: side(n) }, n.replaceAll("_", " "))));
  const body = rows.map((row) =>
    el("tr", {}, ...names.map((n) => el("td", { class: side(n) }, num(columns[n][row])))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    el("table", {}, el("caption", { class: "hidden" }, label), el("thead", {}, head), el("tbody", {}, ...body)));
};

// The numbers behind a chart, made when they are asked for.
const dataOf = (label, columns, title = "Data") => {
  const details = el("details", { class: "data" }, el("summary", {}, title, el("span", { class: "hidden" }, `: ${label}`)));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(tableOf(columns(), `Data: ${label}`));
  });
  return details;
};

const missing = (text) => el("p", { class: "none" }, text);

const legend = (...items) => el("ul", { class: "legend" }, ...items.map(([mark, text]) => el("li", {}, mark, text)));

const hatch = () => {
  const node = el("span", { class: "swatch hatched", "aria-hidden": "true" });
  node.style.setProperty("--hatch", css("--soft"));
  return node;
};

const rule = (color, dash = "solid") => {
  const node = el("span", { "aria-hidden": "true" });
  node.style.cssText = `width: 1.3rem; border-top: 2px ${dash} ${color};`;
  return node;
};
