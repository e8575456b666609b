// The softmax of one row, differentiated: J = diag(α) − ααᵀ, times the gradient of the weights; and the same in words.

import { html, useState } from "page/core.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { Formula } from "page/formula.js";
import { Heatmap } from "page/heatmap.js";
import { translator, useLanguage } from "page/i18n.js";
import { Legend } from "page/legend.js";
import { full, rounded, signed } from "page/numbers.js";
import { Bar, source, Token, Verdict, visible } from "page/parts.js";
import { hash, select } from "page/selection.js";

const ROUNDING = 1e-9;
const SATURATED = 1e-6; // below this share of the gradient of the weights nothing to speak of passes the softmax

// The row as it was for temperature 1, and as it would be for another: softmax(e / τ), the gradient of α unchanged.
function rowAt(site, head, step, temperature) {
  const { scores, weights } = site.tensors;
  const keys = site.keys.map((_, j) => j).filter((j) => site.allowed(head, step, j));
  const recorded = keys.map((j) => weights.value.at(head, step, j));
  const dAlpha = keys.map((j) => weights.gradient.at(head, step, j));
  const e = keys.map((j) => scores.value.at(head, step, j));
  const most = Math.max(...e);
  const grown = e.map((x) => Math.exp((x - most) / temperature));
  const total = grown.reduce((sum, x) => sum + x, 0);
  const alpha = temperature === 1 ? recorded : grown.map((x) => x / total);
  const mixture = alpha.reduce((sum, a, i) => sum + a * dAlpha[i], 0);
  const dScore = alpha.map((a, i) => (a * (dAlpha[i] - mixture)) / temperature);
  // What cancels in each: the roundings of ∂L/∂e are in proportion to it.
  const spread = alpha.reduce((sum, a, i) => sum + Math.abs(a * dAlpha[i]), 0);
  const terms = alpha.map((a, i) => a * (Math.abs(dAlpha[i]) + spread));
  return { keys, e, alpha, dAlpha, mixture, dScore, terms };
}

export const order = 60;

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  useLanguage();
  const [temperature, setTemperature] = useState(1);
  const site = data.get().site(chosen.site);
  const ready = site && site.tensors.weights.value && site.tensors.weights.gradient && site.tensors.scores.value;
  if (!ready) return html`<${Controls} chosen=${chosen} /><p class="note">${t(site ? "tensor.dropped" : "site.none")}</p>`;
  const row = rowAt(site, chosen.head, chosen.step, temperature);
  const { keys, alpha, dAlpha, mixture, dScore } = row;
  if (!keys.length) return html`<${Controls} chosen=${chosen} /><p class="note">${t("all_masked")}</p>`;
  const recorded = keys.map((j) => site.tensors.scores.gradient?.at(chosen.head, chosen.step, j) ?? NaN);
  const names = keys.map((j) => site.keys[j]);
  const at = (i, j) => ((i === j ? alpha[i] : 0) - alpha[i] * alpha[j]) / temperature;
  const mine = Math.max(0, keys.indexOf(chosen.key));
  const largest = Math.max(0, ...keys.flatMap((_, i) => keys.map((__, j) => Math.abs(at(i, j)))).filter(Number.isFinite));
  return html`<${Controls} chosen=${chosen} />
    <${Temperature} ...${{ row, temperature, setTemperature }} />
    ${!keys.includes(chosen.key) && html`<p class="alert calm" role="note">${t("chosen_masked", { j: chosen.key })}</p>`}
    <${Legend} site=${site} />
    <section class="card"><h2>${t("words")}</h2><${Words} ...${{ name: names[mine], keys, alpha: alpha[mine], d: dAlpha[mine], mixture, dScore: dScore[mine], temperature }} />
      <${Formula} latex=${site.tensors.scores.latex.gradient} block /></section>
    <div class="jacobian">
      <${Heatmap} name=${`${site.id}-jacobian-row${chosen.step}`} label=${t("matrix")} caption=${html`<b>J</b> ${t("matrix")}`} corner="J"
        rows=${names} columns=${names} at=${at} ends=${[-largest, largest]} version=${`${site.id} ${chosen.head} ${chosen.step} ${temperature} ${chosen.run}`}
        row=${mine} column=${mine} active choose=${(i) => select({ key: keys[i] })} />
      <${Products} ...${{ row, names, mine, recorded, whatIf: temperature !== 1 }} />
    </div>`;
}

