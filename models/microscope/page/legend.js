// What the letters of the formulas stand for: one legend for all views, of the letters that a site's formulas have.

import { html } from "page/core.js";
import { letters } from "page/data.js";
import { Formula } from "page/formula.js";
import { t } from "page/i18n.js";

// The letters, accents, primes and brackets of LaTeX formulas, in their order, with a space between.
const spelled = (formulas) => ` ${(formulas.join(" ").replace(/\\text\{[^{}]*\}/g, "").match(/\\[A-Za-z]+|[A-Za-z[\]']/g) ?? []).join(" ")} `;

function formulasOf(site) {
  return [
    ...site.steps.flatMap(({ latex, backward }) => [latex, ...backward.map((leaving) => leaving.latex)]),
    ...Object.values(site.tensors).flatMap(({ latex }) => [latex.value, latex.gradient]),
  ];
}

const found = new WeakMap(); // by site its letters

function lettersOf(site) {
  if (!found.has(site)) {
    const present = spelled(formulasOf(site));
    found.set(site, Object.entries(letters).filter(([, [, sign]]) => present.includes(` ${sign} `)));
  }
  return found.get(site);
}

export function Legend({ site }) {
  const known = lettersOf(site);
  return html`<details class="legend"><summary>${t("legend.title")} <${Formula} latex=${letters.bar[0]} /> — ${t("letter.bar")}</summary>
    <dl>${known.filter(([name]) => name !== "bar").map(([name, [latex]]) => html`<div key=${name}><dt><${Formula} latex=${latex} /></dt><dd>${t(`letter.${name}`)}</dd></div>`)}</dl>
    <p class="note">${t("legend.counting")}</p>
  </details>`;
}
