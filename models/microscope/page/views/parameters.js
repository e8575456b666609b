// Every parameter with its gradient, and what each of its uses adds to it: a position, a time step, a layer that shares it.

import { html, useState } from "page/core.js";
import { data } from "page/data.js";
import { Heatmap } from "page/heatmap.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, percent, rounded } from "page/numbers.js";
import { Bar, GradientState, Token, visible } from "page/parts.js";
import { hash, select } from "page/selection.js";

export const order = 120;

// Of models whose parameters were recorded.
export const shows = (all) => all.parameters.length > 0;

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  const parameter = all.parameters.find(({ name }) => name === chosen.parameter) ?? largest(all.parameters);
  return html`<p class="lead">${t("lead")}</p>
    <${One} key=${parameter.name} ...${{ all, parameter, run: chosen.run }} />
    <${List} parameters=${all.parameters} chosen=${parameter} />`;
}

const largest = (parameters) => parameters.reduce((most, each) => ((each.gradient_norm ?? 0) > (most.gradient_norm ?? 0) ? each : most));

// The terms of a parameter's uses: the products left_n right_nᵀ, where the page has their vectors.
function termsOf(all, { uses, rows: kept }) {
  return uses.flatMap((group) => {
    const [left, right] = [all.array(group.left), all.array(group.right)];
    const first = kept ? 0 : (group.rows?.[0] ?? 0);
    return group.calls.map((call, n) => ({
      group, call, place: group.positions[n], share: group.shares[n], norm: group.norms[n],
      at: left && right && ((i, j) => (i < first || i >= first + left.columns ? 0 : left.at(0, n, i - first) * right.at(0, n, j))),
    }));
  });
}

// A matrix of `rows` and `columns` as a function of place, computed once, with the end of its colour scale and the place of
// its largest number.
function matrix(rows, columns, at) {
  const numbers = new Float64Array(rows * columns);
  let limit = 0;
  let most = [0, 0];
  for (let i = 0; i < rows; i += 1) {
    for (let j = 0; j < columns; j += 1) {
      const x = at(i, j);
      numbers[i * columns + j] = x;
      if (Number.isFinite(x) && Math.abs(x) > limit) [limit, most] = [Math.abs(x), [i, j]];
    }
  }
  return { at: (i, j) => numbers[i * columns + j], limit, most };
}

let cached = {};

// The numbers of a parameter; computed when it is first shown.
function numbersOf(all, parameter) {
  if (cached.all === all && cached.parameter === parameter) return cached;
  const value = all.array(parameter.value);
  const terms = termsOf(all, parameter);
  const columns = parameter.shape.slice(1).reduce((product, size) => product * size, 1);
  const rows = parameter.rows?.length ?? parameter.shape[0] ?? 1;
  const given = all.array(parameter.gradient);
  const told = terms.length > 0 && terms.every(({ at }) => at);
  const gradient = given ? matrix(rows, columns, (i, j) => given.at(0, i, j))
    : told ? matrix(rows, columns, (i, j) => terms.reduce((sum, { at }) => sum + at(i, j), 0)) : null;
  cached = { all, parameter, value: value && matrix(rows, columns, (i, j) => value.at(0, i, j)), gradient, terms, rows, columns, most: gradient?.most ?? [0, 0] };
  return cached;
}

