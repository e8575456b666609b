// A heatmap: a matrix of numbers as a table whose cells are coloured. Every number is text, reachable by keyboard.
//
// Only the part of the table in sight, and some around it, is in the document, so opening a matrix, another head or a step
// cost the same for sixty tokens as for twenty. `Grid` fills the table by hand, not through Preact: moving the selection
// then only moves a few class names.

import { colour } from "page/colours.js";
import { html, useLayoutEffect, useRef, useStore } from "page/core.js";
import { t, useLanguage } from "page/i18n.js";
import { full, short } from "page/numbers.js";
import { Saving, Scale, visible } from "page/parts.js";
import { heatmapSvg } from "page/svg.js";
import { theme } from "page/theme.js";

const ROW = 24; // the heights of page.css
const HEAD = 27;
const SPARE = { rows: 4, columns: 2 }; // drawn beyond what is in sight, and the grain of redrawing
const WHOLE = 400; // cells: a matrix that has no more is drawn whole
const COLUMN = { least: 49, most: 104 };
const LABEL = { least: 36, most: 116 };
const PADDING = 18; // of a label, both sides
const AROUND = 300; // pixels above and below the window in which matrices are drawn

const TOUCHES = ["pointerdown", "pointerenter", "wheel", "focusin"];

const between = (least, x, most) => Math.max(least, Math.min(x, most));
const FONT = "11.84px system-ui, sans-serif"; // of page.css, but for the family
const pen = document.createElement("canvas").getContext("2d");

// Where each column starts, from the widths of their labels; the last number is where all end.
function starts(labels) {
  const edges = [0];
  for (const label of labels) edges.push(edges.at(-1) + Math.ceil(between(COLUMN.least, pen.measureText(visible(label)).width + PADDING, COLUMN.most)));
  return edges;
}

// How wide the column of row labels is.
function sideOf(rows, corner) {
  const widest = Math.max(...rows.map((label) => pen.measureText(visible(label)).width), pen.measureText(corner).width);
  return Math.ceil(between(LABEL.least, widest + PADDING, LABEL.most));
}

// About how wide a matrix is, in pixels, before it is drawn.
export function widthOfMatrix(rows, columns, corner) {
  pen.font = FONT;
  return sideOf(rows, corner) + starts(columns).at(-1) + 2;
}

const sameTexts = (some, others) => some.length === others.length && some.every((text, i) => text === others[i]);

// Matrices of one name scroll together: the one that the reader touches leads.
const linked = new Map();
let leader = null;

function header(scope) {
  const cell = document.createElement("th");
  cell.scope = scope;
  cell.append(document.createElement("bdi"));
  return cell;
}

// What is the same stays as it is, so that the browser need not lay it out again.
function put(cell, text, title) {
  if (cell.textContent !== text) cell.textContent = text;
  if (cell.title !== title) cell.title = title;
}

function label(cell, name) {
  const { firstChild: bdi } = cell;
  if (bdi.textContent !== visible(name)) bdi.textContent = visible(name);
  cell.title = name;
}

class Grid {
  // box scrolls; extent is as large as the whole matrix; table holds the part in sight.
  constructor(box, extent, table) {
    Object.assign(this, { box, extent, table, matrix: null, selected: null, drawn: null, placed: [], sight: null, near: null, moved: true });
    this.follow = () => { this.look(); this.update(); };
    this.scrolled = () => { this.follow(); this.lead(); };
    this.touched = () => { leader = this; };
    box.addEventListener("scroll", this.scrolled);
    for (const event of TOUCHES) box.addEventListener(event, this.touched, { passive: true });
    this.sizes = new ResizeObserver(this.follow);
    this.sizes.observe(box);
    this.frame = box.closest(".site-heatmap, .jacobian");
    this.sizes.observe(this.frame);
    this.places = new IntersectionObserver(([{ isIntersecting }]) => {
      this.near = isIntersecting;
      this.update();
    }, { rootMargin: `${AROUND}px` });
    this.places.observe(box);
  }

  close() {
    this.box.removeEventListener("scroll", this.scrolled);
    for (const event of TOUCHES) this.box.removeEventListener(event, this.touched);
    this.link(null);
    if (leader === this) leader = null;
    this.sizes.disconnect();
    this.places.disconnect();
  }

