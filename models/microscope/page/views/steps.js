// The six steps of attention as a strip: forward above, backward below, for one step.

import { Bars } from "page/bars.js";
import { html, useState } from "page/core.js";
import { Controls } from "page/controls.js";
import { data, labels } from "page/data.js";
import { Formula } from "page/formula.js";
import { translator } from "page/i18n.js";
import { Legend } from "page/legend.js";
import { Near } from "page/near.js";
import { rounded } from "page/numbers.js";
import { endsOf, GradientState, symbol, title, Token } from "page/parts.js";
import { chosenBy, hash, place, select } from "page/selection.js";

// Of a row over channels or symbols, which have no names, the largest numbers tell the most.
const MOST = 12;
// Of a row over keys, all can be seen; at first those that the step looks at most, and the chosen one.
const FIRST = 16;

// The walk runs forward through the steps, then backward through them, as the computation did.
function walk(chosen, site, by) {
  const last = site.queries.length - 1;
  const place = chosen.part === "value" ? chosen.step : 2 * last + 1 - chosen.step;
  const next = Math.max(0, Math.min(2 * last + 1, place + by));
  select(next <= last ? { part: "value", step: next } : { part: "gradient", step: 2 * last + 1 - next });
}

export const order = 40;

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  const all = data.get();
  const site = all.site(chosen.site);
  const onKeyDown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const part = { ArrowUp: "value", ArrowDown: "gradient" }[event.key];
    if (!by && !part) return;
    event.preventDefault();
    if (by) walk(chosen, site, by);
    else select({ part });
  };
  return html`<${Controls} chosen=${chosen} />
    <div class="walk" tabindex="0" role="group" aria-label=${t("walk")} onKeyDown=${onKeyDown} id="walk">
      <button type="button" class="primary" onClick=${() => walk(chosen, site, -1)}>← ${t("earlier")}</button>
      <span class="where" role="status"><b class=${chosen.part}>${t(chosen.part === "value" ? "forward" : "backward")}</b>, <i>t</i> = ${chosen.step}, ${t(site.role === "self" ? "controls.symbol" : "controls.reads")} <${Token} text=${site.queries[chosen.step]} kind="chip-token" />
        ${site.role !== "self" && all.tokens[chosen.step] && html`, ${t("target")} <${Token} text=${all.tokens[chosen.step].expected} kind="chip-token" />`}</span>
      <button type="button" class="primary" onClick=${() => walk(chosen, site, 1)}>${t("later")} →</button>
      <span class="muted hint">${t("keys")}</span>
    </div>
    <${Legend} site=${site} />
    <div class="strips">
      <${Strip} site=${site} chosen=${chosen} part="value" />
      <${Strip} site=${site} chosen=${chosen} part="gradient" />
    </div>`;
}

function Strip({ site, chosen, part }) {
  return html`<section class=${`strip ${part} ${chosen.part === part ? "current" : ""}`} aria-label=${t(part === "value" ? "forward" : "backward")}>
    <h2>${part === "value" ? `${t("forward")} →` : `← ${t("backward")}`}</h2>
    <ol>${site.steps.map((step, i) => html`<${Card} key=${step.key} ...${{ site, step, chosen, part, i }} />`)}</ol>
  </section>`;
}

// Forward, what the step makes; backward, the gradients that leave it: of what it reads.
function Card({ site, step, chosen, part, i }) {
  const shown = part === "value" ? [step] : step.backward;
  return html`<${Near} as="li" class="step" content=${() => html`
    <h3 class="step-name"><span class="step-number">${i + 1}</span> ${t(`step.${step.key}`)}</h3>
    ${shown.map(({ tensor, latex }) => html`<${Entry} key=${tensor} ...${{ site, step, tensor: site.tensors[tensor], latex, chosen, part }} />`)}`} />`;
}

function Entry({ site, step, tensor, latex, chosen, part }) {
  if (!tensor) return html`<p class="note">${t("tensor.dropped")}</p>`;
  const arrives = part === "gradient" && tensor.name === step.tensor;
  return html`<div class="entry">
    <div class="entry-name"><b class=${part}>${symbol(tensor.name, part)}</b>${arrives ? html` <span class="muted">${t("arrives")}</span>` : ""}
      <a class="jump" href=${hash({ view: "site", tensor: tensor.name, part })} aria-label=${t("open", { name: title(tensor.name, part) })}>${t("matrix")} ↗</a></div>
    <${Formula} latex=${latex} block />
    ${tensor[part] ? html`<${Row} ...${{ site, tensor, chosen, part }} />`
      : html`<p class="note">${part === "gradient" && tensor.state === "none" ? html`<${GradientState} state="none" />` : t("tensor.dropped")}</p>`}
    ${part === "gradient" && tensor.name === "context" && html`<${Rest} site=${site} chosen=${chosen} />`}
  </div>`;
}

// The two ways by which the gradient of a context arrives, where there are two.
function Rest({ site, chosen }) {
  const { joined, context } = site.tensors;
  if (site.context_at === null || !joined?.gradient || !context.gradient) return null;
  const whole = rowOf(context, "gradient", chosen);
  const from = site.context_at + chosen.head * whole.length;
  const part = rowOf(joined, "gradient", chosen).slice(from, from + whole.length);
  const rest = whole.map((x, i) => x - part[i]);
  return rest.some((x) => x !== 0) && html`<div class="muted norm">${t("rest", { part: rounded(norm(part)), rest: rounded(norm(rest)) })}</div>`;
}

