// Over training: the same sentence with the weights that a run kept, as a film with a slider: what attention does at each
// step, what of the gradient passes its softmax, and the norms by layer; of the run beside it, too.

import { html, mediaStore, useEffect, useState, useStore } from "page/core.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { Heatmap, widthOfMatrix } from "page/heatmap.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, percent, rounded, short } from "page/numbers.js";
import { largestOf } from "page/opening.js";
import { Bar, Saving, visible } from "page/parts.js";
import { select } from "page/selection.js";
import { drawing, element, text } from "page/svg.js";
import { theme } from "page/theme.js";

export const order = 170;

// Of runs that have kept checkpoints.
export const shows = (all) => all.films.length > 0;

const PACE = 1100; // milliseconds that a frame stays
const calm = mediaStore("(prefers-reduced-motion: reduce)");

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  const [film, ...others] = all.films;
  const [wanted, go] = useState(0);
  const [playing, play] = useState(false);
  const still = useStore(calm);
  const last = film.frames.length - 1;
  const at = Math.min(wanted, last);
  useEffect(() => {
    if (!playing || still) return undefined;
    const timer = setTimeout(() => (at < last ? go(at + 1) : play(false)), PACE);
    return () => clearTimeout(timer);
  }, [playing, still, at, last]);
  const choose = (index) => { play(false); go(index); };
  const start = () => { if (at === last) go(0); play(true); };
  const reels = [film, ...others].map((each, k) => ({ film: each, k, at: k ? nearest(each, film.frames[at].step) : at }));
  return html`<p class="lead">${t("lead")}</p>
    <${Projector} ...${{ film, at, last, playing: playing && !still, still, choose, start, stop: () => play(false) }} />
    ${all.sites.length > 0 && html`<${Controls} chosen=${chosen} />`}
    ${reels.map((reel) => html`<${Reel} key=${reel.k} ...${{ all, reel, chosen, choose, playing, several: others.length > 0 }} />`)}
    ${all.sites.length > 0 && html`<section class="card"><${Saturation} ...${{ all, reels, chosen }} /></section>`}
    ${all.sites.length > 0 && html`<section class="card"><h2>${t("why")}</h2><p class="words">${t("why_words")}</p><h3>${t("collapse")}</h3><p class="words">${t("collapse_words")}</p>
      <p class="muted">${t(others.length ? "beside_words" : "beside")}</p></section>`}`;
}

// The frame of another run at the same step, or the last one before it.
function nearest(film, step) {
  const before = film.frames.findLastIndex((frame) => frame.step !== null && step !== null && frame.step <= step);
  return step === null ? film.frames.length - 1 : Math.max(0, before);
}

// Of weights without a step: a run's own are those of its best epoch, unless the page has changed them.
const isBest = ({ run, nudge, step }) => run !== "" && nudge === null && step === null;

const named = (frame) => (frame.step === null ? t(isBest(data.get().meta) ? "frame.best" : "frame.shown") : t("frame.step", { step: frame.step.toLocaleString("en-US") }));
const column = (frame) => (frame.step === null ? t(isBest(data.get().meta) ? "frame.best_short" : "frame.shown_short") : frame.step.toLocaleString("en-US"));

function Projector({ film, at, last, playing, still, choose, start, stop }) {
  const frame = film.frames[at];
  return html`<div class="card film-controls" role="group" aria-label=${t("film")}>
    <button type="button" aria-label=${t("back")} disabled=${at === 0} onClick=${() => choose(at - 1)}>◀</button>
    ${!still && html`<button type="button" class="primary" id="play" onClick=${playing ? stop : start}>${t(playing ? "pause" : "play")}</button>`}
    <button type="button" aria-label=${t("on")} disabled=${at === last} onClick=${() => choose(at + 1)}>▶</button>
    <input type="range" id="frame" min="0" max=${last} step="1" value=${at} aria-label=${t("slider")} aria-valuetext=${`${named(frame)}, ${t("loss")} ${rounded(frame.loss)}`} onInput=${(event) => choose(Number(event.target.value))} />
    <output for="frame"><b>${named(frame)}</b> <span class="muted">${t("of", { n: at + 1, count: last + 1 })}</span>${frame.shown && frame.step !== null ? html` <span class="muted">${t("frame.same")}</span>` : ""}</output>
    ${still && html`<span class="muted">${t("still")}</span>`}
  </div>`;
}