  link(name) {
    linked.get(this.name)?.delete(this);
    this.name = name;
    if (name === null) return;
    if (!linked.has(name)) linked.set(name, new Set());
    linked.get(name).add(this);
  }

  // Scroll all linked matrices to where this one is.
  lead() {
    if (leader !== this) return;
    const { scrollTop: top, scrollLeft: left } = this.box;
    for (const other of linked.get(this.name) ?? []) if (other !== this) other.box.scrollTo({ top, left, behavior: "instant" });
  }

  // Other numbers: { linked, rows, columns, at, ends, masked, corner, theme }. They are drawn with the next mark(). With the
  // same labels as before nothing has another size, so that nothing need be measured.
  show(matrix) {
    this.drawn = null;
    this.link(matrix.linked);
    if (this.matrix && ["rows", "columns"].every((side) => sameTexts(matrix[side], this.matrix[side])) && matrix.corner === this.matrix.corner) {
      const { edges, whole, side } = this.matrix;
      this.matrix = { ...matrix, edges, whole, side };
      return;
    }
    pen.font = getComputedStyle(this.table).font;
    const edges = starts(matrix.columns);
    const whole = matrix.rows.length * matrix.columns.length <= WHOLE;
    this.matrix = { ...matrix, edges, whole, side: sideOf(matrix.rows, matrix.corner) };
    this.box.style.scrollPaddingLeft = `${this.matrix.side}px`;
    this.extend();
    this.extent.style.height = `${HEAD + ROW * matrix.rows.length}px`;
    this.table.ariaRowCount = String(matrix.rows.length + 1);
    this.table.ariaColCount = String(matrix.columns.length + 1);
  }

  // Fit whole columns into the frame, and make the extent so wide that scrolling ends where a column begins: no number is
  // half under the row labels, or cut at the right.
  extend() {
    const { edges, side } = this.matrix;
    const room = this.frame.clientWidth - side - 2;
    const widest = edges.findLast((edge) => edge <= room) || room;
    this.box.style.maxWidth = this.frame.clientWidth ? `${side + widest + 2}px` : "";
    const furthest = side + edges.at(-1) - this.box.clientWidth;
    const spare = furthest > 0 ? edges.find((edge) => edge >= furthest) - furthest : 0;
    this.extent.style.width = `${side + edges.at(-1) + spare}px`;
  }

  // The selected cell: { row, column, active }. If it has moved, it is scrolled into view and gets the focus.
  mark(selected) {
    const focused = this.box.contains(document.activeElement);
    const moved = this.selected?.row !== selected.row || this.selected.column !== selected.column;
    this.selected = selected;
    this.moved ||= moved;
    this.update();
    if (focused && moved) (this.cell(selected.row, selected.column) ?? this.box).focus();
  }

  // Bring the document up to date; a matrix far from what the window shows waits until it comes near, unless it is small.
  update() {
    if (!this.matrix || !this.selected) return;
    if (this.near === null) {
      const { top, bottom } = this.box.getBoundingClientRect();
      this.near = bottom > -AROUND && top < innerHeight + AROUND;
    }
    if (!this.near && !this.matrix.whole) {
      if (!this.drawn) this.table.replaceChildren(); // rather nothing than other numbers
      this.box.tabIndex = 0;
      return;
    }
    if (!this.sight) this.look();
    if (this.moved && this.sight.width) { // not laid out yet: once it is, its size changes
      this.reveal();
      this.moved = false;
    }
    if (!this.draw()) this.paintSelection();
  }

  // Scroll so that the selected cell is in sight.
  reveal() {
    const { edges, side } = this.matrix;
    const { row, column } = this.selected;
    const { top, left, height, width } = this.sight;
    const y = row * ROW;
    const least = edges[column + 1] + side - width; // further left the cell would begin beyond the right edge
    const to = {
      top: between(y + ROW + HEAD - height, top, y),
      left: left >= least && left <= edges[column] ? left : Math.min(edges.find((edge) => edge >= least), edges[column]),
    };
    if (to.top === top && to.left === left) return;
    this.box.scrollTo({ ...to, behavior: "instant" });
    this.look();
  }