function One({ all, parameter, run }) {
  const { value, gradient, terms, rows, columns, most } = numbersOf(all, parameter);
  const [[row, column], place] = useState(most);
  const [block, setBlock] = useState("");
  const [term, setTerm] = useState(() => terms.reduce((best, each, n) => (Math.abs(each.share) > Math.abs(terms[best].share) ? n : best), 0));
  const range = parameter.blocks.find(({ name }) => name === block)?.rows ?? [0, rows];
  const inBlock = terms.map((each, n) => [each, n]).filter(([{ group }]) => !group.rows || parameter.rows || (group.rows[0] < range[1] && group.rows[1] > range[0]));
  const used = inBlock.find(([, n]) => n === term) ?? inBlock[0];
  const at = [Math.max(range[0], Math.min(row, range[1] - 1)), column];
  const shown = { parameter, range, columns, at, place, run, block };
  return html`<section class="card parameter"><h2>${parameter.name} <span class="muted">${parameter.shape.join(" × ")}</span></h2>
    <div class="controls"><label>${t("parameter")} <select id="parameter" value=${parameter.name} onChange=${(event) => select({ parameter: event.target.value })}>
      ${all.parameters.map(({ name }) => html`<option key=${name} value=${name} selected=${name === parameter.name}>${name}</option>`)}</select></label></div>
    <${Facts} ...${{ parameter, block }} />
    ${parameter.blocks.length > 0 && html`<div class="controls" role="group" aria-label=${t("blocks")}>
      ${["", ...parameter.blocks.map(({ name }) => name)].map((name) => html`<button type="button" key=${name} aria-pressed=${block === name} onClick=${() => setBlock(name)}>${name ? `W ${name}` : t("whole")}</button>`)}</div>`}
    <div class="side-by-side" style=${{ "--wide": "34rem" }}>
      <${Matrix} ...${shown} numbers=${value} kind="value" letter="W" />
      <${Matrix} ...${shown} numbers=${gradient} kind="gradient" letter="∂L/∂W" />
    </div>
    ${used && html`<${Uses} ...${{ all, parameter, uses: inBlock, chosen: used[1], at, gradient, choose: setTerm }} />
      ${used[0].at && html`<${Matrix} ...${shown} numbers=${{ at: used[0].at, limit: gradient?.limit ?? used[0].norm }} kind=${`use${used[1]}`} letter=${t("use_matrix", { n: used[1] })} />`}`}
  </section>`;
}

function Facts({ parameter, block }) {
  const part = parameter.blocks.find(({ name }) => name === block) ?? parameter;
  const uses = parameter.uses.reduce((sum, { calls }) => sum + calls.length, 0);
  return html`<dl class="facts">
    <dt>‖W‖</dt><dd class="number" title=${full(part.norm)}>${rounded(part.norm)}</dd>
    <dt>‖∂L/∂W‖</dt><dd>${part.gradient_norm === null ? html`<${GradientState} state=${parameter.state} />` : html`<span class="number" id="gradient-norm" title=${full(part.gradient_norm)}>${rounded(part.gradient_norm)}</span>`}</dd>
    <dt>${t("uses")}</dt><dd>${t("uses_sum", { uses, off: rounded(parameter.off) })}</dd>
  </dl>${parameter.rows && html`<p class="note">${t("rows_kept", { kept: parameter.rows.length, all: parameter.shape[0] })}</p>`}`;
}

// The rows of a block; a vector, which is a column, lies down.
function Matrix({ parameter, numbers, range, columns, at: [row, column], place, run, block, kind, letter }) {
  if (!numbers) return html`<figure class="figure empty"><figcaption><span class="figure-title"><b>${letter}</b></span></figcaption><p class="note">${t("tensor.dropped")}</p></figure>`;
  const count = range[1] - range[0];
  const names = Array.from({ length: count }, (_, i) => visible(parameter.row_names?.[range[0] + i] ?? String(parameter.rows?.[range[0] + i] ?? i)));
  const channels = Array.from({ length: columns }, (_, j) => String(j));
  const lies = columns === 1;
  return html`<div class="site-heatmap"><${Heatmap} linked=${`parameter ${parameter.name} ${block}`} name=${`${parameter.name}-${kind}`} label=${`${letter} ${parameter.name}`} corner=${letter}
    caption=${html`<b class=${kind === "value" ? "value" : "gradient"}>${letter}</b>`}
    rows=${lies ? [parameter.name.split(".").pop()] : names} columns=${lies ? names : channels} ends=${[-numbers.limit, numbers.limit]}
    at=${lies ? (_, i) => numbers.at(range[0] + i, 0) : (i, j) => numbers.at(range[0] + i, j)}
    version=${`${parameter.name} ${block} ${kind} ${run}`} row=${lies ? 0 : row - range[0]} column=${lies ? row - range[0] : column} active=${kind === "gradient"}
    choose=${lies ? (_, i) => place([range[0] + i, 0]) : (i, j) => place([range[0] + i, j])} /></div>`;
}