// One run: what attention does at the chosen frame, its loss by token, its norms by layer.
function Reel({ all, reel: { film, k, at }, chosen, choose, playing, several }) {
  const frame = film.frames[at];
  const site = all.site(chosen.site);
  const own = site && frame.sites.find((each) => each.site === site.id);
  const title = `${film.model}${film.run ? ` (${film.run})` : ""}`;
  return html`<section class=${`card reel reel-${k}`} aria-label=${title}>
    <h2>${several ? title : t("attention")} <span class="muted">${named(frame)}, ${t("loss")} <span class="loss" title=${full(frame.loss)}>${rounded(frame.loss)}</span></span></h2>
    ${own && html`<${Attention} ...${{ all, film, frame, own, site, chosen, playing }} />`}
    ${site && !own && html`<p class="note">${t("no_site", { site: site.id })}</p>`}
    <div class="columns">${frame.losses.length > 0 && html`<${Losses} ...${{ all, film, at, k, chosen, choose }} />`}
      <${Norms} ...${{ film, at, k, choose: k ? () => {} : choose }} /></div>
  </section>`;
}

// The weights and the gradient of the scores of the chosen head, on scales that all frames share.
function Attention({ all, film, frame, own, site, chosen, playing }) {
  const head = Math.min(chosen.head, own.entropy.length - 1);
  const weights = all.array(own.weights);
  const row = weights && site.keys.map((_, j) => weights.at(head, chosen.step, j));
  const most = row && largestOf(row);
  const says = sentence(film, own, head);
  return html`<p class="words film-says" role=${playing ? undefined : "status"}>${says}${row && Number.isFinite(row[most]) ? ` ${t("says.row", { t: chosen.step, key: visible(site.keys[most]), weight: short(row[most]) })}` : ""}</p>
    <div class="side-by-side" style=${{ "--wide": `${widthOfMatrix(site.queries, site.keys, "∂L/∂e")}px` }}>${["weights", "gradient"].map((part) => html`<${Matrix} key=${part} ...${{ all, film, frame, own, site, chosen, head, part }} />`)}</div>`;
}

function sentence(film, own, head) {
  const { [head]: passes } = passing(own);
  if (own.entropy[head] === null) return t("says.alone");
  const holes = {
    head, saturated: percent(own.saturated[head]), from: film.saturated_at, entropy: short(own.entropy[head]), room: short(own.room[head]),
    largest: short(own.largest[head]), spread: short(own.spread[head]), passes: passes === null ? "—" : percent(passes),
  };
  return `${t("says", holes)} ${t(passes === null ? "says.no_gradient" : "says.passes", holes)}`;
}

// By head, how much of the gradient of the weights passes the softmax: ‖∂L/∂e‖ / ‖∂L/∂α‖.
const passing = (own) => own.scores_gradient.map((size, head) => (size !== null && own.weights_gradient[head] > 0 ? size / own.weights_gradient[head] : null));

function Matrix({ all, film, frame, own, site, chosen, head, part }) {
  const numbers = all.array(own[part]);
  const label = t(`matrix.${part}`, { frame: named(frame) });
  const fits = numbers && numbers.rows === site.queries.length && numbers.columns === site.keys.length;
  if (!fits) return html`<figure class="figure empty"><figcaption><span class="figure-title">${label}</span></figcaption><p class="note">${t(own[part] ? "no_labels" : part === "gradient" && own.scores_gradient[head] === null ? "no_gradient" : "tensor.dropped")}</p></figure>`;
  const limit = part === "weights" ? 1 : Math.max(...film.frames.flatMap(({ sites }) => sites.filter((each) => each.site === own.site && each.gradient).map((each) => all.array(each.gradient).limit())));
  const { step, key } = chosen;
  return html`<div class="site-heatmap"><${Heatmap} linked=${`film ${site.id}`} name=${`film-${part}-${frame.step ?? "shown"}-head${head}`} label=${label}
      caption=${html`<b class=${part === "weights" ? "value" : "gradient"}>${part === "weights" ? "α" : "∂L/∂e"}</b> ${label}`} corner=${part === "weights" ? "α" : "∂L/∂e"}
      rows=${site.queries} columns=${site.keys} ends=${part === "weights" ? [0, 1] : [-limit, limit]} at=${(i, j) => numbers.at(head, i, j)} masked=${(i, j) => !site.allowed(head, i, j)}
      version=${`${film.run} ${site.id} ${head} ${part} ${own[part]} ${chosen.run}`} row=${Math.min(step, site.queries.length - 1)} column=${Math.min(key, site.keys.length - 1)} active=${chosen.tensor === (part === "weights" ? "weights" : "scores")}
      choose=${(i, j) => select({ step: i, key: j, tensor: part === "weights" ? "weights" : "scores", part: part === "weights" ? "value" : "gradient" })} /></div>`;
}

