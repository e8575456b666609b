// One step with the gradient that is shown: the change of the loss that the gradient predicts, beside the one that comes out.

import { html, useState, useStore } from "page/core.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { givenTarget, rerun, RunState } from "page/live.js";
import { full, rounded, short, signed } from "page/numbers.js";
import { Bar, Saving, Token } from "page/parts.js";
import { drawing, element, text } from "page/svg.js";
import { theme } from "page/theme.js";

export const order = 150;

// Of passes that are finite.
export const shows = (all) => all.steps.length > 0;

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  const site = all.site(chosen.site);
  return html`<p class="lead">${t("lead")}</p>
    <${Whole} all=${all} />
    ${site && html`<section class="card"><h2>${t("site")}</h2><p class="muted">${t("site_words")}</p><${Controls} chosen=${chosen} /><${AtSite} ...${{ site, chosen }} /></section>`}`;
}

// All weights at once: steps of several sizes were taken when the page was made.
function Whole({ all }) {
  const [name, setName] = useState(all.steps[0].optimizer);
  const steps = all.steps.find(({ optimizer }) => optimizer === name) ?? all.steps[0];
  const [at, setAt] = useState(Math.floor(steps.rates.length / 2));
  const look = useStore(theme);
  const { loss } = all.meta;
  const rate = steps.rates[Math.min(at, steps.rates.length - 1)];
  const [predicted, real] = [rate * steps.slope, steps.losses[Math.min(at, steps.rates.length - 1)] - loss];
  const label = t("figure", { optimizer: t(steps.optimizer) });
  return html`<section class="card" id="whole-step"><h2>${t("whole")}</h2>
    <div class="controls"><label>${t("optimizer")} <select value=${steps.optimizer} onChange=${(event) => setName(event.target.value)}>${all.steps.map(({ optimizer }) => html`<option key=${optimizer} value=${optimizer} selected=${optimizer === steps.optimizer}>${t(optimizer)}</option>`)}</select></label>
      <label>${t("rate")} <input type="range" id="rate" min="0" max=${steps.rates.length - 1} value=${at} aria-valuetext=${rounded(rate)} onInput=${(event) => setAt(Number(event.target.value))} /> <output class="number">η = ${rounded(rate)}</output></label></div>
    <div role="status"><dl class="facts"><dt>${t(steps.optimizer === "sgd" ? "slope_sgd" : "slope")}</dt><dd class="number" id="slope" title=${full(steps.slope)}>${signed(steps.slope)}</dd>
      <dt>${t("predicted")}</dt><dd class="number" id="predicted" title=${full(predicted)}>${signed(predicted)}</dd>
      <dt>${t("real")}</dt><dd class="number" id="real" title=${full(real)}>${signed(real)}</dd></dl></div>
    <p class="words">${t(verdict(predicted, real), { share: rounded((100 * real) / predicted) })}</p>
    <figure class="figure"><figcaption><span class="figure-title">${label}</span><${Saving} name=${`step-${steps.optimizer}`} svg=${() => chart(steps, loss, at, look, label)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: chart(steps, loss, at, look, label) }}></div></figure>
    ${all.meta.served && !all.meta.step && html`<p><button type="button" class="primary" onClick=${() => rerun({ source: (all.source ?? all.target).text, target: givenTarget(all), nudge: all.meta.nudge, step: { optimizer: steps.optimizer, rate } })}>${t("take")}</button> <${RunState} /></p>`}
    <${Weights} all=${all} /></section>`;
}

function verdict(predicted, real) {
  if (real > 0) return "overshot";
  return Math.abs(real - predicted) <= 0.1 * Math.abs(predicted) ? "straight" : "bends";
}

// Which parameters the predicted change of a step of SGD comes from: each by its −η‖g‖².
function Weights({ all }) {
  const sizes = all.parameters.map(({ name, gradient_norm: norm }) => [name, (norm ?? 0) ** 2]).sort(([, a], [, b]) => b - a);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  return html`<details><summary>${t("by_weight")}</summary><div class="scroll tall" tabindex="0" role="region" aria-label=${t("by_weight")}><table class="plain"><thead><tr><th scope="col">${t("weight")}</th><th scope="col" class="number">‖g‖²</th><th scope="col"><span class="hidden">‖g‖²</span></th></tr></thead>
    <tbody>${sizes.map(([name, size]) => html`<tr key=${name}><th scope="row">${name}</th><td class="number" title=${full(size)}>${rounded(size)}</td><td class="bar-cell"><${Bar} x=${size} ends=${[0, total]} /></td></tr>`)}</tbody></table></div></details>`;
}

