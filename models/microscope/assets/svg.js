// Figures as SVG text, for the page and for files, and PNG files made of them.

import { download } from "./core.js";
import { colour, INK } from "./colours.js";
import { short } from "./numbers.js";

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

// A matrix with its numbers, labels and scale. at(row, column) gives its numbers.
export function heatmapSvg({ title, rows, columns, at, limit, theme }) {
  const left = 20 + 8 * Math.max(4, ...rows.map((label) => label.length));
  const top = 64;
  const width = Math.max(left + columns.length * CELL.width + 16, 360);
  const height = top + rows.length * CELL.height + 40;
  const drawn = [text(title, { x: 12, y: 24, "font-size": 15, "font-weight": 600 })];
  columns.forEach((label, j) => {
    drawn.push(text(label, { x: left + (j + 0.5) * CELL.width, y: top - 8, "text-anchor": "middle" }));
  });
  rows.forEach((label, i) => {
    const y = top + i * CELL.height;
    drawn.push(text(label, { x: left - 8, y: y + 16, "text-anchor": "end" }));
    columns.forEach((_, j) => {
      const { fill, ink } = colour(at(i, j), limit, theme);
      const x = left + j * CELL.width;
      drawn.push(element("rect", { x, y, width: CELL.width - 1, height: CELL.height - 1, fill }));
      drawn.push(text(short(at(i, j)), { x: x + CELL.width / 2, y: y + 16, "text-anchor": "middle", fill: ink, "font-size": 11 }));
    });
  });
  const y = height - 24;
  for (let i = 0; i < 60; i += 1) {
    drawn.push(element("rect", { x: left + 2 * i, y, width: 2, height: 10, fill: colour((i - 29.5) / 29.5, 1, theme).fill }));
  }
  drawn.push(text(short(-limit), { x: left - 6, y: y + 10, "text-anchor": "end", "font-size": 11 }));
  drawn.push(text(`+${short(limit)}`, { x: left + 126, y: y + 10, "font-size": 11 }));
  return drawing(width, height, theme, title, ...drawn);
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