// A row of the table below for each kept step: the loss of each token.
function Losses({ all, film, at, k, chosen, choose }) {
  const tokens = all.tokens.length === film.frames[0].losses.length ? all.tokens.map(({ expected }) => expected) : film.frames[0].losses.map((_, i) => String(i));
  const most = Math.max(...film.frames.flatMap(({ losses }) => losses));
  const token = Math.min(chosen.step, tokens.length - 1);
  return html`<div class="site-heatmap film-losses"><${Heatmap} name=${`film-losses-${k}`} label=${t("losses")} corner=${t("axis.step")} rows=${film.frames.map(column)} columns=${tokens} ends=${[0, most]}
    at=${(i, j) => film.frames[i].losses[j]} version=${`losses ${film.run} ${chosen.run}`} row=${at} column=${token} active choose=${(i, j) => { if (!k) choose(i); select({ step: j }); }} /></div>`;
}

// A numbered layer, such as encoder.layers.0 or blocks.1, or else the module.
const layerOf = (name) => name.match(/^.*?\.\d+(?=\.)/)?.[0] ?? (name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : name);

// The norms of these parts of the model at each kept step: { name: [a number for each frame] }.
function normsOf(film, which, byLayer) {
  const squares = {};
  film.parameters.forEach((name, p) => {
    const row = (squares[byLayer ? layerOf(name) : name] ??= film.frames.map(() => 0));
    film.frames.forEach((frame, i) => { row[i] += (frame[which][p] ?? 0) ** 2; });
  });
  return Object.fromEntries(Object.entries(squares).map(([name, row]) => [name, row.map(Math.sqrt)]));
}

const NORMS = { gradient_layer: ["gradient_norms", true], gradient_parameter: ["gradient_norms", false], weight_layer: ["norms", true], weight_parameter: ["norms", false] };

function Norms({ film, at, k, choose }) {
  const [shown, show] = useState("gradient_layer");
  const [row, setRow] = useState(0);
  const [which, byLayer] = NORMS[shown];
  const norms = normsOf(film, which, byLayer);
  const names = Object.keys(norms);
  const most = Math.max(...Object.values(norms).flat().filter(Number.isFinite), 0);
  return html`<div><div class="controls film-norms-of"><label>${t("norms")} <select value=${shown} onChange=${(event) => { setRow(0); show(event.target.value); }}>${Object.keys(NORMS).map((key) => html`<option key=${key} value=${key} selected=${key === shown}>${t(`norms.${key}`)}</option>`)}</select></label></div>
    <div class="site-heatmap film-norms"><${Heatmap} name=${`film-norms-${k}`} label=${t(`norms.${shown}`)} corner=${t("axis.layer")} rows=${names} columns=${film.frames.map(column)} ends=${[0, most]}
      at=${(i, j) => norms[names[i]][j]} version=${`norms ${film.run} ${shown}`} row=${Math.min(row, names.length - 1)} column=${at} active choose=${(i, j) => { setRow(i); choose(j); }} /></div></div>`;
}

// -- saturation -----------------------------------------------------------------------------------------------------

const INKS = { entropy: { light: "#0072b2", dark: "#56b4e9" }, largest: { light: "#b34700", dark: "#f0a35e" }, saturated: { light: "#8a3ffc", dark: "#be95ff" }, passes: { light: "#00795a", dark: "#3ecfa3" } };
const LINES = Object.keys(INKS);
const PLOT = { width: 640, height: 200, left: 48, right: 24, bottom: 44 };