  // The row and column of a cell's element, or null for other elements.
  find(element) {
    const cell = element.closest("tbody td");
    return cell && [this.drawn.top + cell.parentNode.sectionRowIndex, this.drawn.left + cell.cellIndex - 1];
  }

  cell(row, column) {
    if (!this.drawn) return null;
    const { top, left } = this.drawn;
    return column < left ? null : (this.table.tBodies[0].rows[row - top]?.cells[column - left + 1] ?? null);
  }

  look() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.box;
    if (this.matrix && (this.sight?.width !== clientWidth || this.sight.frame !== this.frame.clientWidth)) this.extend();
    this.sight = { top: scrollTop, left: scrollLeft, height: clientHeight, width: this.box.clientWidth, frame: this.frame.clientWidth };
  }

  // The rows and columns to draw: [from, to) of each.
  part() {
    const { rows, columns, edges, whole } = this.matrix;
    if (whole) return { top: 0, bottom: rows.length, left: 0, right: columns.length };
    const { top, left, height, width } = this.sight;
    const span = (first, last, spare, size) => [
      between(0, (Math.floor(first / spare) - 1) * spare, size), between(0, (Math.ceil(last / spare) + 1) * spare, size),
    ];
    const last = edges.findIndex((edge) => edge >= left + width);
    const [from, to] = span(top / ROW, (top + height) / ROW, SPARE.rows, rows.length);
    const [start, end] = span(edges.findLastIndex((edge) => edge <= left), last < 0 ? columns.length : last, SPARE.columns, columns.length);
    return { top: from, bottom: to, left: start, right: end };
  }

  // Draw the visible part, unless it is drawn already; returns whether it was drawn.
  draw() {
    const part = this.part();
    if (this.drawn && Object.keys(part).every((side) => part[side] === this.drawn[side])) return false;
    const focused = this.table.contains(document.activeElement);
    this.drawn = part;
    this.fill(part);
    this.paintSelection();
    if (focused) (this.cell(this.selected.row, this.selected.column) ?? this.box).focus({ preventScroll: true });
    return true;
  }

  fill({ top, bottom, left, right }) {
    const { at, ends, masked, theme } = this.matrix;
    this.place(top, bottom, left, right);
    const [, ...lines] = this.table.rows;
    lines.forEach((line, n) => {
      const [, ...cells] = line.cells;
      cells.forEach((cell, k) => {
        const [i, j] = [top + n, left + k];
        const x = at(i, j);
        const out = Boolean(masked?.(i, j));
        const { fill, ink } = out ? { fill: "", ink: "" } : colour(x, ends, theme);
        put(cell, short(x), full(x));
        cell.classList.toggle("masked", out);
        cell.style.backgroundColor = fill;
        cell.style.color = ink;
      });
    });
  }

  // Labels and sizes of a part, if it is not the one that is there.
  place(top, bottom, left, right) {
    const { rows, columns, corner, edges, side } = this.matrix;
    const part = [top, bottom, left, right, corner, ...rows.slice(top, bottom), ...columns.slice(left, right)];
    if (sameTexts(part, this.placed) && this.table.rows.length) return;
    this.placed = part;
    this.extent.style.paddingTop = `${top * ROW}px`;
    this.extent.style.paddingLeft = `${edges[left]}px`;
    this.table.style.width = `${side + edges[right] - edges[left]}px`;
    this.fit(bottom - top, right - left);
    const [titles, ...lines] = this.table.rows;
    const [first, ...heads] = titles.cells;
    put(first, corner, "");
    first.style.width = `${side}px`;
    heads.forEach((title, k) => {
      label(title, columns[left + k]);
      title.style.width = `${edges[left + k + 1] - edges[left + k]}px`;
      title.ariaColIndex = String(left + k + 2);
    });
    lines.forEach((line, n) => {
      const [name, ...cells] = line.cells;
      line.ariaRowIndex = String(top + n + 2);
      label(name, rows[top + n]);
      cells.forEach((cell, k) => { cell.ariaColIndex = String(left + k + 2); });
    });
  }

  // As many cells as a part has: those that are there, if there are as many.
  fit(rows, columns) {
    const { table } = this;
    if (table.rows.length === rows + 1 && table.rows[0].cells.length === columns + 1) return;
    const [head, body] = ["thead", "tbody"].map((name) => document.createElement(name));
    const corner = document.createElement("td");
    corner.className = "corner";
    head.insertRow().append(corner, ...Array.from({ length: columns }, () => header("col")));
    head.rows[0].ariaRowIndex = "1";
    for (let i = 0; i < rows; i += 1) {
      body.insertRow().append(header("row"), ...Array.from({ length: columns }, () => {
        const cell = document.createElement("td");
        cell.tabIndex = -1;
        return cell;
      }));
    }
    table.replaceChildren(head, body);
  }

  paintSelection() {
    const { row, column, active } = this.selected;
    for (const marked of this.table.querySelectorAll(".on, .in-row, .in-column")) {
      marked.classList.remove("on", "in-row", "in-column", "active");
      if (marked.tagName === "TD") {
        marked.tabIndex = -1;
        marked.removeAttribute("aria-selected");
      }
    }
    const { top, left } = this.drawn;
    if (column >= left) this.table.tHead.rows[0].cells[column - left + 1]?.classList.add("in-column");
    this.table.tBodies[0].rows[row - top]?.cells[0].classList.add("in-row");
    const cell = this.cell(row, column);
    this.box.tabIndex = cell ? -1 : 0; // the way in for the keyboard is the selected cell, or the box where that is out of sight
    if (!cell) return;
    cell.classList.add("on");
    if (active) cell.classList.add("active");
    cell.tabIndex = 0;
    cell.setAttribute("aria-selected", "true");
  }
}

