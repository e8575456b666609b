// How each cell at a site of attention follows from the numbers before it: an expression of those numbers.
// The forward recipes also serve local finite differences, with one number changed.

import { applied, minus, number, product, quotient, sum } from "page/formula.js";

const range = (size) => Array.from({ length: size }, (_, i) => i);

// Thrown for numbers that the page doesn't have: they were dropped for size, or the score has no expression.
class Missing extends Error {}

function present(array, name) {
  if (!array) throw new Missing(name);
  return array;
}

function unlessMissing(compute) {
  try {
    return compute();
  } catch (error) {
    if (error instanceof Missing) return null;
    throw error;
  }
}

// A reader of a site's numbers. `change` is {tensor, row, column, by}: that one number is read with `by` added.
function reader(site, head, change = null) {
  const get = (tensor, part, row, column) => {
    const x = present(site.tensors[tensor]?.[part], tensor).at(head, row, column);
    const changed = change && part === "value" && change.tensor === tensor && change.row === row && change.column === column;
    return changed ? x + change.by : x;
  };
  return {
    site,
    head,
    x: (tensor, row, column) => number(get(tensor, "value", row, column)),
    g: (tensor, row, column) => number(get(tensor, "gradient", row, column)),
    parameter: (name, row, column) => number(present(site.parameters[name], name).at(0, row, column)),
    open: (row) => range(site.keys.length).filter((column) => site.allowed(head, row, column)),
  };
}

const channels = (site, tensor) => range(present(site.tensors[tensor], tensor).shape.at(-1));
const mix = (site) => ("mixed" in site.tensors ? "mixed" : "weights");
const dot = ({ site, x }, row, column) =>
  sum(channels(site, "Q").map((c) => product(x("Q", row, c), x("K", column, c))));

// What an index runs over: t queries, j keys, any other letter channels.
const span = (index, { site }) => (index === "t" ? range(site.queries.length) : index === "j" ? range(site.keys.length) : channels(site, "Q"));
const OPERATIONS = {
  "*": product,
  "+": (...terms) => sum(terms),
  "-": minus,
  tanh: (inner) => applied("tanh", Math.tanh, (x, z) => 1 - z * z, inner),
  square: (inner) => ({ value: inner.value ** 2, terms: inner.terms ** 2, write: (format) => `${inner.write(format)}²` }),
};

// A score's expression (tinygrad_attn/nn/scores/base.py) at indices { t, j, … }, with the site's numbers in it; `channel`
// is the place of an index that no sum runs over, and that is neither t nor j.
function written(expression, read, place) {
  if (!Array.isArray(expression)) return number(expression);
  const [head, ...parts] = expression;
  if (head === "sum") {
    const [index, inner] = parts;
    return sum(span(index, read).map((at) => written(inner, read, { ...place, [index]: at })));
  }
  if (head in OPERATIONS) return OPERATIONS[head](...parts.map((part) => written(part, read, place)));
  const at = parts.map((index) => place[index] ?? place.channel);
  if (head === "Q" || head === "K") return read.x(head, ...at);
  if (head === "e") return read.x("scores", ...at);
  if (head === "de") return read.g("scores", ...at);
  if (head === "s") return number(read.site.scale);
  return read.parameter(head, ...[0, 0, ...at].slice(-2));
}

// The expression of a score at (t, j), or of its gradient for Q at (t, i) or K at (j, i).
function ofScore(tensor, read, row, column) {
  const known = present(read.site.recipes[tensor], tensor);
  return written(known, read, { t: row, j: tensor === "scores" ? column : row, channel: column });
}

const values = {
  product: (read, row, column) => dot(read, row, column),
  scores: (read, row, column) => ofScore("scores", read, row, column),
  masked: ({ site, head, x }, row, column) => (site.allowed(head, row, column) ? x("scores", row, column) : number(-Infinity)),
  weights: ({ site, head, x, open }, row, column) => {
    if (!site.allowed(head, row, column)) return number(0);
    const all = open(row).map((k) => x("scores", row, k));
    const most = Math.max(...all.map((e) => e.value));
    const shifted = (e) => (most > 600 ? minus(e, number(most)) : e); // e^x is infinite from 710 on
    const exp = (e) => applied("exp", Math.exp, (x, z) => z, shifted(e));
    return quotient(exp(x("scores", row, column)), sum(all.map(exp)));
  },
  mixed: ({ x }, row, column) => product(x("weights", row, column), x("gaussian", row, column)),
  context: ({ site, x }, row, column) =>
    sum(range(site.keys.length).map((j) => product(x(mix(site), row, j), x("V", j, column)))),
};