// The softmax is flat where the scores, divided by the temperature, lie within 1; the slider goes that far at least.
function Temperature({ row: { e, alpha }, temperature, setTemperature }) {
  const spread = Math.max(...e) - Math.min(...e);
  const furthest = Number.isFinite(spread) ? Math.max(2, Math.ceil(Math.log2(Math.max(spread, 1)))) : 2;
  const whatIf = temperature !== 1;
  const passing = Math.max(...alpha.map((a) => a * (1 - a)));
  const written = temperature < 100 ? temperature.toFixed(2) : rounded(temperature);
  return html`<div class="card temperature ${whatIf ? "what-if" : ""}">
    <label for="temperature">${t("temperature")} τ = <output>${written}</output></label>
    <input id="temperature" type="range" min="-2" max=${furthest} step="0.05" value=${Math.log2(temperature)}
      aria-valuetext=${`τ = ${written}`} onInput=${(event) => setTemperature(2 ** Number(event.target.value))} />
    <button type="button" disabled=${!whatIf} onClick=${() => setTemperature(1)}>τ = 1</button>
    <span role="status">${whatIf ? html`<b class="tag-what-if">${t("what_if")}</b> ${t("what_if_words")}` : html`<span class="muted">${t("as_recorded")}</span>`}
      ${alpha.length > 1 && passing < SATURATED ? html` <b>${t("saturated", { passing: rounded(passing) })}</b>` : ""}</span>
  </div>`;
}

function Products({ row: { keys, alpha, dAlpha, mixture, dScore, terms }, names, mine, recorded, whatIf }) {
  const off = Math.max(...dScore.map((x, i) => Math.abs(x - recorded[i])));
  const agrees = dScore.every((x, i) => Object.is(x, recorded[i]) || Math.abs(x - recorded[i]) <= ROUNDING * Math.max(terms[i], 1e-290));
  const [mostA, mostD, mostS] = [alpha, dAlpha, dScore].map((xs) => Math.max(...xs.map(Math.abs)));
  const both = !whatIf && !agrees; // a wrong derivative: show it beside the right one
  return html`<div class="card scroll" tabindex="0" role="region" aria-label=${t("table")}><table class="plain products"><caption>${t("table")}</caption><thead><tr>
      <th scope="col">${t("axis.key")}</th><th scope="col" class="number">α</th><th scope="col" class="number">∂L/∂α</th>
      <th scope="col" class="number">${t("less_mean")}</th><th scope="col" class="number">${t(both ? "right" : "result")}</th>
      ${both && html`<th scope="col" class="number bad">${t("recorded_result")}</th>`}</tr></thead>
      <tbody>${keys.map((key, i) => html`<tr key=${key} class=${i === mine ? "in-row" : ""} onClick=${() => select({ key })}>
        <th scope="row"><a href=${hash({ key })}><${Token} text=${names[i]} /></a></th>
        <td class="number measured" title=${full(alpha[i])}>${rounded(alpha[i])}<${Bar} x=${alpha[i]} ends=${[0, mostA]} /></td>
        <td class="number measured" title=${full(dAlpha[i])}>${signed(dAlpha[i])}<${Bar} x=${dAlpha[i]} ends=${[-mostD, mostD]} /></td>
        <td class="number">${signed(dAlpha[i] - mixture)}</td>
        <td class="number measured jacobian-result" title=${full(dScore[i])}>${signed(dScore[i])}<${Bar} x=${dScore[i]} ends=${[-mostS, mostS]} /></td>
        ${both && html`<td class="number bad" title=${full(recorded[i])}>${signed(recorded[i])}</td>`}
      </tr>`)}</tbody></table>
      <p>${t("mean")} Σ α·∂L/∂α = <span class="number">${full(mixture)}</span></p>
      ${!whatIf && html`<p><${Verdict} holds=${agrees} /> ${t(agrees ? "agrees" : "disagrees", { off: rounded(off) })}</p>`}
    </div>`;
}

function Words({ name, keys, alpha, d, mixture, dScore, temperature }) {
  const difference = d - mixture;
  const holes = {
    name: visible(name), alpha: rounded(alpha), d: signed(d), mean: signed(mixture), difference: signed(difference),
    result: signed(dScore), divided: temperature === 1 ? "" : ` / ${rounded(temperature)}`,
    effect: t(effect(keys.length, alpha, difference, dScore)),
  };
  const { not_finite: found } = data.get().check;
  return html`<p class="words">${t("sentence", holes)}${!Number.isFinite(dScore) && found ? ` ${source(found)}` : ""}</p>`;
}

// What a larger score would do or, where it would do nothing, the reason.
function effect(count, alpha, difference, dScore) {
  if (!Number.isFinite(dScore)) return "not_finite";
  if (count === 1) return "alone";
  if (alpha === 0) return "underflow";
  if (dScore === 0 && alpha > 1 - SATURATED) return "full";
  return dScore > 0 ? "raises" : dScore < 0 ? "lowers" : "still";
}

