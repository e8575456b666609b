// One cell: its formula, the formula with the cell's own numbers in it, and the result beside what was recorded.

import { html } from "page/core.js";
import { data } from "page/data.js";
import { agrees, Formula } from "page/formula.js";
import { t } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { symbol, title, Token, Verdict } from "page/parts.js";
import { recipe } from "page/recipes.js";
import { describe, hash, place } from "page/selection.js";

export function sampled(site, tensor, part, head, row, column) {
  if (part !== "gradient") return null;
  return data.get().check.cells.find(
    (cell) => cell.site === site.id && cell.tensor === tensor.name && cell.head === head && cell.row === row && cell.column === column,
  );
}

const isMasked = ({ site, tensor, head, row, column }) => tensor.axes.join() === "query,key" && !site.allowed(head, row, column);

// That a query may not attend to a key: the mask, not the numbers, makes weight and gradient 0 there.
export function Masked({ part, ...cell }) {
  const { tensor } = cell;
  return isMasked(cell) ? html`<p class="note masked-cell">${t(tensor.name === "scores" && part === "value" ? "masked.score" : "masked.zero")}</p>` : null;
}

export function Inspector({ site, chosen }) {
  const tensor = site.tensors[chosen.tensor];
  const { part, head } = chosen;
  const { row, column } = place(tensor, chosen);
  const names = describe(site, tensor, row, column);
  const numbers = tensor[part];
  const name = symbol(tensor.name, part);
  return html`<section class="inspector" aria-label=${t("inspector.label")}>
    <h2><span class=${part}>${name}</span><sub>${row},${column}</sub></h2>
    <p class="muted">${title(tensor.name, part)}<br />
      ${site.heads > 1 ? `${t("controls.head")} ${head} · ` : ""}<${Index} axis=${tensor.axes[0]} number=${row} name=${names.row} /> ·
      ${" "}<${Index} axis=${tensor.axes[1]} number=${column} name=${names.column} /></p>
    <${Masked} ...${{ site, tensor, part, head, row, column }} />
    ${numbers ? html`<${Numbers} ...${{ site, tensor, part, head, row, column, x: numbers.at(head, row, column) }} />` : html`<p class="note">${t("tensor.dropped")}</p>`}
    <p><a href=${hash({ view: "check" })}>${t("inspector.check")}</a></p>
  </section>`;
}

const LETTERS = { query: "t", key: "j", channel: "i", symbol: "n" };

// The place along an axis: "key j = 11 구".
export function Index({ axis, number, name }) {
  return html`<span class="index">${t(`axis.${axis}`)} <i>${LETTERS[axis]}</i> = ${number}${name === String(number) ? "" : html` <${Token} text=${name} kind="chip-token" />`}</span>`;
}

function Numbers({ site, tensor, part, head, row, column, x }) {
  const found = recipe(site, tensor.name, part, head, row, column);
  const measured = sampled(site, tensor, part, head, row, column);
  const masked = isMasked({ site, tensor, head, row, column });
  return html`
    ${tensor.latex[part] && html`<h3>${t("inspector.formula")}</h3>`}
    <${Formula} latex=${tensor.latex[part]} block />
    ${masked && x === 0 ? "" : found
      ? html`<h3>${t("inspector.numbers")}</h3>
        <div class="expression" tabindex="0" role="region" aria-label=${t("inspector.rounded")}><span class="tag">${t("inspector.rounded")}</span> ${found.write(rounded)} ≈ <b>${rounded(found.value)}</b></div>
        <div class="expression exact" tabindex="0" role="region" aria-label=${t("inspector.exact")}><span class="tag">${t("inspector.exact")}</span> ${found.write(full)} = <b>${full(found.value)}</b></div>`
      : html`<p class="note">${t(part === "gradient" ? "inspector.arrives" : "inspector.given")}</p>`}
    <dl class="facts">
      <dt>${t("inspector.recorded")}</dt><dd class="number" id="recorded">${full(x)}</dd>
      <dt>${t("inspector.rounded")}</dt><dd class="number">${rounded(x)}</dd>
      ${found && html`<dt>${t("inspector.agrees")}</dt><dd><${Verdict} holds=${agrees(found, x)} /> <span class="number">${rounded(Math.abs(found.value - x) || 0)}</span></dd>`}
      ${measured && html`<dt>${t("central_difference")}</dt><dd>${measured.resolved ? html`<${Verdict} holds=${measured.holds} />` : t(`unresolved.${measured.reason}`)} <span class="number">${full(measured.difference)}</span></dd>`}
    </dl>`;
}
