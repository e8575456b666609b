// The softmax of one row, differentiated: J = diag(α) − ααᵀ, times the gradient of the weights; and the same in words.

import { html, useState } from "page/core.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { Formula } from "page/formula.js";
import { Heatmap } from "page/heatmap.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, rounded, signed } from "page/numbers.js";
import { Bar, Token, Verdict, visible } from "page/parts.js";
import { hash, select } from "page/selection.js";

const ROUNDING = 1e-9;

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
  return { keys, alpha, dAlpha, mixture, dScore };
}

export const order = 4;

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  useLanguage();
  const [temperature, setTemperature] = useState(1);
  const site = data.get().site(chosen.site);
  const ready = site && site.tensors.weights.value && site.tensors.weights.gradient && site.tensors.scores.value;
  if (!ready) return html`<${Controls} chosen=${chosen} /><p class="note">${t(site ? "tensor.dropped" : "site.none")}</p>`;
  const { keys, alpha, dAlpha, mixture, dScore } = rowAt(site, chosen.head, chosen.step, temperature);
  const recorded = keys.map((j) => site.tensors.scores.gradient?.at(chosen.head, chosen.step, j) ?? NaN);
  const names = keys.map((j) => site.keys[j]);
  const at = (i, j) => ((i === j ? alpha[i] : 0) - alpha[i] * alpha[j]) / temperature;
  const mine = Math.max(0, keys.indexOf(chosen.key));
  const whatIf = temperature !== 1;
  const size = Math.max(...recorded.map(Math.abs), 1e-30);
  const off = Math.max(...dScore.map((x, i) => Math.abs(x - recorded[i])));
  const [mostA, mostD, mostS] = [alpha, dAlpha, dScore].map((xs) => Math.max(...xs.map(Math.abs)));
  return html`<${Controls} chosen=${chosen} />
    <div class="card temperature ${whatIf ? "what-if" : ""}">
      <label for="temperature">${t("temperature")} τ = <output>${temperature.toFixed(2)}</output></label>
      <input id="temperature" type="range" min="-2" max="2" step="0.05" value=${Math.log2(temperature)}
        aria-valuetext=${`τ = ${temperature.toFixed(2)}`} onInput=${(event) => setTemperature(2 ** Number(event.target.value))} />
      <button type="button" disabled=${!whatIf} onClick=${() => setTemperature(1)}>τ = 1</button>
      <span role="status">${whatIf ? html`<b class="tag-what-if">${t("what_if")}</b> ${t("what_if_words")}` : html`<span class="muted">${t("as_recorded")}</span>`}</span>
    </div>
    <section class="card"><h2>${t("words")}</h2><${Words} ...${{ name: names[mine], alpha: alpha[mine], d: dAlpha[mine], mixture, dScore: dScore[mine], temperature }} />
      <${Formula} latex=${site.tensors.scores.latex.gradient} block /></section>
    <div class="jacobian">
      <${Heatmap} name=${`${site.id}-jacobian-row${chosen.step}`} label=${t("matrix")} caption=${html`<b>J</b> ${t("matrix")}`} corner="J"
        rows=${names} columns=${names} at=${at} limit=${0.25 / Math.min(1, temperature)} version=${`${site.id} ${chosen.head} ${chosen.step} ${temperature} ${chosen.run}`}
        row=${mine} column=${mine} active choose=${(i) => select({ key: keys[i] })} />
      <div class="card scroll" tabindex="0" role="region" aria-label=${t("table")}><table class="plain products"><caption>${t("table")}</caption><thead><tr>
        <th scope="col">${t("axis.key")}</th><th scope="col" class="number">α</th><th scope="col" class="number">∂L/∂α</th>
        <th scope="col" class="number">∂L/∂α − Σα·∂L/∂α</th><th scope="col" class="number">∂L/∂e</th></tr></thead>
        <tbody>${keys.map((key, i) => html`<tr key=${key} class=${i === mine ? "in-row" : ""} onClick=${() => select({ key })}>
          <th scope="row"><a href=${hash({ key })}><${Token} text=${names[i]} /></a></th>
          <td class="number measured" title=${full(alpha[i])}>${rounded(alpha[i])}<${Bar} x=${alpha[i]} limit=${mostA} oneSided /></td>
          <td class="number measured" title=${full(dAlpha[i])}>${signed(dAlpha[i])}<${Bar} x=${dAlpha[i]} limit=${mostD} /></td>
          <td class="number">${signed(dAlpha[i] - mixture)}</td>
          <td class="number measured jacobian-result" title=${full(dScore[i])}>${signed(dScore[i])}<${Bar} x=${dScore[i]} limit=${mostS} /></td>
        </tr>`)}</tbody></table>
        <p>Σ α·∂L/∂α = <span class="number">${full(mixture)}</span></p>
        ${!whatIf && html`<p><${Verdict} holds=${off <= ROUNDING * size} /> ${t("agrees", { off: rounded(off) })}</p>`}
      </div>
    </div>`;
}