// What each use adds: to the whole gradient, as a share, and to the chosen cell, as a number.
function Uses({ all, parameter, uses, chosen, at: [row, column], gradient, choose }) {
  const most = Math.max(...uses.map(([{ share }]) => Math.abs(share)));
  const largestHere = Math.max(...uses.map(([{ at }]) => (at ? Math.abs(at(row, column)) : 0)));
  const cell = `[${parameter.shape.length > 1 ? `${parameter.rows?.[row] ?? row}, ${column}` : row}]`;
  const total = uses.reduce((sum, [{ at }]) => sum + (at ? at(row, column) : NaN), 0);
  return html`<h3>${t("contributions")}</h3><p class="muted">${t("contributions_words", { cell })}</p>
    <div class="scroll tall" tabindex="0" role="region" aria-label=${t("contributions")}><table class="plain uses"><thead><tr><th scope="col">n</th><th scope="col">${t("where")}</th><th scope="col">${t("op")}</th>
      <th scope="col" class="number">${t("share")}</th><th scope="col"><span class="hidden">${t("share")}</span></th><th scope="col" class="number">‖·‖</th><th scope="col" class="number">${cell}</th><th scope="col"><span class="hidden">${cell}</span></th></tr></thead>
      <tbody>${uses.map(([term, n]) => html`<tr key=${n} class=${n === chosen ? "in-row" : ""}>
        <td><button type="button" class="quiet" aria-pressed=${n === chosen} onClick=${() => choose(n)}>${n}</button></td><th scope="row"><${Where} all=${all} term=${term} /></th>
        <td><a href=${hash({ view: "tape", op: term.call })}>${term.group.op} ${term.call}</a></td>
        <td class="number share" title=${full(term.share)}>${percent(term.share)}</td><td class="bar-cell"><${Bar} x=${term.share} ends=${[-most, most]} /></td>
        <td class="number" title=${full(term.norm)}>${rounded(term.norm)}</td>
        <td class="number here" title=${term.at ? full(term.at(row, column)) : ""}>${term.at ? rounded(term.at(row, column)) : "—"}</td><td class="bar-cell">${term.at && html`<${Bar} x=${term.at(row, column)} ends=${[-largestHere, largestHere]} />`}</td></tr>`)}</tbody>
      <tfoot><tr><td></td><th scope="row">${t("sum")}</th><td></td><td class="number">${percent(uses.reduce((sum, [{ share }]) => sum + share, 0))}</td><td></td><td></td>
        <td class="number" id="sum-of-uses" title=${full(total)}>${rounded(total)}</td><td>${gradient && html`<span class="muted">∂L/∂W${cell} = <span class="number">${rounded(gradient.at(row, column))}</span></span>`}</td></tr></tfoot></table></div>`;
}

// The symbol or time step of a use.
function Where({ all, term: { group, place } }) {
  const names = group.of === "source" ? all.source.tokens : group.of === "target" ? all.tokens.map(({ read }) => read) : null;
  return html`${group.of && html`<span class="muted">${t(`of.${all.source ? group.of : "text"}`)} ${place}</span> `}${names?.[place] !== undefined ? html`<${Token} text=${names[place]} kind="chip-token" />` : group.of ? "" : `${group.module} ${place}`}`;
}

