// A table of labels, bars and numbers. Its rows are filled by hand and not through Preact, as the cells of a heatmap are: a
// step of time then changes texts and lengths of bars, and nothing else.

import { html, useLayoutEffect, useRef, useStore } from "page/core.js";
import { full, short } from "page/numbers.js";
import { barOf, visible } from "page/parts.js";
import { theme } from "page/theme.js";

// A row's elements, and what they show.
function newRow() {
  const element = document.createElement("tr");
  const [label, bar, number] = [document.createElement("th"), element.insertCell(), element.insertCell()];
  label.scope = "row";
  label.innerHTML = '<bdi class="token alone"></bdi>';
  bar.className = "bar-cell";
  bar.ariaHidden = "true";
  number.className = "number";
  number.innerHTML = '<span class="alone"></span>';
  element.prepend(label);
  const texts = [label, number].map((cell) => cell.firstChild.appendChild(new Text()));
  return { element, bar, number, texts, shown: {} };
}

// What is the same stays as it is, so that the browser need not lay it out again.
function fill(body, drawn, rows) {
  while (drawn.length > rows.length) drawn.pop().element.remove();
  while (drawn.length < rows.length) body.append(drawn[drawn.push(newRow()) - 1].element);
  rows.forEach(({ name, x, ends, on }, i) => {
    const { element, bar, number, texts, shown } = drawn[i];
    const next = { name: visible(name), number: short(x), exact: full(x), bar: background(x, ends), on };
    if (shown.name !== next.name) texts[0].data = next.name;
    if (shown.number !== next.number) texts[1].data = next.number;
    if (shown.exact !== next.exact) number.title = next.exact;
    for (const side of Object.keys(next.bar)) if (shown.bar?.[side] !== next.bar[side]) bar.style[side] = next.bar[side];
    if (shown.on !== on) element.className = on ? "in-row" : "";
    drawn[i].shown = next;
  });
}

// A bar, and the line that it grows from, as backgrounds of their cell, which need no layout.
function background(x, ends) {
  const { oneSided, fill: colour, left, width } = barOf(x, ends);
  const at = width < 100 ? (100 * left) / (100 - width) : 0; // a background's place is in per cent of the room that it leaves
  return {
    backgroundImage: `linear-gradient(${colour}, ${colour})${oneSided ? "" : ", linear-gradient(var(--line), var(--line))"}`,
    backgroundPosition: `${at}% 50%, center`,
    backgroundSize: `${width}% 10px, 1px 10px`,
  };
}

// rows: { name, x, ends: of the scale, on: whether it is selected }. choose(i): on a click.
export function Bars({ caption, rows, choose }) {
  useStore(theme);
  const body = useRef();
  const drawn = useRef([]);
  useLayoutEffect(() => fill(body.current, drawn.current, rows));
  const onClick = (event) => choose(event.target.closest("tr").sectionRowIndex);
  return html`<table class="row"><caption class="hidden">${caption}</caption><tbody ref=${body} onClick=${onClick}></tbody></table>`;
}