const MOVES = {
  ArrowLeft: (i, j) => [i, j - 1],
  ArrowRight: (i, j) => [i, j + 1],
  ArrowUp: (i, j) => [i - 1, j],
  ArrowDown: (i, j) => [i + 1, j],
  Home: (i) => [i, 0],
  End: (i) => [i, Infinity],
  PageUp: (i, j) => [i - 10, j],
  PageDown: (i, j) => [i + 10, j],
};

// linked: matrices of the same scroll together. name: for files. rows, columns: labels. at(i, j): numbers. ends: of the
// colour scale. version: changes when the numbers do. row, column: the selected cell; active: whether the inspector shows
// this matrix. choose(i, j): on selecting.
export function Heatmap({ linked: group, name, label, caption, rows, columns, at, ends, masked, version, row, column, active, choose, corner = "" }) {
  const look = useStore(theme);
  const language = useLanguage();
  const [box, extent, table, grid] = [useRef(), useRef(), useRef(), useRef()];
  useLayoutEffect(() => {
    grid.current = new Grid(box.current, extent.current, table.current);
    return () => grid.current.close();
  }, []);
  useLayoutEffect(() => grid.current.show({ linked: group ?? name, rows, columns, at, ends, masked, corner, theme: look }), [version, look, language]);
  useLayoutEffect(() => grid.current.mark({ row, column, active }));

  const pick = (i, j) => choose(Math.max(0, Math.min(i, rows.length - 1)), Math.max(0, Math.min(j, columns.length - 1)));
  const onKeyDown = (event) => {
    if (!(event.key in MOVES) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    pick(...MOVES[event.key](row, column));
  };
  const onClick = (event) => {
    const place = grid.current.find(event.target);
    if (place) pick(...place);
  };
  const svg = () => heatmapSvg({ title: label, rows: rows.map(visible), columns: columns.map(visible), at, ends, masked, theme: look });

  return html`<figure class="figure">
    <figcaption>
      <span class="figure-title">${caption ?? label}</span>
      <${Scale} ends=${ends} />
      <${Saving} name=${name} svg=${svg} />
    </figcaption>
    <div class="scroll" ref=${box} onKeyDown=${onKeyDown} onClick=${onClick}>
      <div class="extent" ref=${extent}><table class="heatmap" role="grid" ref=${table}
        aria-label=${t("heatmap.label", { label, rows: rows.length, columns: columns.length })}></table></div>
    </div>
  </figure>`;
}
