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

// An expression is a tree whose leaves are numbers; it can be computed and written down.
export const number = (value) => ({ value, write: (format) => bracketed(value, format(value)) });

export const sum = (terms) => ({
  value: terms.reduce((total, term) => total + term.value, 0),
  write: (format) => (terms.length ? terms.map((term) => term.write(format)).join(" + ") : "0"),
  loose: true,
});

export const product = (...factors) => ({
  value: factors.reduce((total, factor) => total * factor.value, 1),
  write: (format) => factors.map((factor) => tight(factor, format)).join(" · "),
});

export const minus = (left, right) => ({
  value: left.value - right.value,
  write: (format) => `${left.write(format)} − ${tight(right, format)}`,
  loose: true,
});

export const quotient = (above, below) => ({
  value: above.value / below.value,
  write: (format) => `${tight(above, format)} / ${tight(below, format)}`,
});

export const applied = (name, compute, inner) => ({
  value: compute(inner.value),
  write: (format) => `${name}(${inner.write(format)})`,
});

const tight = (inner, format) => (inner.loose ? `(${inner.write(format)})` : inner.write(format));
const bracketed = (value, text) => (value < 0 || Object.is(value, -0) ? `(${text})` : text);
