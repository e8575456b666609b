// Formulas: those that came as MathML, and expressions of a cell's own numbers.

import { html } from "page/core.js";
import { mathml } from "page/data.js";

export function Formula({ latex, block }) {
  if (!latex) return null;
  const markup = mathml(latex);
  const name = block ? "formula formula-block" : "formula";
  if (!markup) return html`<code class=${name}>${latex}</code>`;
  return html`<span class=${name} tabindex=${block ? 0 : undefined} dangerouslySetInnerHTML=${{ __html: markup }}></span>`;
}

// Without a font for mathematics some browsers put subscripts on the line; the page's style then lowers them itself.
export function mendSubscripts() {
  const box = document.createElement("div");
  box.innerHTML = "<math><msub><mi>x</mi><mi>x</mi></msub></math>";
  document.body.append(box);
  const [above, below] = [...box.querySelectorAll("mi")].map((mi) => mi.getBoundingClientRect().bottom);
  box.remove();
  document.documentElement.classList.toggle("low-subscripts", below - above < 1.5);
}

// An expression is a tree whose leaves are numbers; it can be computed and written down. Its `terms` are the size of what
// may have cancelled in its value, which is what its rounding error is in proportion to.
export const number = (value) => ({ value, terms: Math.abs(value), write: (format) => bracketed(value, format(value)) });

export const sum = (parts) => ({
  value: parts.reduce((total, part) => total + part.value, 0),
  terms: parts.reduce((total, part) => total + part.terms, 0),
  write: (format) => (parts.length ? parts.map((part) => part.write(format)).join(" + ") : "0"),
  loose: true,
});

export const product = (...factors) => ({
  value: factors.reduce((total, factor) => total * factor.value, 1),
  terms: factors.reduce((total, factor) => total * factor.terms, 1),
  write: (format) => factors.map((factor) => tight(factor, format)).join(" · "),
});

export const minus = (left, right) => ({
  value: left.value - right.value,
  terms: left.terms + right.terms,
  write: (format) => `${left.write(format)} − ${tight(right, format)}`,
  loose: true,
});

export const quotient = (above, below) => ({
  value: above.value / below.value,
  terms: (above.terms + Math.abs(above.value / below.value) * below.terms) / Math.abs(below.value),
  write: (format) => `${tight(above, format)} / ${tight(below, format)}`,
});

// A function of one number; its derivative at x with the value z carries the terms on.
export const applied = (name, compute, derivative, inner) => {
  const value = compute(inner.value);
  return {
    value,
    terms: Math.abs(value) + Math.abs(derivative(inner.value, value)) * inner.terms,
    write: (format) => `${name}(${inner.write(format)})`,
  };
};

// Whether a recorded number is the computed one, up to roundings of the terms.
const ROUNDINGS = 1e-9;
export const agrees = (found, x) =>
  Object.is(found.value, x) || found.value === x || Math.abs(found.value - x) <= ROUNDINGS * Math.max(found.terms, 1e-290);

const tight = (inner, format) => (inner.loose ? `(${inner.write(format)})` : inner.write(format));
const bracketed = (value, text) => (value < 0 || Object.is(value, -0) ? `(${text})` : text);
