// The softmax of one row, differentiated: J = diag(α) − ααᵀ, times the gradient of the weights; and the same in words.

import { html, useState } from "../core.js";
import { Controls } from "../controls.js";
import { data } from "../data.js";
import { Formula } from "../formula.js";
import { Heatmap } from "../heatmap.js";
import { t, useLanguage } from "../i18n.js";
import { full, rounded, signed } from "../numbers.js";
import { Bar, Token, Verdict, visible } from "../parts.js";
import { hash, select } from "../selection.js";

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

export function Jacobian({ chosen }) {
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
      <label for="temperature">${t("jacobian.temperature")} τ = <output>${temperature.toFixed(2)}</output></label>
      <input id="temperature" type="range" min="-2" max="2" step="0.05" value=${Math.log2(temperature)}
        aria-valuetext=${`τ = ${temperature.toFixed(2)}`} onInput=${(event) => setTemperature(2 ** Number(event.target.value))} />
      <button type="button" disabled=${!whatIf} onClick=${() => setTemperature(1)}>τ = 1</button>
      <span role="status">${whatIf ? html`<b class="tag-what-if">${t("jacobian.what_if")}</b> ${t("jacobian.what_if_words")}` : html`<span class="muted">${t("jacobian.as_recorded")}</span>`}</span>
    </div>
    <section class="card"><h2>${t("jacobian.words")}</h2><${Words} ...${{ name: names[mine], alpha: alpha[mine], d: dAlpha[mine], mixture, dScore: dScore[mine], temperature }} />
      <${Formula} latex=${site.tensors.scores.latex.gradient} block /></section>
    <div class="jacobian">
      <${Heatmap} name=${`${site.id}-jacobian-row${chosen.step}`} label=${t("jacobian.matrix")} caption=${html`<b>J</b> ${t("jacobian.matrix")}`} corner="J"
        rows=${names} columns=${names} at=${at} limit=${0.25 / Math.min(1, temperature)} version=${`${site.id} ${chosen.head} ${chosen.step} ${temperature} ${chosen.run}`}
        row=${mine} column=${mine} active choose=${(i) => select({ key: keys[i] })} />
      <div class="card scroll" tabindex="0" role="region" aria-label=${t("jacobian.table")}><table class="plain products"><caption>${t("jacobian.table")}</caption><thead><tr>
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
        ${!whatIf && html`<p><${Verdict} holds=${off <= ROUNDING * size} /> ${t("jacobian.agrees", { off: rounded(off) })}</p>`}
      </div>
    </div>`;
}

function Words({ name, alpha, d, mixture, dScore, temperature }) {
  const above = d - mixture;
  const holes = {
    name: visible(name), alpha: rounded(alpha), difference: rounded(Math.abs(above)), result: signed(dScore),
    side: t(above >= 0 ? "jacobian.above" : "jacobian.below"),
    divided: temperature === 1 ? "" : ` / ${temperature.toFixed(2)}`, signed: signed(above),
    effect: t(dScore > 0 ? "jacobian.raises" : dScore < 0 ? "jacobian.lowers" : "jacobian.still"),
  };
  return html`<p class="words">${t("jacobian.sentence", holes)}</p>`;
}