const gradients = {
  mixed: ({ site, x, g }, row, column) =>
    sum(channels(site, "context").map((c) => product(g("context", row, c), x("V", column, c)))),
  weights: (read, row, column) => {
    const { site, x, g } = read;
    return "mixed" in site.tensors
      ? product(g("mixed", row, column), x("gaussian", row, column))
      : gradients.mixed(read, row, column);
  },
  scores: ({ site, head, x, g, open }, row, column) => {
    if (!site.allowed(head, row, column)) return number(0);
    const mixture = sum(open(row).map((k) => product(x("weights", row, k), g("weights", row, k))));
    return product(x("weights", row, column), minus(g("weights", row, column), mixture));
  },
  masked: ({ g }, row, column) => g("scores", row, column),
  product: ({ site, g }, row, column) => product(number(site.scale), g("scores", row, column)),
  Q: (read, row, column) => ofScore("Q", read, row, column),
  K: (read, row, column) => ofScore("K", read, row, column),
  V: ({ site, x, g }, row, column) =>
    sum(range(site.queries.length).map((i) => product(x(mix(site), i, row), g("context", i, column)))),
};

// The expression of a cell, or null where the page doesn't hold the numbers that it needs.
export function recipe(site, tensor, part, head, row, column) {
  const known = (part === "value" ? values : gradients)[tensor];
  return known ? unlessMissing(() => known(reader(site, head), row, column)) : null;
}

// Which cells of the next tensor depend on a cell: the sum of their changes, weighed by their gradients, is the cell's.
const NEXT = {
  scores: (site, row) => ["weights", range(site.keys.length).map((k) => [row, k])],
  weights: (site, row, column) =>
    "mixed" in site.tensors ? ["mixed", [[row, column]]] : ["context", channels(site, "context").map((c) => [row, c])],
  mixed: (site, row) => ["context", channels(site, "context").map((c) => [row, c])],
  V: (site, row, column) => ["context", range(site.queries.length).map((i) => [i, column])],
  Q: (site, row) => ["scores", range(site.keys.length).map((k) => [row, k])],
  K: (site, row) => ["scores", range(site.queries.length).map((i) => [i, row])],
};

// Steps of the local differences, in the order in which they are tried: a sharp softmax needs smaller ones.
const STEPS = [1e-5, 1e-6, 1e-4, 1e-7, 1e-3];
const TOLERANCE = 1e-5;
const EPSILON = 2 ** -52;

// The central difference of a cell through the one op that reads it, beside the gradient x; null as for `recipe`. It
// `holds` if they agree; if it is not `resolved`, no step tells: the rounding of ℓ or its curvature hide the gradient.
export function localDifference(site, tensor, head, row, column, x) {
  if (!(tensor in NEXT) || !site.tensors[tensor]?.value) return null;
  const [next, cells] = NEXT[tensor](site, row, column);
  const { gradient } = site.tensors[next] ?? {};
  if (!gradient) return null;
  const loss = (by) => {
    const read = reader(site, head, { tensor, row, column, by });
    return sum(cells.filter(([i, j]) => gradient.at(head, i, j) !== 0).map(([i, j]) => product(number(gradient.at(head, i, j)), values[next](read, i, j))));
  };
  const allowed = TOLERANCE * Math.max(site.tensors[tensor].gradient.limit(), Math.abs(x));
  return unlessMissing(() => {
    const tried = STEPS.map((eps) => {
      const [above, below] = [loss(eps), loss(-eps)];
      const difference = (above.value - below.value) / (2 * eps);
      return { next, eps, plus: above.value, minus: below.value, difference, rounding: (EPSILON * (above.terms + below.terms)) / eps };
    });
    const close = tried.find(({ difference }) => Math.abs(difference - x) <= allowed);
    if (close) return { ...close, resolved: true, holds: true };
    const ordered = [...tried].sort((a, b) => a.eps - b.eps);
    const unsure = ordered.slice(0, -1).map((each, i) => [Math.abs(ordered[i + 1].difference - each.difference) + each.rounding, each]);
    const [uncertainty, best] = unsure.reduce((least, each) => (each[0] < least[0] ? each : least));
    return { ...best, resolved: Math.abs(best.difference - x) > 8 * uncertainty, holds: false };
  });
}
