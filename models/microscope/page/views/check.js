// Everything a reader needs to check the selected number without this page.

import { download, html, useState } from "../core.js";
import { Controls } from "../controls.js";
import { data } from "../data.js";
import { Formula } from "../formula.js";
import { t } from "../i18n.js";
import { sampled } from "../inspector.js";
import { full, rounded } from "../numbers.js";
import { symbol, title, Token, Verdict } from "../parts.js";
import { localDifference } from "../recipes.js";
import { chosenBy, describe, place, select } from "../selection.js";
import { findSnippet, renderSnippet } from "../snippet.js";

export function Check({ chosen }) {
  const all = data.get();
  const site = all.site(chosen.site);
  if (!site) return html`<${Controls} chosen=${chosen} />`;
  const tensor = site.tensors[chosen.tensor];
  const { part, head } = chosen;
  const { row, column } = place(tensor, chosen);
  const names = describe(site, tensor, row, column);
  const x = tensor[part]?.at(head, row, column);
  return html`<${Controls} chosen=${chosen} />
    <${Picker} ...${{ site, tensor, part, row, column }} />
    <section class="card"><h2><span class=${part}>${symbol(tensor.name, part)}</span><sub>${row},${column}</sub> = <span class="number" id="checked">${x === undefined ? "—" : full(x)}</span></h2>
      <p class="muted">${title(tensor.name, part)} — <${Token} text=${names.row} /> × <${Token} text=${names.column} /></p></section>
    <div class="columns">
      <${Code} ...${{ all, site, tensor, part, head, row, column }} />
      <${Differences} ...${{ site, tensor, part, head, row, column, x }} />
    </div>
    <${Samples} all=${all} />
    <section class="card"><h2>${t("check.data")}</h2><p>${t("check.data_words", { schema: all.schema })}</p>
      <button type="button" class="primary" onClick=${() => download("microscope.json", new Blob([document.getElementById("data").textContent], { type: "application/json" }))}>${t("check.data_save")}</button></section>`;
}

function Picker({ site, tensor, part, row, column }) {
  const move = (change) => {
    const name = change.tensor ?? tensor.name;
    const next = site.tensors[name];
    const at = { row, column, ...change };
    select(name === tensor.name ? chosenBy(next, change.part ?? part, at.row, at.column) : { tensor: name, part: change.part ?? part });
  };
  const field = (name, value, size) => html`<label>${t(`picker.${name}`)} <input type="number" min="0" max=${size - 1} value=${value}
    onChange=${(event) => move({ [name]: Math.max(0, Math.min(size - 1, Math.trunc(Number(event.target.value)) || 0)) })} /></label>`;
  return html`<div class="controls" role="group" aria-label=${t("picker.label")}>
    <label>${t("picker.tensor")} <select value=${tensor.name} onChange=${(event) => move({ tensor: event.target.value })}>
      ${Object.keys(site.tensors).map((name) => html`<option key=${name} value=${name} selected=${name === tensor.name}>${symbol(name)} — ${t(`tensor.${name}`)}</option>`)}</select></label>
    <label>${t("picker.part")} <select value=${part} onChange=${(event) => move({ part: event.target.value })}>
      <option value="value" selected=${part === "value"}>${t("forward")}</option><option value="gradient" selected=${part === "gradient"}>${t("backward")}</option></select></label>
    ${field("row", row, tensor.shape.at(-2))}${field("column", column, tensor.shape.at(-1))}
  </div>`;
}

function Code({ all, site, tensor, part, head, row, column }) {
  const [copied, setCopied] = useState("");
  const found = findSnippet(all, site, tensor.name, part);
  const code = found && renderSnippet(found, site, head, row, column);
  if (!code) return html`<section class="card"><h2>NumPy</h2><p class="note">${t(found ? "tensor.dropped" : part === "gradient" ? "inspector.arrives" : "inspector.given")}</p></section>`;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
    } catch {
      // The browser keeps the clipboard from pages on disk: select the text and use the old command.
      getSelection().selectAllChildren(document.getElementById("snippet"));
      document.execCommand("copy");
    }
    setCopied(code);
  };
  return html`<section class="card code"><h2>NumPy <button type="button" class="primary" onClick=${copy}>${t("check.copy")}</button> <span role="status" class="muted">${copied === code ? t("check.copied") : ""}</span></h2>
    <p>${t("check.paste")}</p>
    <${Formula} latex=${found.latex} block />
    <pre tabindex="0" role="region" aria-label=${t("check.snippet")}><code id="snippet">${code}</code></pre></section>`;
}