export const words = {
  "en": {
    "title": "Softmax Jacobian",
    "temperature": "Temperature",
    "what_if": "What if",
    "what_if_words": "the scores were divided by τ? The weights and the Jacobian follow; ∂L/∂α stays as recorded.",
    "as_recorded": "As recorded (τ = 1). Move the slider to the right for a flatter softmax, to the left for a sharper one.",
    "saturated": "This softmax is saturated: α(1 − α) is at most {passing}, so almost no gradient passes it. Move the slider to the right to see it pass.",
    "all_masked": "All keys are masked for this query: its weights, its context and all their gradients are 0.",
    "chosen_masked": "The chosen key j = {j} is masked for this query: it takes no part in the softmax. The first key that does is shown.",
    "matrix": "Jacobian of the softmax, diag(α) − ααᵀ",
    "table": "Jacobian times the gradient of the weights",
    "less_mean": "∂L/∂α − mean",
    "result": "∂L/∂e",
    "right": "J · ∂L/∂α",
    "recorded_result": "∂L/∂e as recorded",
    "mean": "Mean of ∂L/∂α, weighted by α:",
    "words": "In words",
    "sentence": "«{name}» has the weight α = {alpha}. The gradient of this weight is ∂L/∂α = {d}; the mean of ∂L/∂α over the row, weighted by α, is {mean}. The difference is {difference}. ∂L/∂e = α × difference{divided} = {alpha} × ({difference}){divided} = {result}: {effect}",
    "raises": "a larger score raises the loss, so gradient descent lowers the score and moves attention away from here.",
    "lowers": "a larger score lowers the loss, so gradient descent raises the score and draws attention here.",
    "still": "∂L/∂α equals the mean, so a change of this score does not change the loss.",
    "alone": "this is the only key, so its weight is 1 whatever its score is.",
    "full": "the weight is 1 in all 16 digits, so the mean is this key's own ∂L/∂α: the softmax is saturated, and no gradient passes.",
    "underflow": "the weight is 0 in float64 because the score lies too far below the others: the softmax is saturated, and no gradient passes.",
    "not_finite": "some of these numbers are not finite. The summary names the first op that made such a number.",
    "agrees": "J · ∂L/∂α equals the recorded ∂L/∂e; the largest difference is {off}",
    "disagrees": "J · ∂L/∂α is not the recorded ∂L/∂e; the largest difference is {off}"
  },
  "ko": {
    "title": "소프트맥스 야코비안",
    "temperature": "온도",
    "what_if": "만약",
    "what_if_words": "스코어를 τ로 나누면 어떻게 될까요? 가중치와 야코비안이 따라 바뀝니다. ∂L/∂α는 기록된 그대로 둡니다.",
    "as_recorded": "기록된 그대로입니다(τ = 1). 슬라이더를 오른쪽으로 움직이면 소프트맥스가 평평해지고, 왼쪽으로 움직이면 뾰족해집니다.",
    "saturated": "이 소프트맥스는 포화되었습니다. α(1 − α)가 커야 {passing}이므로 기울기가 거의 지나가지 못합니다. 슬라이더를 오른쪽으로 움직여 보세요.",
    "all_masked": "이 쿼리에서는 모든 키가 마스크되었습니다. 가중치, 컨텍스트와 그 기울기가 모두 0입니다.",
    "chosen_masked": "고른 키 j = {j}는 이 쿼리에서 마스크되어 소프트맥스에 들어가지 않습니다. 대신 처음으로 들어가는 키를 보여 줍니다.",
    "matrix": "소프트맥스의 야코비안, diag(α) − ααᵀ",
    "table": "야코비안 × 가중치의 기울기",
    "less_mean": "∂L/∂α − 평균",
    "result": "∂L/∂e",
    "right": "J · ∂L/∂α",
    "recorded_result": "기록된 ∂L/∂e",
    "mean": "α로 가중한 ∂L/∂α의 평균:",
    "words": "말로 하면",
    "sentence": "«{name}»의 가중치는 α = {alpha}입니다. 이 가중치의 기울기는 ∂L/∂α = {d}이고, α로 가중한 이 행의 ∂L/∂α 평균은 {mean}입니다. 차이는 {difference}입니다. ∂L/∂e = α × 차이{divided} = {alpha} × ({difference}){divided} = {result}: {effect}",
    "raises": "이 스코어가 커지면 손실이 커지므로, 경사 하강은 스코어를 낮추고 어텐션을 여기서 떼어 냅니다.",
    "lowers": "이 스코어가 커지면 손실이 작아지므로, 경사 하강은 스코어를 높이고 어텐션을 여기로 끌어옵니다.",
    "still": "∂L/∂α가 평균과 같으므로, 이 스코어가 바뀌어도 손실은 바뀌지 않습니다.",
    "alone": "키가 하나뿐이므로 스코어가 무엇이든 가중치는 1입니다.",
    "full": "가중치가 16자리까지 1이므로 평균이 이 키의 ∂L/∂α와 같습니다. 소프트맥스가 포화되어 기울기가 지나가지 못합니다.",
    "underflow": "스코어가 다른 것보다 너무 작아 가중치가 float64에서 0입니다. 소프트맥스가 포화되어 기울기가 지나가지 못합니다.",
    "not_finite": "유한하지 않은 숫자가 있습니다. 그런 숫자를 처음 만든 연산은 요약에 있습니다.",
    "agrees": "J · ∂L/∂α는 기록된 ∂L/∂e와 같습니다. 가장 큰 차이는 {off}입니다.",
    "disagrees": "J · ∂L/∂α가 기록된 ∂L/∂e와 다릅니다. 가장 큰 차이는 {off}입니다."
  }
};

const t = translator(words);