// Of each frame the numbers of a head, or null if the run has no such site.
function factsOf(film, id, wanted) {
  return film.frames.map((frame) => {
    const own = frame.sites.find((each) => each.site === id);
    if (!own) return null;
    const head = Math.min(wanted, own.entropy.length - 1);
    const of = (name) => own[name][head];
    return {
      frame, loss: frame.loss, spread: of("spread"), entropy: of("entropy"), room: of("room"), largest: of("largest"), saturated: of("saturated"),
      weights_gradient: of("weights_gradient"), scores_gradient: of("scores_gradient"), passes: passing(own)[head],
    };
  });
}

function Saturation({ all, reels, chosen }) {
  const look = useStore(theme);
  const site = all.site(chosen.site);
  const label = t("saturation.figure", { site: site.id, head: chosen.head });
  const seen = reels.map(({ film, at }) => ({ film, at, facts: factsOf(film, site.id, chosen.head) }));
  return html`<h2>${t("saturation")}</h2><p class="words">${t("saturation_words", { from: reels[0].film.saturated_at })}</p>
    <figure class="figure"><figcaption><span class="figure-title">${label}</span><${Saving} name="film-saturation" svg=${() => chart(seen, look, label)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: chart(seen, look, label) }}></div></figure>
    ${seen.map(({ film, at, facts }, k) => html`<${Facts} key=${k} ...${{ film, at, facts, k }} />`)}`;
}

const COLUMNS = ["loss", "spread", "entropy", "largest", "saturated", "weights_gradient", "scores_gradient", "passes"];
const SHARES = { saturated: percent, passes: percent };

