// Everything a reader needs to check the selected number without this page.

import { download, html, useState } from "page/core.js";
import { Controls } from "page/controls.js";
import { central, data } from "page/data.js";
import { Formula } from "page/formula.js";
import { translator } from "page/i18n.js";
import { Index, Masked, sampled } from "page/inspector.js";
import { Legend } from "page/legend.js";
import { full, rounded } from "page/numbers.js";
import { symbol, title, Verdict } from "page/parts.js";
import { localDifference } from "page/recipes.js";
import { chosenBy, describe, place, select } from "page/selection.js";
import { findSnippet, renderSnippet } from "page/snippet.js";

export const order = 90;

export function View({ chosen }) {
  const all = data.get();
  const site = all.site(chosen.site);
  if (!site) return html`<p class="note">${t("no_site")}</p><${Rest} all=${all} />`;
  const tensor = site.tensors[chosen.tensor];
  const { part, head } = chosen;
  const { row, column } = place(tensor, chosen);
  const names = describe(site, tensor, row, column);
  const x = tensor[part]?.at(head, row, column);
  return html`<${Controls} chosen=${chosen} />
    <${Picker} ...${{ site, tensor, part, row, column }} />
    <section class="card"><h2><span class=${part}>${symbol(tensor.name, part)}</span><sub>${row},${column}</sub> = <span class="number" id="checked">${x === undefined ? "—" : full(x)}</span></h2>
      <p class="muted">${title(tensor.name, part)}, <${Index} axis=${tensor.axes[0]} number=${row} name=${names.row} />, <${Index} axis=${tensor.axes[1]} number=${column} name=${names.column} /></p>
      <${Masked} ...${{ site, tensor, part, head, row, column }} /></section>
    <div class="columns">
      <${Code} ...${{ all, site, tensor, part, head, row, column }} />
      <${Differences} ...${{ site, tensor, part, head, row, column, x }} />
    </div>
    <${Legend} site=${site} />
    <${Rest} all=${all} />`;
}

// What does not depend on the chosen cell.
function Rest({ all }) {
  return html`<${Samples} all=${all} />
    <section class="card"><h2>${t("data")}</h2><p>${t("data_words", { schema: all.schema })}</p>
      <button type="button" class="primary" onClick=${() => download("microscope.json", new Blob([document.getElementById("data").textContent], { type: "application/json" }))}>${t("data_save")}</button></section>`;
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
  return html`<section class="card code"><h2>NumPy <button type="button" class="primary" onClick=${copy}>${t("copy")}</button> <span role="status" class="muted">${copied === code ? t("copied") : ""}</span></h2>
    <p>${t("paste")}</p>
    <${Formula} latex=${tensor.latex[part]} block />
    <pre tabindex="0" role="region" aria-label=${t("snippet")}><code id="snippet">${code}</code></pre></section>`;
}

function Differences({ site, tensor, part, head, row, column, x }) {
  const whole = sampled(site, tensor, part, head, row, column);
  const local = part === "gradient" && x !== undefined ? localDifference(site, tensor.name, head, row, column, x) : null;
  return html`<section class="card"><h2>${t("difference")}</h2>
    <${Formula} latex=${central} block />
    ${part === "value" && html`<p class="note">${t("forward_only")}</p>`}
    ${whole && html`<h3>${t("whole")}</h3><dl class="facts">
      <dt>L(x + ε)</dt><dd class="number">${full(whole.plus)}</dd><dt>L(x − ε)</dt><dd class="number">${full(whole.minus)}</dd>
      <dt>ε</dt><dd class="number">${full(whole.eps)}</dd><dt>${t("central_difference")}</dt><dd class="number" id="difference">${full(whole.difference)}</dd>
      <dt>${t("gradient")}</dt><dd class="number">${full(whole.gradient)}</dd><dt>${t("error")}</dt><dd>${whole.resolved ? html`<${Verdict} holds=${whole.holds} />` : t(`unresolved.${whole.reason}`)} <span class="number">${rounded(whole.error)}</span></dd></dl>`}
    ${local ? html`<h3>${t("local", { next: symbol(local.next) })}</h3><p class="muted">${t("local_words", { next: symbol(local.next) })}</p><dl class="facts">
      <dt>ℓ(x + ε)</dt><dd class="number">${full(local.plus)}</dd><dt>ℓ(x − ε)</dt><dd class="number">${full(local.minus)}</dd>
      <dt>ε</dt><dd class="number">${full(local.eps)}</dd><dt>${t("central_difference")}</dt><dd class="number" id="local-difference">${full(local.difference)}</dd>
      <dt>${t("gradient")}</dt><dd class="number">${full(x)}</dd><dt>${t("error")}</dt><dd>${local.resolved ? html`<${Verdict} holds=${local.holds} />` : t("unresolved.rounding")} <span class="number">${rounded(Math.abs(local.difference - x))}</span></dd></dl>`
      : part === "gradient" && !whole && html`<p class="note">${t("no_difference")}</p>`}
  </section>`;
}

