// A matrix of numbers as a table whose cells are coloured: every number is text, reachable by keyboard.
//
// The table is filled by hand, not by Preact, since it has thousands of cells, of which a step changes none: moving the
// selection only moves a few class names.

import { html, useLayoutEffect, useRef, useStore } from "./core.js";
import { colour } from "./colours.js";
import { t, useLanguage } from "./i18n.js";
import { full, short } from "./numbers.js";
import { Saving, Scale, visible } from "./parts.js";
import { heatmapSvg } from "./svg.js";
import { theme } from "./theme.js";

const MOVES = {
  ArrowLeft: ([i, j]) => [i, j - 1],
  ArrowRight: ([i, j]) => [i, j + 1],
  ArrowUp: ([i, j]) => [i - 1, j],
  ArrowDown: ([i, j]) => [i + 1, j],
  Home: ([i]) => [i, 0],
  End: ([i]) => [i, Infinity],
  PageUp: ([i, j]) => [i - 10, j],
  PageDown: ([i, j]) => [i + 10, j],
};

function header(label, scope) {
  const cell = document.createElement("th");
  cell.scope = scope;
  const bdi = document.createElement("bdi");
  bdi.textContent = visible(label);
  cell.append(bdi);
  cell.title = label;
  return cell;
}

function fill(table, { rows, columns, at, limit, masked, corner }, look) {
  const head = table.createTHead().insertRow();
  const first = document.createElement("td");
  first.className = "corner";
  first.textContent = corner;
  head.append(first, ...columns.map((label) => header(label, "col")));
  const body = table.createTBody();
  rows.forEach((label, i) => {
    const line = body.insertRow();
    line.append(header(label, "row"));
    columns.forEach((_, j) => {
      const cell = line.insertCell();
      const x = at(i, j);
      const { fill: background, ink } = colour(x, limit, look);
      cell.textContent = short(x);
      cell.title = full(x);
      cell.tabIndex = -1;
      if (masked?.(i, j)) cell.className = "masked";
      else {
        cell.style.backgroundColor = background;
        cell.style.color = ink;
      }
    });
  });
}

function mark(table, { row, column, active }) {
  for (const marked of table.querySelectorAll(".on, .in-row, .in-column")) {
    marked.classList.remove("on", "in-row", "in-column", "active");
    if (marked.tagName === "TD") {
      marked.tabIndex = -1;
      marked.removeAttribute("aria-selected");
    }
  }
  table.tHead.rows[0].cells[column + 1]?.classList.add("in-column");
  table.tBodies[0].rows[row]?.cells[0].classList.add("in-row");
  const cell = table.tBodies[0].rows[row]?.cells[column + 1];
  if (!cell) return;
  cell.classList.add("on");
  if (active) cell.classList.add("active");
  cell.tabIndex = 0;
  cell.setAttribute("aria-selected", "true");
}

// name: for files. rows, columns: labels. at(i, j): numbers. limit: the ends of the scale. version: changes when the
// numbers do. row, column: what is selected; active: whether the inspector shows this matrix. choose(i, j): on selecting.
export function Heatmap({ name, label, caption, rows, columns, at, limit, masked, version, row, column, active, choose, corner = "" }) {
  const look = useStore(theme);
  const language = useLanguage();
  const table = useRef();
  useLayoutEffect(() => {
    table.current.replaceChildren();
    fill(table.current, { rows, columns, at, limit, masked, corner }, look);
  }, [version, look, language]);
  useLayoutEffect(() => mark(table.current, { row, column, active }));

  const pick = (i, j) => {
    const place = [Math.max(0, Math.min(i, rows.length - 1)), Math.max(0, Math.min(j, columns.length - 1))];
    choose(...place);
    const cell = table.current.tBodies[0].rows[place[0]].cells[place[1] + 1];
    cell.tabIndex = 0;
    cell.focus({ preventScroll: false });
  };
  const find = (target) => {
    const cell = target.closest("tbody td");
    return cell && [cell.parentNode.sectionRowIndex, cell.cellIndex - 1];
  };
  const onKeyDown = (event) => {
    const at = find(event.target);
    if (!at || !(event.key in MOVES) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    pick(...MOVES[event.key](at));
  };
  const svg = () => heatmapSvg({ title: label, rows: rows.map(visible), columns: columns.map(visible), at, limit, theme: look });

  return html`<figure class="figure">
    <figcaption>
      <span class="figure-title">${caption ?? label}</span>
      <${Scale} limit=${limit} />
      <${Saving} name=${name} svg=${svg} />
    </figcaption>
    <div class="scroll">
      <table class="heatmap" role="grid" aria-label=${t("heatmap.label", { label, rows: rows.length, columns: columns.length })}
        ref=${table} onKeyDown=${onKeyDown}
        onClick=${(event) => { const at = find(event.target); if (at) pick(...at); }}></table>
    </div>
  </figure>`;
}
