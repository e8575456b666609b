// NumPy code for one cell, from the data's templates; models/microscope/checks/snippets.py is the same in Python.

import { literal } from "page/numbers.js";

const range = (size) => Array.from({ length: size }, (_, i) => i);

export function findSnippet(all, site, tensor, part) {
  const fits = all.snippets.filter((snippet) => snippet.tensor === tensor && snippet.part === part);
  return fits.find((snippet) => snippet.score === site.score) ?? fits.find((snippet) => snippet.score === "any") ?? null;
}

// The numbers of one name in a snippet, as (nested lists of) numbers, or null if they were dropped for size.
function numbersOf(site, [name, part, slice], head, row, column) {
  if (name === "scale") return site.scale;
  if (name === "column") return column;
  if (part === "mask") return range(site.keys.length).map((j) => (site.mask ? Boolean(site.mask.at(head, row, j)) : true));
  if (name === "gaussian" && !site.tensors.gaussian) return 1;
  const of = name === "mixture" ? (site.tensors.mixed ? "mixed" : "weights") : name;
  const array = part === "weight" ? site.parameters[of] : site.tensors[of]?.[part];
  if (!array) return null;
  const line = (i) => range(array.columns).map((j) => array.at(head, i, j));
  const down = (j) => range(array.rows).map((i) => array.at(head, i, j));
  const slices = {
    row: () => line(row),
    query_row: () => line(row),
    key_row: () => line(column),
    column: () => down(row),
    key_column: () => down(row),
    channel: () => down(column),
    all: () => (array.rows === 1 ? line(0) : range(array.rows).map(line)),
    element: () => array.at(head, part === "weight" ? 0 : row, column),
  };
  return slices[slice]();
}

function written(numbers) {
  if (Array.isArray(numbers)) return `[${numbers.map(written).join(", ")}]`;
  return typeof numbers === "boolean" ? (numbers ? "True" : "False") : literal(numbers);
}

// The code with its numbers, or null where some of them were dropped.
export function renderSnippet(snippet, site, head, row, column) {
  const lines = ["import numpy as np"];
  for (const [name, need] of Object.entries(snippet.needs)) {
    const numbers = numbersOf(site, need, head, row, column);
    if (numbers === null) return null;
    lines.push(`${name} = ${Array.isArray(numbers) ? `np.array(${written(numbers)})` : written(numbers)}`);
  }
  return [...lines, snippet.code].join("\n");
}
