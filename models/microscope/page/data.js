// The microscope's data (models/microscope/record/schema.py) as objects with the numbers at hand.

import { embedded, makeStore } from "page/core.js";
import { language } from "page/i18n.js";

const KINDS = { float64: Float64Array, float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };

class Matrices {
  // An array of axes (heads, rows, columns), or fewer, the first ones then being 1.
  constructor({ dtype, shape, base64 }) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    this.values = new KINDS[dtype](bytes.buffer);
    [this.heads, this.rows, this.columns] = [1, 1, 1, ...shape].slice(-3);
    this.largest = null;
  }

  at(head, row, column) {
    const h = this.heads === 1 ? 0 : head;
    return Number(this.values[(h * this.rows + row) * this.columns + column]);
  }

  // The largest finite |x| of all heads: the end of the colour scale, so that heads and steps compare.
  limit() {
    this.largest ??= this.values.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
    return this.largest;
  }
}

// Numbers that follow from stored ones: change(x, head, row, column), which makes them `factor` times as large at most.
class Derived {
  constructor(base, change, factor = 1) {
    this.base = base;
    this.change = change;
    this.factor = Math.abs(factor);
    [this.heads, this.rows, this.columns] = [base.heads, base.rows, base.columns];
  }

  at(head, row, column) {
    return this.change(this.base.at(head, row, column), head, row, column);
  }

  limit() {
    return this.base.limit() * this.factor;
  }
}

function openTensor(name, stored, array) {
  return {
    name,
    axes: stored.axes.slice(-2),
    shape: stored.shape,
    state: stored.state,
    norm: stored.norm,
    gradientNorm: stored.gradient_norm,
    calls: stored.calls,
    latex: { value: stored.latex, gradient: stored.gradient_latex },
    value: array(stored.value),
    gradient: array(stored.gradient),
  };
}

function openSite(site, symbols, array) {
  const tensors = {};
  for (const [name, stored] of Object.entries(site.tensors)) if (stored) tensors[name] = openTensor(name, stored, array);
  const mask = array(site.mask);
  const allowed = (head, row, column) => !mask || mask.at(head, row, column) === 1;
  const parameters = Object.fromEntries(Object.entries(site.weights).map(([name, id]) => [name, array(id)]));
  for (const [name, made] of Object.entries(computed(site, tensors.scores, allowed))) {
    if (!site.steps.some((step) => step.tensor === name)) continue;
    const formula = site.steps.find((step) => step.tensor === name).latex;
    const gradient = site.steps.flatMap((step) => step.backward).find((leaving) => leaving.tensor === name)?.latex ?? "";
    tensors[name] = { ...tensors.scores, name, latex: { value: formula, gradient }, ...made };
  }
  return { ...site, tensors, mask, allowed, parameters, symbols };
}

// The two tensors that follow from the scores: before scaling, and after the mask.
function computed(site, { value, gradient }, allowed) {
  const masked = (x, head, row, column) => (allowed(head, row, column) ? x : -Infinity);
  return {
    product: {
      value: value && new Derived(value, (x) => x / site.scale, 1 / site.scale),
      gradient: gradient && new Derived(gradient, (x) => x * site.scale, site.scale),
    },
    masked: { value: value && new Derived(value, masked), gradient },
  };
}

function open(raw) {
  const opened = new Map();
  const array = (id) => {
    if (id == null) return null;
    if (!opened.has(id)) opened.set(id, lazy(() => new Matrices(raw.arrays[id])));
    return opened.get(id);
  };
  const sites = raw.sites.map((site) => openSite(site, raw.symbols, array));
  return { ...raw, sites, array, site: (id) => sites.find((site) => site.id === id) ?? sites[0] };
}

// An array is decoded at its first use.
function lazy(make) {
  let made = null;
  const get = () => (made ??= make());
  return {
    at: (...place) => get().at(...place),
    limit: () => get().limit(),
    get heads() { return get().heads; },
    get rows() { return get().rows; },
    get columns() { return get().columns; },
  };
}

export const data = makeStore(open(embedded("data")));

export function replaceData(raw) {
  data.set(open(raw));
}

// The labels along an axis of a site's tensors.
export function labels(site, axis, size) {
  if (axis === "query") return site.queries;
  if (axis === "key") return site.keys;
  if (axis === "symbol") return site.symbols;
  return Array.from({ length: size }, (_, i) => String(i));
}

const formulas = embedded("formulas"); // { en: { LaTeX: MathML }, ko: those that have words, own: the page's own LaTeX }

export const { central, letters, tour: tourFormulas } = formulas.own;

// The MathML of a LaTeX formula in the reader's language; null for one that this page was made without.
export function mathml(latex) {
  return formulas[language.get()]?.[latex] ?? formulas.en[latex] ?? null;
}