function Words({ name, alpha, d, mixture, dScore, temperature }) {
  const above = d - mixture;
  const holes = {
    name: visible(name), alpha: rounded(alpha), difference: rounded(Math.abs(above)), result: signed(dScore),
    side: t(above >= 0 ? "above" : "below"),
    divided: temperature === 1 ? "" : ` / ${temperature.toFixed(2)}`, signed: signed(above),
    effect: t(dScore > 0 ? "raises" : dScore < 0 ? "lowers" : "still"),
  };
  return html`<p class="words">${t("sentence", holes)}</p>`;
}

export const words = {
  "en": {
    "title": "Softmax Jacobian",
    "temperature": "Temperature",
    "what_if": "What if",
    "what_if_words": "the scores were divided by τ? The weights and the Jacobian follow; ∂L/∂α is kept as it was recorded.",
    "as_recorded": "As recorded. Move the slider to see what a flatter or sharper softmax would do.",
    "matrix": "Jacobian of the softmax, diag(α) − ααᵀ",
    "table": "Jacobian times the gradient of the weights",
    "words": "In words",
    "sentence": "«{name}» has the weight {alpha}. Along the gradient, its value lies {difference} {side} the mixture of all values. Weight × difference = {alpha} × {signed}{divided} = {result}: {effect}",
    "above": "above",
    "below": "below",
    "raises": "a larger score raises the loss, so training pulls attention away from here.",
    "lowers": "a larger score lowers the loss, so training draws attention here.",
    "still": "this score does not matter to the loss.",
    "agrees": "J · ∂L/∂α equals the recorded ∂L/∂e; the largest difference is {off}"
  },
  "ko": {
    "title": "소프트맥스 야코비안",
    "temperature": "온도",
    "what_if": "만약",
    "what_if_words": "스코어를 τ로 나눈다면? 가중치와 야코비안이 따라 바뀝니다. ∂L/∂α는 기록된 그대로 둡니다.",
    "as_recorded": "기록된 그대로입니다. 슬라이더를 움직이면 소프트맥스가 더 평평하거나 뾰족할 때를 볼 수 있습니다.",
    "matrix": "소프트맥스의 야코비안, diag(α) − ααᵀ",
    "table": "야코비안 × 가중치의 기울기",
    "words": "말로 하면",
    "sentence": "«{name}»의 가중치는 {alpha}입니다. 기울기 방향으로 보면 이 값은 모든 값의 혼합보다 {difference}만큼 {side} 있습니다. 가중치 × 차이 = {alpha} × {signed}{divided} = {result}: {effect}",
    "above": "위에",
    "below": "아래에",
    "raises": "이 스코어가 커지면 손실이 커지므로, 학습은 어텐션을 여기서 떼어 냅니다.",
    "lowers": "이 스코어가 커지면 손실이 작아지므로, 학습은 어텐션을 여기로 끌어옵니다.",
    "still": "이 스코어는 손실에 영향을 주지 않습니다.",
    "agrees": "J · ∂L/∂α는 기록된 ∂L/∂e와 같습니다. 가장 큰 차이는 {off}"
  }
};

const t = translator(words);