function Samples({ all }) {
  const [shown, show] = useState(false);
  const { cells } = all.check;
  return html`<details class="card" onToggle=${(event) => show(event.currentTarget.open)}><summary>${t("samples", { count: cells.length })}</summary>
    ${shown && html`<div class="scroll tall" tabindex="0" role="region" aria-label=${t("samples", { count: cells.length })}><table class="plain"><thead><tr>
      <th scope="col">${t("controls.site")}</th><th scope="col">${t("picker.tensor")}</th><th scope="col">${t("controls.head")}</th><th scope="col">${t("place")}</th>
      <th scope="col" class="number">${t("gradient")}</th><th scope="col" class="number">${t("central_difference")}</th><th scope="col" class="number">${t("error")}</th><th scope="col">${t("verdict")}</th></tr></thead>
      <tbody>${cells.map((cell, i) => html`<tr key=${i}>
        <td>${cell.site}</td><td>${symbol(cell.tensor, "gradient")}</td><td class="number">${cell.head}</td>
        <td><button type="button" class="quiet" onClick=${() => choose(all, cell)}>[${cell.row}, ${cell.column}]</button></td>
        <td class="number">${rounded(cell.gradient)}</td><td class="number">${rounded(cell.difference)}</td><td class="number">${rounded(cell.error)}</td><td>${cell.resolved ? html`<${Verdict} holds=${cell.holds} />` : t(`unresolved.${cell.reason}`)}</td></tr>`)}</tbody></table></div>`}
  </details>`;
}

function choose(all, cell) {
  const tensor = all.site(cell.site)?.tensors[cell.tensor];
  if (tensor) select({ site: cell.site, head: cell.head, ...chosenBy(tensor, "gradient", cell.row, cell.column) });
}

export const words = {
  "en": {
    "title": "Check it yourself",
    "no_site": "This model announces no attention, so there is no cell to choose. The gradients of its weights were compared with finite differences, too.",
    "picker.label": "Which number",
    "picker.tensor": "Tensor",
    "picker.part": "Pass",
    "picker.row": "Row (from 0)",
    "picker.column": "Column (from 0)",
    "copy": "Copy",
    "copied": "copied",
    "paste": "Paste it into Python: it prints the number above, up to the order in which sums are added.",
    "snippet": "NumPy code",
    "difference": "Finite difference",
    "gradient": "gradient on this page",
    "whole": "Through the whole model",
    "local": "Through the next op, {next}",
    "local_words": "ℓ is the sum of the {next} that read this number, each times its gradient. Your browser computed it just now.",
    "forward_only": "A value of the forward pass needs no difference: choose the backward pass.",
    "no_difference": "This cell is not among the sampled ones, and the page does not hold what the next op reads. See the samples below.",
    "samples": "All {count} gradients that were compared with differences through the whole model",
    "place": "cell",
    "verdict": "verdict",
    "data": "The data",
    "data_words": "Everything on this page comes from one JSON of the documented schema {schema}.",
    "data_save": "Save the JSON"
  },
  "ko": {
    "title": "직접 확인하기",
    "no_site": "이 모델은 어텐션을 알리지 않으므로 고를 칸이 없습니다. 가중치의 기울기는 유한 차분과 비교했습니다.",
    "picker.label": "어느 숫자",
    "picker.tensor": "텐서",
    "picker.part": "패스",
    "picker.row": "행(0부터)",
    "picker.column": "열(0부터)",
    "copy": "복사",
    "copied": "복사했습니다",
    "paste": "파이썬에 붙여 넣으면 위의 숫자가 나옵니다(더하는 순서에 따른 차이까지).",
    "snippet": "NumPy 코드",
    "difference": "유한 차분",
    "gradient": "이 페이지의 기울기",
    "whole": "모델 전체를 지나서",
    "local": "다음 연산 {next}만 지나서",
    "local_words": "ℓ은 이 숫자를 읽는 {next}에 각각의 기울기를 곱해 더한 것입니다. 방금 브라우저가 계산했습니다.",
    "forward_only": "순전파의 값에는 차분이 필요 없습니다. 역전파를 고르세요.",
    "no_difference": "이 칸은 표본에 없고, 다음 연산이 읽는 숫자도 페이지에 없습니다. 아래 표본을 보세요.",
    "samples": "모델 전체를 지나는 차분과 비교한 기울기 {count}개",
    "place": "칸",
    "verdict": "판정",
    "data": "데이터",
    "data_words": "이 페이지의 모든 것은 문서화된 스키마 {schema}의 JSON 하나에서 나옵니다.",
    "data_save": "JSON 저장"
  }
};

const t = translator(words);
