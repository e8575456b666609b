// The tour on paper: its questions with blanks, the softmax and its gradient by hand, and the key on a page of its own.

import { html } from "page/core.js";
import { full } from "page/numbers.js";
import { opening } from "page/opening.js";
import { Token } from "page/parts.js";
import { select } from "page/selection.js";

const ROWS = 4; // symbols that have a row of the table; the others share one
const DIGITS = 3;

const written = (x) => full(Number.isFinite(x) ? Number(x.toPrecision(DIGITS)) : x);

export function Worksheet({ all, stops, t, withKey }) {
  const asked = stops.filter(({ missing }) => !missing);
  const table = tableOf(all);
  return html`<p class="sheet-buttons"><button type="button" class="primary" onClick=${() => window.print()}>${t("sheet.print")}</button>
      <button type="button" onClick=${() => select({ sheet: withKey ? "blank" : "key" })}>${t(withKey ? "sheet.blank" : "sheet.key")}</button>
      <button type="button" onClick=${() => select({ sheet: "" })}>${t("sheet.tour")}</button></p>
    <article class="sheet"><${Sheet} ...${{ all, asked, table, t }} /></article>
    ${withKey && html`<article class="sheet answers"><${Sheet} ...${{ all, asked, table, t, answers: true }} /></article>`}`;
}

function Sheet({ all, asked, table, t, answers = false }) {
  return html`<h2>${t("sheet.title")}${answers ? html` — ${t("sheet.answers")}` : ""}</h2>
    ${!answers && html`<p class="sheet-name">${t("sheet.name")} <span class="blank wide"></span></p><p>${t("sheet.lead", { model: all.meta.model })}</p>`}
    <p class="sentence">${all.source && html`<bdi>${all.source.text}</bdi> → `}<bdi>${all.target.text}</bdi></p>
    <ol class="sheet-stops">${asked.map((stop) => html`<li key=${stop.name}><h3>${t(`stop.${stop.name}.title`)}</h3>
      ${!answers && html`<p>${t(`stop.${stop.name}.tells`, stop.holes)}</p><p><b>${t(`stop.${stop.name}.asks`, stop.holes)}</b></p>`}
      <ul class="boxes">${stop.choices.map((choice, i) => (answers && i !== stop.right ? "" : html`<li key=${i}>${answers ? "☒" : "☐"} ${choice.token === undefined ? t(choice.text, choice.holes) : html`<${Token} text=${choice.token} />`}</li>`))}</ul>
      <p class="blanks">${(answers ? stop.numbers : stop.numbers.slice(0, stop.byHand)).map(([label, x, symbol], i) => html`<span key=${i}>${label}${symbol === undefined ? "" : html` (<${Token} text=${symbol} />)`} = ${answers ? html`<b class="number" title=${full(x)}>${written(x)}</b>` : html`<span class="blank"></span>`}</span>`)}</p>
      ${answers && html`<p>${t(`stop.${stop.name}.because`, stop.holes)}</p>`}</li>`)}</ol>
    ${table && html`<${ByHand} ...${{ table, t, answers }} />`}`;
}

// The row of the opening step: the symbols with the largest weights, and all others as one; null without such a row.
function tableOf(all) {
  const { site: id, head, step } = opening(all);
  const site = all.sites.find((each) => each.id === id);
  const { scores, weights } = site?.tensors ?? {};
  if (!scores?.value || !weights?.value || !weights.gradient || site.role === "self") return null;
  const keys = site.keys.map((_, j) => j).filter((j) => site.allowed(head, step, j));
  if (keys.length < 2) return null;
  const most = Math.max(...keys.map((j) => scores.value.at(head, step, j)));
  const cells = keys.map((j) => ({ name: site.keys[j], e: scores.value.at(head, step, j) - most, alpha: weights.value.at(head, step, j), d: weights.gradient.at(head, step, j) }));
  for (const cell of cells) Object.assign(cell, { exp: Math.exp(cell.e), product: cell.alpha * cell.d });
  const order = [...cells].sort((a, b) => b.alpha - a.alpha);
  const add = (those, name) => those.reduce((total, cell) => total + cell[name], 0);
  const mean = add(cells, "product");
  for (const cell of cells) Object.assign(cell, { less: cell.d - mean, score: cell.alpha * (cell.d - mean) });
  const others = order.slice(ROWS);
  const total = (those) => Object.fromEntries(["exp", "alpha", "product", "score"].map((name) => [name, add(those, name)]));
  return { step, rows: order.slice(0, ROWS), others: others.length ? total(others) : null, sums: total(cells) };
}

const COLUMNS = [["e − max e", "e"], ["exp", "exp"], ["α = exp / S", "alpha"], ["∂L/∂α", "d"], ["α · ∂L/∂α", "product"], ["∂L/∂α − m", "less"], ["∂L/∂e = α (∂L/∂α − m)", "score"]];
const GIVEN = ["e", "d"];

function ByHand({ table, t, answers }) {
  // Of the others what goes into the sums is given; the sums are for the learner.
  const cell = (row, name, given) => (row[name] === undefined ? "" : given || answers ? html`<span class="number" title=${full(row[name])}>${written(row[name])}</span>` : html`<span class="blank"></span>`);
  return html`<section class="by-hand"><h3>${t("sheet.table", { t: table.step })}</h3>${!answers && html`<p>${t("sheet.table_words")}</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label=${t("sheet.table", { t: table.step })}><table class="plain"><thead><tr><td></td>${COLUMNS.map(([label]) => html`<th scope="col" key=${label} class="number">${label}</th>`)}</tr></thead><tbody>
      ${table.rows.map((row, i) => html`<tr key=${i}><th scope="row"><${Token} text=${row.name} /></th>${COLUMNS.map(([label, name]) => html`<td key=${label} class="number">${cell(row, name, GIVEN.includes(name))}</td>`)}</tr>`)}
      ${table.others && html`<tr><th scope="row">${t("sheet.others")}</th>${COLUMNS.map(([label, name]) => html`<td key=${label} class="number">${cell(table.others, name, name === "exp" || name === "product")}</td>`)}</tr>`}
      <tr><th scope="row">${t("sheet.sum")}</th>${COLUMNS.map(([label, name]) => html`<td key=${label} class="number">${cell(table.sums, name, false)}</td>`)}</tr>
    </tbody></table></div></section>`;
}
