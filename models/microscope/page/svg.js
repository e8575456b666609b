// Figures as SVG text, for the page and for files, and PNG files made of them.

import { download } from "page/core.js";
import { colour, INK } from "page/colours.js";
import { short } from "page/numbers.js";

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// An element; children are SVG text already, `text` is not.
export function element(name, attributes = {}, ...children) {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(value)}"`);
  return `<${name}${written.join("")}>${children.join("")}</${name}>`;
}

export function text(content, attributes) {
  return element("text", { "unicode-bidi": "isolate", ...attributes }, escaped(content));
}

export function drawing(width, height, theme, title, ...children) {
  const paper = { light: "#ffffff", dark: "#1a1d22" }[theme];
  return element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": title, "font-family": "system-ui, sans-serif", "font-size": 12, fill: INK[theme],
    },
    element("rect", { width, height, fill: paper }),
    ...children,
  );
}

const CELL = { width: 48, height: 24 };
const LONGEST = 160; // pixels of a label

// About how wide a label is: ideographs and Hangul are square.
export function widthOf(label) {
  return [...label].reduce((width, character) => width + (/[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]/.test(character) ? 12.5 : 7.5), 0);
}

function cut(label) {
  let short = label;
  while (widthOf(short) > LONGEST) short = [...short].slice(0, -1).join("");
  return short === label ? label : `${short}…`;
}

// A matrix with its numbers, labels and the scale from ends[0] to ends[1]. at(row, column) gives its numbers; masked(row, column) says which are no
// part of it, and are hatched.
export function heatmapSvg({ title, rows, columns, at, ends, masked, theme }) {
  const [sides, heads] = [rows.map(cut), columns.map(cut)];
  const widest = Math.max(0, ...heads.map(widthOf));
  const turned = widest > CELL.width - 4;
  const left = 20 + Math.max(32, ...sides.map(widthOf));
  const top = turned ? 54 + 0.75 * widest : 64;
  const width = Math.max(left + heads.length * CELL.width + (turned ? 0.75 * widest : 16), 360, 24 + 1.3 * widthOf(title));
  const height = top + sides.length * CELL.height + 40;
  const drawn = [text(title, { x: 12, y: 24, "font-size": 15, "font-weight": 600 })];
  if (masked && rows.some((_, i) => columns.some((__, j) => masked(i, j)))) drawn.unshift(hatching(theme));
  heads.forEach((label, j) => {
    const x = left + (j + 0.5) * CELL.width;
    drawn.push(text(label, turned ? { transform: `translate(${x} ${top - 8}) rotate(-45)` } : { x, y: top - 8, "text-anchor": "middle" }));
  });
  sides.forEach((label, i) => {
    const y = top + i * CELL.height;
    drawn.push(text(label, { x: left - 8, y: y + 16, "text-anchor": "end" }));
    heads.forEach((_, j) => {
      const { fill, ink } = masked?.(i, j) ? { fill: "url(#masked)", ink: INK[theme] } : colour(at(i, j), ends, theme);
      const x = left + j * CELL.width;
      drawn.push(element("rect", { x, y, width: CELL.width - 1, height: CELL.height - 1, fill }));
      drawn.push(text(short(at(i, j)), { x: x + CELL.width / 2, y: y + 16, "text-anchor": "middle", fill: ink, "font-size": 11 }));
    });
  });
  const y = height - 24;
  for (let i = 0; i < 60; i += 1) {
    drawn.push(element("rect", { x: left + 2 * i, y, width: 2, height: 10, fill: colour(ends[0] + ((i + 0.5) / 60) * (ends[1] - ends[0]), ends, theme).fill }));
  }
  drawn.push(text(short(ends[0]), { x: left - 6, y: y + 10, "text-anchor": "end", "font-size": 11 }));
  drawn.push(text((ends[0] < 0 ? "+" : "") + short(ends[1]), { x: left + 126, y: y + 10, "font-size": 11 }));
  return drawing(Math.ceil(width), Math.ceil(height), theme, title, ...drawn);
}

function hatching(theme) {
  const line = element("path", { d: "M-1 5L5 -1M1 7L7 1", stroke: { light: "#c4c0b4", dark: "#4a515c" }[theme] });
  return element("defs", {}, element("pattern", { id: "masked", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, line));
}

export function saveSvg(name, svg) {
  download(`${name}.svg`, new Blob([svg], { type: "image/svg+xml" }));
}

export async function savePng(name, svg) {
  const picture = new Image();
  picture.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  await picture.decode();
  const canvas = document.createElement("canvas");
  const scale = Math.min(2, 8000 / Math.max(picture.width, picture.height));
  canvas.width = picture.width * scale;
  canvas.height = picture.height * scale;
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(picture.src);
  canvas.toBlob((content) => download(`${name}.png`, content), "image/png");
}