// The scores of one query alone: the page computes the softmax again.
function AtSite({ site, chosen: { head, step } }) {
  const [power, setPower] = useState(0);
  const { scores, weights } = site.tensors;
  if (!scores.value || !scores.gradient || !weights.value || !weights.gradient) return html`<p class="note">${t("tensor.dropped")}</p>`;
  const keys = site.keys.map((_, j) => j).filter((j) => site.allowed(head, step, j));
  const [e, g, before, dAlpha] = [scores.value, scores.gradient, weights.value, weights.gradient].map((numbers) => keys.map((j) => numbers.at(head, step, j)));
  const squared = g.reduce((sum, x) => sum + x * x, 0);
  const steepest = Math.max(...g.map(Math.abs));
  if (!(steepest > 0)) return html`<p class="note">${t("flat")}</p>`;
  const rate = 10 ** power / steepest; // at power 0 the score of the largest gradient moves by 1
  const moved = e.map((x, i) => x - rate * g[i]);
  const most = Math.max(...moved);
  const raised = moved.map((x) => Math.exp(x - most));
  const total = raised.reduce((sum, x) => sum + x, 0);
  const after = raised.map((x) => x / total);
  const real = after.reduce((sum, a, i) => sum + dAlpha[i] * (a - before[i]), 0);
  return html`<div class="controls"><label>${t("rate")} <input type="range" id="site-rate" min="-3" max="2" step="0.1" value=${power} aria-valuetext=${rounded(rate)} onInput=${(event) => setPower(Number(event.target.value))} /> <output class="number">η = ${rounded(rate)}</output></label></div>
    <div role="status"><dl class="facts"><dt>${t("site_predicted")}</dt><dd class="number" id="site-predicted" title=${full(-rate * squared)}>${signed(-rate * squared)}</dd><dt>${t("site_real")}</dt><dd class="number" id="site-real" title=${full(real)}>${signed(real)}</dd></dl></div>
    <div class="scroll tall" tabindex="0" role="region" aria-label=${t("site")}><table class="plain site-step"><thead><tr><th scope="col">j</th><th scope="col">${t("axis.key")}</th><th scope="col" class="number">e</th><th scope="col" class="number">∂L/∂e</th><th scope="col" class="number">e − η ∂L/∂e</th><th scope="col" class="number">${t("alpha_before")}</th><th scope="col" class="number">${t("alpha_after")}</th></tr></thead>
      <tbody>${keys.map((j, i) => html`<tr key=${j}><td>${j}</td><th scope="row"><${Token} text=${site.keys[j]} /></th><td class="number" title=${full(e[i])}>${short(e[i])}</td><td class="number" title=${full(g[i])}>${rounded(g[i])}</td><td class="number" title=${full(moved[i])}>${short(moved[i])}</td>
        <td class="number measured" title=${full(before[i])}>${rounded(before[i])}<${Bar} x=${before[i]} ends=${[0, 1]} /></td><td class="number measured after" title=${full(after[i])}>${rounded(after[i])}<${Bar} x=${after[i]} ends=${[0, 1]} /></td></tr>`)}</tbody></table></div>`;
}

const PLOT = { width: 560, height: 220, left: 64, right: 20, top: 44, bottom: 40 };
const INKS = { predicted: { light: "#5c6470", dark: "#a5adba" }, real: { light: "#0072b2", dark: "#56b4e9" } };

// The loss after each step, beside the straight line of the gradient, which is a curve where rates grow by factors.
function chart(steps, loss, at, look, label) {
  const highest = 2 * loss;
  const x = (i) => PLOT.left + (i / Math.max(1, steps.rates.length - 1)) * PLOT.width;
  const y = (value) => PLOT.top + PLOT.height - (Math.max(0, Math.min(value, highest)) / highest) * PLOT.height;
  const faint = { light: "#dcdad2", dark: "#3a3f47" }[look];
  const drawn = [0, 0.5, 1, 1.5, 2].flatMap((share) => [
    element("path", { d: `M${PLOT.left} ${y(share * loss)}H${PLOT.left + PLOT.width}`, stroke: faint }),
    text(short(share * loss), { x: PLOT.left - 8, y: y(share * loss) + 4, "text-anchor": "end", "font-size": 11 }),
  ]);
  const lines = { predicted: steps.rates.map((rate) => loss + rate * steps.slope), real: steps.losses };
  Object.entries(lines).forEach(([name, values], k) => {
    const ink = INKS[name][look];
    const dash = name === "predicted" ? "6 4" : "none";
    drawn.push(element("path", { d: values.map((value, i) => `${i ? "L" : "M"}${x(i)} ${y(value)}`).join(""), fill: "none", stroke: ink, "stroke-width": 2, "stroke-dasharray": dash }));
    drawn.push(element("circle", { cx: x(at), cy: y(values[at] ?? values.at(-1)), r: 5, fill: ink }));
    drawn.push(element("path", { d: `M${PLOT.left + 190 * k} 16h26`, stroke: ink, "stroke-width": 2, "stroke-dasharray": dash }));
    drawn.push(text(t(`line.${name}`), { x: PLOT.left + 190 * k + 34, y: 20 }));
  });
  for (let i = 0; i < steps.rates.length; i += Math.max(1, Math.ceil(steps.rates.length / 6))) drawn.push(text(short(steps.rates[i]), { x: x(i), y: PLOT.top + PLOT.height + 18, "text-anchor": "middle", "font-size": 11 }));
  drawn.push(text("η", { x: PLOT.left + PLOT.width, y: PLOT.top + PLOT.height + 34, "text-anchor": "end" }));
  return drawing(PLOT.left + PLOT.width + PLOT.right, PLOT.top + PLOT.height + PLOT.bottom, look, label, ...drawn);
}