function Differences({ site, tensor, part, head, row, column, x }) {
  const whole = sampled(site, tensor, part, head, row, column);
  const local = part === "gradient" && x !== undefined ? localDifference(site, tensor.name, head, row, column) : null;
  const close = local && Math.abs(local.difference - x) <= 1e-5 * Math.max(tensor.gradient.limit(), 1e-12);
  return html`<section class="card"><h2>${t("check.difference")}</h2>
    <${Formula} latex=${CENTRAL} block />
    ${part === "value" && html`<p class="note">${t("check.forward_only")}</p>`}
    ${whole && html`<h3>${t("check.whole")}</h3><dl class="facts">
      <dt>L(x + ε)</dt><dd class="number">${full(whole.plus)}</dd><dt>L(x − ε)</dt><dd class="number">${full(whole.minus)}</dd>
      <dt>ε</dt><dd class="number">${full(whole.eps)}</dd><dt>${t("check.central")}</dt><dd class="number" id="difference">${full(whole.difference)}</dd>
      <dt>${t("check.gradient")}</dt><dd class="number">${full(whole.gradient)}</dd><dt>${t("failures.error")}</dt><dd><${Verdict} holds=${whole.holds} /> <span class="number">${rounded(whole.error)}</span></dd></dl>`}
    ${local ? html`<h3>${t("check.local", { next: symbol(local.next) })}</h3><p class="muted">${t("check.local_words", { next: symbol(local.next) })}</p><dl class="facts">
      <dt>ℓ(x + ε)</dt><dd class="number">${full(local.plus)}</dd><dt>ℓ(x − ε)</dt><dd class="number">${full(local.minus)}</dd>
      <dt>ε</dt><dd class="number">${full(local.eps)}</dd><dt>${t("check.central")}</dt><dd class="number" id="local-difference">${full(local.difference)}</dd>
      <dt>${t("check.gradient")}</dt><dd class="number">${full(x)}</dd><dt>${t("failures.error")}</dt><dd><${Verdict} holds=${close} /> <span class="number">${rounded(Math.abs(local.difference - x))}</span></dd></dl>`
      : part === "gradient" && !whole && html`<p class="note">${t("check.no_difference")}</p>`}
  </section>`;
}

const CENTRAL = "\\frac{\\partial L}{\\partial x} \\approx \\frac{L(x + \\varepsilon) - L(x - \\varepsilon)}{2\\,\\varepsilon}";

function Samples({ all }) {
  const [shown, show] = useState(false);
  const { cells } = all.check;
  return html`<details class="card" onToggle=${(event) => show(event.currentTarget.open)}><summary>${t("check.samples", { count: cells.length })}</summary>
    ${shown && html`<div class="scroll tall" tabindex="0" role="region" aria-label=${t("check.samples", { count: cells.length })}><table class="plain"><thead><tr>
      <th scope="col">${t("controls.site")}</th><th scope="col">${t("picker.tensor")}</th><th scope="col">${t("controls.head")}</th><th scope="col">${t("check.place")}</th>
      <th scope="col" class="number">${t("check.gradient")}</th><th scope="col" class="number">${t("check.central")}</th><th scope="col" class="number">${t("failures.error")}</th><th scope="col">${t("check.verdict")}</th></tr></thead>
      <tbody>${cells.map((cell, i) => html`<tr key=${i}>
        <td>${cell.site}</td><td>${symbol(cell.tensor, "gradient")}</td><td class="number">${cell.head}</td>
        <td><button type="button" class="quiet" onClick=${() => choose(all, cell)}>[${cell.row}, ${cell.column}]</button></td>
        <td class="number">${rounded(cell.gradient)}</td><td class="number">${rounded(cell.difference)}</td><td class="number">${rounded(cell.error)}</td><td><${Verdict} holds=${cell.holds} /></td></tr>`)}</tbody></table></div>`}
  </details>`;
}

function choose(all, cell) {
  const tensor = all.site(cell.site).tensors[cell.tensor];
  if (tensor) select({ site: cell.site, head: cell.head, ...chosenBy(tensor, "gradient", cell.row, cell.column) });
}