const norm = (numbers) => Math.sqrt(numbers.reduce((total, x) => total + (Number.isFinite(x) ? x * x : 0), 0));

// The row of the selected step, or of the selected key for a tensor whose rows are keys.
const rowOf = (tensor, part, chosen) => {
  const numbers = tensor[part];
  const { row } = place(tensor, chosen);
  return Array.from({ length: numbers.columns }, (_, i) => numbers.at(numbers.heads === 1 ? 0 : chosen.head, row, i));
};

// The keys that the step looks at most, the same ones on every card.
function lookedAt(site, { head, step, key }) {
  const weights = site.tensors.weights?.value;
  const order = site.keys.map((_, j) => j);
  if (weights && order.length > FIRST) order.sort((a, b) => weights.at(head, step, b) - weights.at(head, step, a) || a - b);
  return new Set([...order.slice(0, FIRST), key]);
}

function Row({ site, tensor, chosen, part }) {
  const numbers = tensor[part];
  const names = labels(site, tensor.axes[1], numbers.columns);
  const keyed = tensor.axes[1] === "key";
  const ofKey = tensor.axes[0] === "key";
  const line = rowOf(tensor, part, chosen);
  let entries = [...line.entries()];
  if (!keyed && entries.length > MOST) {
    const target = tensor.axes[1] === "symbol" ? data.get().tokens[chosen.step]?.expected_id : undefined;
    const size = ([j, x]) => (j === target ? Infinity : Math.abs(x)); // the target is always shown
    entries = entries.sort((a, b) => size(b) - size(a)).slice(0, MOST).sort(([a], [b]) => a - b);
  }
  const [whole, showWhole] = useState(false);
  const most = keyed && !whole ? lookedAt(site, chosen) : null;
  const shown = most ? entries.filter(([j]) => most.has(j)) : entries;
  const ends = endsOf(tensor, part);
  return html`${ofKey && html`<p class="note of-key">${t("of_key", { j: chosen.key })} <${Token} text=${site.keys[chosen.key]} /></p>`}
    <${Bars} caption=${t("numbers", { name: symbol(tensor.name, part) })} rows=${shown.map(([j, x]) => ({ name: names[j], x, ends, on: keyed && j === chosen.key }))}
      choose=${(i) => select(chosenBy(tensor, part, ofKey ? chosen.key : chosen.step, shown[i][0]))} />
      ${shown.length < entries.length && html`<button type="button" class="quiet" onClick=${() => showWhole(true)}>${t("more", { count: entries.length - shown.length })}</button>`}
    <div class="muted norm">${entries.length < numbers.columns && html`${t("largest", { shown: entries.length, all: numbers.columns })} · `}‖·‖ = ${rounded(norm(line))}</div>`;
}

export const words = {
  "en": {
    "title": "Six steps",
    "target": "target",
    "walk": "Walk through the steps, forward and then backward",
    "earlier": "Earlier",
    "later": "Later",
    "keys": "← → walk, ↑ ↓ change between forward and backward",
    "open": "Open the whole matrix: {name}",
    "matrix": "matrix",
    "arrives": "arrives from later ops",
    "of_key": "row j = {j} of the selected key",
    "rest": "through u: ‖·‖ = {part}; another way (r): ‖·‖ = {rest}",
    "numbers": "Numbers of {name} at this step",
    "more": "{count} more",
    "largest": "the {shown} largest of {all}",
    "step.score": "Score",
    "step.window": "Window",
    "step.softmax": "Softmax",
    "step.weighted_sum": "Weighted sum",
    "step.concatenation": "Concatenation",
    "step.attentional": "Attentional vector s̃",
    "step.output": "Output",
    "step.product": "Product QKᵀ",
    "step.scale": "Scale",
    "step.mask": "Mask",
    "step.joined": "Heads joined"
  },
  "ko": {
    "title": "여섯 단계",
    "target": "타깃",
    "walk": "스텝을 순전파로, 이어서 역전파로 따라가기",
    "earlier": "이전",
    "later": "다음",
    "keys": "← → 따라가기, ↑ ↓ 순전파와 역전파 바꾸기",
    "open": "전체 행렬 열기: {name}",
    "matrix": "행렬",
    "arrives": "뒤의 연산에서 옴",
    "of_key": "고른 키의 행 j = {j}",
    "rest": "u를 지나: ‖·‖ = {part}, 다른 길(r): ‖·‖ = {rest}",
    "numbers": "이 스텝에서 {name}의 숫자",
    "more": "{count}개 더",
    "largest": "{all}개 중 큰 것 {shown}개",
    "step.score": "스코어",
    "step.window": "창",
    "step.softmax": "소프트맥스",
    "step.weighted_sum": "가중합",
    "step.concatenation": "이어 붙이기",
    "step.attentional": "어텐션 벡터 s̃",
    "step.output": "출력",
    "step.product": "곱 QKᵀ",
    "step.scale": "스케일",
    "step.mask": "마스크",
    "step.joined": "헤드 합치기"
  }
};

const t = translator(words);