export const words = {
  "en": {
    "title": "Take the step",
    "lead": "Does the gradient point where it says? Move every weight against its gradient, w − η g, and the loss should change by −η‖g‖²: that is all a gradient promises, and only for small steps. The real change was computed by running the whole model again with the moved weights. Adam's first step moves every weight by about η, whatever the size of its gradient.",
    "whole": "The whole model",
    "optimizer": "Step of",
    "sgd": "SGD",
    "adam": "Adam",
    "rate": "rate",
    "slope_sgd": "−‖g‖²",
    "slope": "slope along the step",
    "predicted": "predicted change of the loss",
    "real": "real change",
    "straight": "Here the loss is nearly a straight line: the real change is {share} % of the predicted one.",
    "bends": "Here the loss bends: only {share} % of the predicted change comes out. The gradient was that of the start alone.",
    "overshot": "Too far: the loss has grown. The gradient points downhill where one stands, and says nothing of what lies behind the valley.",
    "figure": "Loss after one step of {optimizer}, by its rate",
    "line.predicted": "predicted",
    "line.real": "real",
    "take": "Take this step, and show the pass after it",
    "by_weight": "Which weights bring it: the square of each gradient",
    "weight": "weight",
    "site": "At one query",
    "site_words": "The same for the scores of one query alone, all else as it is: the scores move against their gradient, the softmax is computed again, and the loss changes, to first order in the weights, by the sum of ∂L/∂α times their change. Attention moves to where ∂L/∂e is below zero.",
    "site_predicted": "predicted, −η‖∂L/∂e‖²",
    "site_real": "by the new weights, Σ ∂L/∂α (α′ − α)",
    "alpha_before": "α before",
    "alpha_after": "α after",
    "flat": "The gradient of these scores is exactly 0: no step moves them."
  },
  "ko": {
    "title": "한 걸음 떼기",
    "lead": "기울기는 말한 대로 가리킬까요? 모든 가중치를 기울기 반대로 w − η g만큼 옮기면 손실은 −η‖g‖²만큼 바뀌어야 합니다. 기울기의 약속은 그것뿐이고, 걸음이 작을 때만 지켜집니다. 실제 변화는 옮긴 가중치로 모델 전체를 다시 실행해 구했습니다. Adam의 첫 걸음은 기울기의 크기와 상관없이 모든 가중치를 η쯤 옮깁니다.",
    "whole": "모델 전체",
    "optimizer": "걸음",
    "sgd": "SGD",
    "adam": "Adam",
    "rate": "학습률",
    "slope_sgd": "−‖g‖²",
    "slope": "걸음 방향의 기울기",
    "predicted": "예측한 손실의 변화",
    "real": "실제 변화",
    "straight": "여기서는 손실이 거의 직선입니다. 실제 변화는 예측의 {share} %입니다.",
    "bends": "여기서는 손실이 휩니다. 예측한 변화의 {share} %만 이루어집니다. 기울기는 출발점에서만 맞았습니다.",
    "overshot": "너무 멀리 갔습니다. 손실이 커졌습니다. 기울기는 선 자리의 내리막을 가리킬 뿐, 골짜기 너머는 말하지 않습니다.",
    "figure": "{optimizer}로 한 걸음 뗀 뒤의 손실, 학습률에 따라",
    "line.predicted": "예측",
    "line.real": "실제",
    "take": "이 걸음을 떼고 그 뒤의 패스 보기",
    "by_weight": "어느 가중치에서 오는가: 기울기의 제곱",
    "weight": "가중치",
    "site": "쿼리 하나에서",
    "site_words": "다른 것은 그대로 두고 쿼리 하나의 스코어만 움직입니다. 스코어를 기울기 반대로 옮기고 소프트맥스를 다시 계산하면, 손실은 가중치에 대한 일차 근사로 ∂L/∂α에 그 변화를 곱해 더한 만큼 바뀝니다. 어텐션은 ∂L/∂e가 0보다 작은 곳으로 옮겨 갑니다.",
    "site_predicted": "예측, −η‖∂L/∂e‖²",
    "site_real": "새 가중치로, Σ ∂L/∂α (α′ − α)",
    "alpha_before": "α 전",
    "alpha_after": "α 후",
    "flat": "이 스코어의 기울기는 정확히 0이어서 어떤 걸음도 움직이지 못합니다."
  }
};

const t = translator(words);