function List({ parameters, chosen }) {
  const most = Math.max(...parameters.map((each) => each.gradient_norm ?? 0));
  return html`<section class="card"><h2>${t("all", { count: parameters.length })}</h2><div class="scroll tall" tabindex="0" role="region" aria-label=${t("all", { count: parameters.length })}><table class="plain"><thead><tr>
    <th scope="col">${t("parameter")}</th><th scope="col">${t("shape")}</th><th scope="col" class="number">‖W‖</th><th scope="col" class="number">‖∂L/∂W‖</th><th scope="col"><span class="hidden">‖∂L/∂W‖</span></th><th scope="col" class="number">${t("uses")}</th></tr></thead>
    <tbody>${parameters.map((each) => html`<tr key=${each.name} class=${each === chosen ? "in-row" : ""}><th scope="row"><button type="button" class="quiet" aria-pressed=${each === chosen} onClick=${() => select({ parameter: each.name })}>${each.name}</button></th>
      <td>${each.shape.join(" × ")}</td><td class="number" title=${full(each.norm)}>${rounded(each.norm)}</td>
      <td class="number" title=${each.gradient_norm === null ? "" : full(each.gradient_norm)}>${each.gradient_norm === null ? html`<${GradientState} state=${each.state} />` : rounded(each.gradient_norm)}</td><td class="bar-cell"><${Bar} x=${each.gradient_norm ?? 0} ends=${[0, most]} /></td>
      <td class="number">${each.uses.reduce((sum, { calls }) => sum + calls.length, 0)}</td></tr>`)}</tbody></table></div></section>`;
}

export const words = {
  "en": {
    "title": "Parameters",
    "lead": "A weight gets its gradient from every place that uses it. Where y = W x, a use adds the matrix ȳ xᵀ: what the loss asks of the output, times what came in. The gradient of W is the sum over all uses, be they the positions of a sentence, the time steps of a decoder, or two layers that share the weight. Every weight that is used learns: the maps of queries, keys and values, and the output map after them.",
    "blocks": "Which rows",
    "whole": "all rows",
    "uses": "uses",
    "uses_sum": "{uses}; added up, they differ from what backward recorded by {off} of its largest element",
    "rows_kept": "{kept} of {all} rows: the others belong to symbols that do not occur here, and get no gradient.",
    "contributions": "What each use adds",
    "contributions_words": "The share is that of the whole gradient: the use's matrix along the gradient, divided by the gradient's square; shares add up to 1, and one below zero works against the others. The last column is what the use adds to the cell {cell}: choose another cell in a matrix above.",
    "use_matrix": "ȳ xᵀ of use {n}",
    "where": "where",
    "op": "op",
    "share": "share",
    "sum": "sum",
    "of.source": "source",
    "of.target": "target",
    "of.text": "position",
    "all": "All {count|parameter|parameters}",
    "parameter": "parameter",
    "shape": "shape"
  },
  "ko": {
    "title": "파라미터",
    "lead": "가중치는 쓰인 곳마다에서 기울기를 받습니다. y = W x이면 한 번 쓰일 때 행렬 ȳ xᵀ가 더해집니다. 손실이 출력에 바라는 것에 들어온 것을 곱한 것입니다. W의 기울기는 쓰인 곳 전부에 대한 합이며, 문장의 위치이든, 디코더의 스텝이든, 가중치를 나누어 쓰는 두 층이든 같습니다. 쓰인 가중치는 모두 배웁니다. 쿼리, 키, 값의 사상도, 그 뒤의 출력 사상도 그렇습니다.",
    "blocks": "어느 행",
    "whole": "모든 행",
    "uses": "쓰임",
    "uses_sum": "{uses}번이며, 모두 더한 것과 역전파가 기록한 것의 차이는 가장 큰 원소의 {off}입니다",
    "rows_kept": "{all}행 중 {kept}행입니다. 나머지는 여기 나오지 않는 기호의 것이라 기울기를 받지 않습니다.",
    "contributions": "쓰임마다 더하는 것",
    "contributions_words": "몫은 전체 기울기에 대한 것입니다. 쓰임의 행렬을 기울기에 내적하고 기울기의 제곱으로 나눈 값이라 모두 더하면 1이고, 0보다 작은 것은 나머지와 반대로 당깁니다. 마지막 열은 그 쓰임이 칸 {cell}에 더하는 값입니다. 위의 행렬에서 다른 칸을 고를 수 있습니다.",
    "use_matrix": "쓰임 {n}의 ȳ xᵀ",
    "where": "위치",
    "op": "연산",
    "share": "몫",
    "sum": "합",
    "of.source": "소스",
    "of.target": "타깃",
    "of.text": "위치",
    "all": "파라미터 {count}개 모두",
    "parameter": "파라미터",
    "shape": "모양"
  }
};

const t = translator(words);