function Facts({ film, at, facts, k }) {
  const caption = t("table", { run: film.run || film.model });
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table class=${`plain film-facts film-facts-${k}`}><caption>${caption}</caption><thead><tr><th scope="col">${t("axis.step")}</th>${COLUMNS.map((name) => html`<th scope="col" class="number" key=${name}>${t(`column.${name}`)}</th>`)}</tr></thead>
    <tbody>${facts.map((row, i) => row && html`<tr key=${i} class=${i === at ? "in-row" : ""} aria-current=${i === at ? "true" : undefined}><th scope="row">${column(row.frame)}</th>${COLUMNS.map((name) => html`<td key=${name} class=${`number ${name} ${name === "largest" ? "measured" : ""}`} title=${row[name] === null ? "" : full(row[name])}>${row[name] === null ? "—" : (SHARES[name] ?? rounded)(row[name])}${name === "largest" && row[name] !== null ? html`<${Bar} x=${row[name]} ends=${[0, 1]} />` : ""}</td>`)}</tr>`)}</tbody></table></div>`;
}

// Shares between 0 and 1 over the steps, which stand by their logarithm; the run beside is dashed.
function chart(seen, look, label) {
  const last = Math.max(1, ...seen.flatMap(({ film }) => film.frames.map(({ step }) => step ?? 0)));
  const place = (step) => Math.log10((step ?? 1.6 * last) + 1);
  const furthest = Math.max(...seen.flatMap(({ film }) => film.frames.map(({ step }) => place(step))));
  const top = 14 + 18 * LINES.length * seen.length;
  const x = (step) => PLOT.left + (place(step) / furthest) * PLOT.width;
  const y = (share) => top + PLOT.height - Math.max(0, Math.min(1, share)) * PLOT.height;
  const faint = { light: "#dcdad2", dark: "#3a3f47" }[look];
  const drawn = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    element("path", { d: `M${PLOT.left} ${y(share)}H${PLOT.left + PLOT.width}`, stroke: faint }),
    text(String(share), { x: PLOT.left - 8, y: y(share) + 4, "text-anchor": "end", "font-size": 11 }),
  ]);
  const [{ film, at }] = seen;
  drawn.push(element("path", { d: `M${x(film.frames[at].step)} ${top}v${PLOT.height}`, stroke: { light: "#5c6470", dark: "#a5adba" }[look], "stroke-width": 1.5 }));
  seen.forEach(({ film: { run, model }, facts }, k) => LINES.forEach((name, i) => {
    const { [look]: ink } = INKS[name];
    const dash = k ? "6 4" : "none";
    const points = facts.filter((row) => row && valueOf(row, name) !== null).map((row) => [x(row.frame.step), y(valueOf(row, name))]);
    drawn.push(element("path", { d: points.map(([px, py], n) => `${n ? "L" : "M"}${px} ${py}`).join(""), fill: "none", stroke: ink, "stroke-width": 2, "stroke-dasharray": dash }));
    drawn.push(element("g", { fill: ink }, ...points.map(([cx, cy]) => element("circle", { cx, cy, r: 3.5 }))));
    const line = 12 + 18 * (k * LINES.length + i);
    drawn.push(element("path", { d: `M${PLOT.left} ${line}h26`, stroke: ink, "stroke-width": 2, "stroke-dasharray": dash }));
    drawn.push(text(`${t(`line.${name}`)}${seen.length > 1 ? `, ${run || model}` : ""}`, { x: PLOT.left + 34, y: line + 4 }));
  }));
  film.frames.forEach((frame) => drawn.push(text(column(frame), { x: x(frame.step), y: top + PLOT.height + 18, "text-anchor": "middle", "font-size": 11 })));
  drawn.push(text(t("axis.steps"), { x: PLOT.left + PLOT.width, y: top + PLOT.height + 38, "text-anchor": "end" }));
  return drawing(PLOT.left + PLOT.width + PLOT.right, top + PLOT.height + PLOT.bottom, look, label, ...drawn);
}

const valueOf = (row, name) => (name === "entropy" ? (row.room > 0 ? row.entropy / row.room : null) : row[name]);

export const words = {
  "en": {
    "title": "Over training",
    "lead": "The same sentence with the weights that the run kept while it learned: before the first step, after 1, 3, 10, 30, 100, … and after the last. Each frame is a forward and a backward pass of its own, checked like the page's. Move the slider, or let it run.",
    "film": "The film",
    "slider": "Step of training",
    "play": "Play",
    "pause": "Pause",
    "back": "Previous kept step",
    "on": "Next kept step",
    "of": "{n} of {count}",
    "still": "Your system asks for little motion, so nothing plays by itself: move the slider.",
    "frame.step": "step {step}",
    "frame.best": "the best weights",
    "frame.best_short": "best",
    "frame.shown": "the weights of the other views",
    "frame.shown_short": "shown",
    "frame.same": "the weights of the other views",
    "loss": "loss",
    "attention": "Attention",
    "says": "Head {head}: the scores of a query spread by {spread} around their mean; the largest weight is {largest} on average, the entropy {entropy} of at most {room} nats. {saturated} of the queries put {from} or more on one key.",
    "says.passes": "Of the gradient that arrives at the weights, {passes} passes the softmax to the scores.",
    "says.no_gradient": "No gradient arrives at these scores.",
    "says.alone": "Every query has at most one key here, so there is nothing to choose.",
    "says.row": "Query t = {t} looks at «{key}» most, with {weight}.",
    "no_site": "This run has no attention {site}.",
    "no_labels": "This run's attention has another size.",
    "no_gradient": "No gradient arrives here.",
    "matrix.weights": "weights, {frame}",
    "matrix.gradient": "gradient of the scores, {frame}",
    "losses": "Loss of each token, −ln p, by step",
    "axis.step": "step",
    "axis.steps": "steps of training",
    "axis.layer": "layer",
    "norms": "Norms by step",
    "norms.gradient_layer": "‖∂L/∂W‖ by layer",
    "norms.gradient_parameter": "‖∂L/∂W‖ by parameter",
    "norms.weight_layer": "‖W‖ by layer",
    "norms.weight_parameter": "‖W‖ by parameter",
    "saturation": "Does the softmax saturate?",
    "saturation_words": "A row of weights that is nearly one-hot has a Jacobian diag(α) − ααᵀ of nearly 0: its entropy falls towards 0, its largest weight rises to 1, and little of ∂L/∂α becomes ∂L/∂e. From a largest weight of {from} on, at most 2 % passes. A softmax that saturates late, on the right key, has learned; one that saturates early, on a wrong key, can hardly move away again.",
    "saturation.figure": "Saturation of head {head} of {site} over training",
    "line.entropy": "entropy / its maximum",
    "line.largest": "largest weight",
    "line.saturated": "share of saturated queries",
    "line.passes": "passes the softmax, ‖∂L/∂e‖ / ‖∂L/∂α‖",
    "table": "By kept step, {run}: means over the queries",
    "column.loss": "loss",
    "column.spread": "spread of e",
    "column.entropy": "entropy",
    "column.largest": "largest α",
    "column.saturated": "saturated",
    "column.weights_gradient": "‖∂L/∂α‖",
    "column.scores_gradient": "‖∂L/∂e‖",
    "column.passes": "passes",
    "why": "Why divide by √d?",
    "why_words": "A score q · k is a sum of d products. If they are of order one and independent, the sum spreads by √d, and so do the scores of a query: watch the spread of e. At a spread of 1 the softmax is soft and the gradient passes; at 8, which is √64, nearly all weight lies on whichever key happens to score highest before anything is learned, and what the loss says about the others is multiplied by nearly 0. Dividing by √d keeps the spread near 1 at the start, whatever the width; from there training sharpens attention where that helps. python -m models lab scale measures this for d from 16 to 256.",
    "collapse": "My attention has collapsed: what to look for",
    "collapse_words": "If a head looks at the same one or two keys from every query, step through the film. When the largest weight is near 1 already at the first frames and hardly any gradient passes, the scores were too large from the start: divide by √d, initialise the maps of queries and keys smaller, or lower the learning rate and warm up. When it becomes so only after a certain step while the spread of e jumps, that step was too large. When entropy stays high and the loss falls nevertheless, the model has found a way that needs no attention.",
    "beside": "With --beside and a second run that has kept checkpoints, such as one with model.score=dot beside one with scaled_dot, both films run together.",
    "beside_words": "The run beside it is dashed, and shows its own kept step at or before this one."
  },
  "ko": {
    "title": "학습 과정",
    "lead": "학습하는 동안 남겨 둔 가중치로 같은 문장을 다시 봅니다. 첫 스텝 전, 1, 3, 10, 30, 100, … 스텝 뒤, 그리고 마지막 스텝 뒤입니다. 장면마다 순전파와 역전파를 따로 실행하고, 페이지의 다른 숫자처럼 검증했습니다. 슬라이더를 움직이거나 재생해 보세요.",
    "film": "필름",
    "slider": "학습 스텝",
    "play": "재생",
    "pause": "멈춤",
    "back": "남겨 둔 이전 스텝",
    "on": "남겨 둔 다음 스텝",
    "of": "{count}개 중 {n}번째",
    "still": "시스템이 움직임을 줄여 달라고 하므로 저절로 재생하지 않습니다. 슬라이더를 움직이세요.",
    "frame.step": "스텝 {step}",
    "frame.best": "가장 좋은 가중치",
    "frame.best_short": "최선",
    "frame.shown": "다른 화면의 가중치",
    "frame.shown_short": "지금",
    "frame.same": "다른 화면과 같은 가중치",
    "loss": "손실",
    "attention": "어텐션",
    "says": "헤드 {head}: 쿼리 하나의 스코어는 평균에서 {spread}만큼 퍼져 있습니다. 가장 큰 가중치는 평균 {largest}, 엔트로피는 커야 {room}냇 가운데 {entropy}냇입니다. 쿼리의 {saturated}가 키 하나에 {from} 이상을 둡니다.",
    "says.passes": "가중치에 닿은 기울기 가운데 {passes}가 소프트맥스를 지나 스코어에 이릅니다.",
    "says.no_gradient": "이 스코어에는 기울기가 닿지 않습니다.",
    "says.alone": "여기서는 쿼리마다 볼 수 있는 키가 많아야 하나이므로 고를 것이 없습니다.",
    "says.row": "쿼리 t = {t}는 «{key}»를 가장 많이({weight}) 봅니다.",
    "no_site": "이 학습 결과에는 어텐션 {site}이(가) 없습니다.",
    "no_labels": "이 학습 결과의 어텐션은 크기가 다릅니다.",
    "no_gradient": "여기에는 기울기가 닿지 않습니다.",
    "matrix.weights": "가중치, {frame}",
    "matrix.gradient": "스코어의 기울기, {frame}",
    "losses": "스텝에 따른 토큰별 손실 −ln p",
    "axis.step": "스텝",
    "axis.steps": "학습 스텝",
    "axis.layer": "층",
    "norms": "스텝에 따른 크기",
    "norms.gradient_layer": "층별 ‖∂L/∂W‖",
    "norms.gradient_parameter": "파라미터별 ‖∂L/∂W‖",
    "norms.weight_layer": "층별 ‖W‖",
    "norms.weight_parameter": "파라미터별 ‖W‖",
    "saturation": "소프트맥스가 포화될까요?",
    "saturation_words": "한 키에 거의 다 쏠린 가중치의 행은 야코비안 diag(α) − ααᵀ가 거의 0입니다. 엔트로피는 0으로 떨어지고, 가장 큰 가중치는 1로 올라가며, ∂L/∂α 가운데 ∂L/∂e가 되는 것은 조금뿐입니다. 가장 큰 가중치가 {from} 이상이면 많아야 2 %가 지나갑니다. 늦게, 옳은 키에서 포화된 소프트맥스는 배운 것이고, 일찍, 틀린 키에서 포화된 소프트맥스는 거기서 벗어나기 어렵습니다.",
    "saturation.figure": "{site}의 헤드 {head}, 학습 과정의 포화",
    "line.entropy": "엔트로피 / 최댓값",
    "line.largest": "가장 큰 가중치",
    "line.saturated": "포화된 쿼리의 비율",
    "line.passes": "소프트맥스를 지나는 비율, ‖∂L/∂e‖ / ‖∂L/∂α‖",
    "table": "남겨 둔 스텝마다, {run}: 쿼리에 걸친 평균",
    "column.loss": "손실",
    "column.spread": "e의 퍼짐",
    "column.entropy": "엔트로피",
    "column.largest": "최대 α",
    "column.saturated": "포화",
    "column.weights_gradient": "‖∂L/∂α‖",
    "column.scores_gradient": "‖∂L/∂e‖",
    "column.passes": "지나감",
    "why": "왜 √d로 나눌까요?",
    "why_words": "스코어 q · k는 곱 d개의 합입니다. 곱이 서로 독립이고 크기가 1쯤이면 합은 √d만큼 퍼지고, 한 쿼리의 스코어도 그만큼 퍼집니다. e의 퍼짐을 보세요. 퍼짐이 1이면 소프트맥스는 부드럽고 기울기가 지나갑니다. 퍼짐이 8(= √64)이면 아무것도 배우기 전에 우연히 스코어가 가장 큰 키에 가중치가 거의 다 쏠리고, 다른 키에 대해 손실이 하는 말에는 거의 0이 곱해집니다. √d로 나누면 폭이 얼마든 처음의 퍼짐이 1쯤으로 남고, 거기서부터 학습이 도움이 되는 곳에서 어텐션을 날카롭게 만듭니다. python -m models lab scale은 이것을 16부터 256까지의 d로 잽니다.",
    "collapse": "어텐션이 무너졌을 때 살펴볼 것",
    "collapse_words": "헤드가 어느 쿼리에서나 같은 키 한두 개만 본다면 장면을 하나씩 넘겨 보세요. 첫 장면부터 가장 큰 가중치가 1에 가깝고 기울기가 거의 지나가지 않으면 스코어가 처음부터 너무 컸던 것입니다. √d로 나누거나, 쿼리와 키의 사상을 더 작게 초기화하거나, 학습률을 낮추고 워밍업을 하세요. 어느 스텝 뒤에야 그렇게 되고 그때 e의 퍼짐이 뛰었다면 그 걸음이 너무 컸습니다. 엔트로피는 높은데도 손실이 줄면 모델이 어텐션 없이도 되는 길을 찾은 것입니다.",
    "beside": "--beside로 체크포인트를 남긴 다른 학습 결과를 주면(예를 들어 scaled_dot 옆에 model.score=dot) 두 필름을 함께 돌립니다.",
    "beside_words": "나란히 놓은 쪽이 점선이며, 이 스텝이거나 그 바로 앞에 남겨 둔 스텝을 보여 줍니다."
  }
};

const t = translator(words);
