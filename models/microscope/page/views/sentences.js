// Averages over many sentences with their spread, and the sentence that is shown among them: the gradient by distance, by
// position, by head.

import { download, html, useState, useStore } from "page/core.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, percent, rounded, short } from "page/numbers.js";
import { Saving, visible } from "page/parts.js";
import { drawing, element, text, widthOf } from "page/svg.js";
import { theme } from "page/theme.js";

export const order = 160;

// Of pages that averages were asked for.
export const shows = (all) => all.sentences !== null;

export function View() {
  useLanguage();
  const all = data.get();
  const { count, split, left_out: leftOut } = all.sentences;
  const loss = curve(all, "loss", "", "");
  const sides = ["source", "target"].filter((side) => curve(all, "distance", side, "norm"));
  const sites = all.sites.map(({ id }) => id).filter((id) => curve(all, "entropy", id, ""));
  return html`<p class="lead">${t("lead")}</p>
    <p class="says" id="typical">${t(typical(loss.below[0], count), { loss: rounded(loss.own[0]), below: loss.below[0], count })}</p>
    <p class="muted">${t(`split.${split}`, { count })} ${leftOut > 0 && t("left_out", { count: leftOut })}</p>
    <${Losses} ...${{ all, loss }} />
    ${sides.length > 0 && ["distance", "position"].map((name) => html`<${Places} key=${name} ...${{ all, name, sides }} />`)}
    ${sites.length > 0 && html`<${Heads} ...${{ all, sites }} />`}
    <section class="card"><h2>${t("reading")}</h2><p class="words">${t("reading_words")}</p>
      <p><button type="button" id="save-sentences" onClick=${() => saveAll(all)}>${t("save_all")}</button></p></section>`;
}

const curve = (all, name, of, measure) => all.sentences.curves.find((each) => each.name === name && each.of === of && each.measure === measure);

// Where a number stands that `below` of `count` are smaller than.
const typical = (below, count) => (below > 0.95 * count ? "high" : below < 0.05 * count ? "low" : "middle");

// The losses of all sentences as dots on one line.
function Losses({ all, loss }) {
  const look = useStore(theme);
  const label = t("losses");
  const drawn = () => strip(all, loss, look, label);
  return html`<section class="card"><figure class="figure"><figcaption><span class="figure-title">${label}</span><${Saving} name="sentences-loss" svg=${drawn} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: drawn() }}></div></figure>
    <${Numbers} ...${{ all, name: "loss", label, curves: [loss], head: t("place.loss"), place: () => t("place.all") }} />
    <${Texts} ...${{ all, loss }} /></section>`;
}

// ‖∂L/∂x‖ by distance, or by position: of one side's symbols.
function Places({ all, name, sides }) {
  const look = useStore(theme);
  const [side, setSide] = useState(sides[0]);
  const [measure, setMeasure] = useState("norm");
  const chosen = curve(all, name, side, measure) ?? curve(all, name, side, "norm");
  const label = `${t(`figure.${name}`)}, ${t(`side.${all.source ? side : "text"}`)}`;
  const axes = { x: t(`axis.${name}`), y: t(`axis.${name}.${measure}`) };
  const drawn = (titled) => chart(chosen, look, label, axes, titled);
  return html`<section class="card" id=${`sentences-${name}`}><h2>${t(`title.${name}`)}</h2><p class="words">${t(`words.${name}${all.source ? "" : ".text"}`)}</p>
    <div class="controls" role="group" aria-label=${t(`title.${name}`)}>
      ${sides.length > 1 && html`<label>${t("symbols")}<select value=${side} onChange=${(event) => setSide(event.target.value)}>${sides.map((each) => html`<option key=${each} value=${each} selected=${each === side}>${t(`side.${each}`)}</option>`)}</select></label>`}
      <label>${t("measure")}<select value=${measure} onChange=${(event) => setMeasure(event.target.value)}>${["norm", "share"].map((each) => html`<option key=${each} value=${each} selected=${each === measure}>${t(`measure.${each}`)}</option>`)}</select></label></div>
    <p class="words" role="status">${told(chosen, name, measure, all.sentences.count)}</p>
    <figure class="figure"><figcaption><span class="figure-title">${label}</span><${Saving} name=${`sentences-${name}-${side}-${measure}`} svg=${() => drawn(true)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: drawn(false) }}></div></figure>
    <${Numbers} ...${{ all, name: `${name}-${side}-${measure}`, label, curves: [chosen], head: t(`place.${name}`), place: (_, k) => chosen.places[k] }} /></section>`;
}

// In words: what becomes of the median from the first place to the last that at least half of the sentences have.
function told(chosen, name, measure, count) {
  const seen = chosen.places.map((_, k) => k).filter((k) => 2 * chosen.count[k] >= count);
  if (seen.length < 2) return t("too_few");
  const [first, last] = [seen[0], seen.at(-1)];
  const [near, far] = [chosen.median[first], chosen.median[last]];
  const form = measure === "share" ? percent : rounded;
  const holes = { first: chosen.places[first], last: chosen.places[last], near: form(near), far: form(far), times: (Math.max(near, far) / Math.min(near, far)).toPrecision(3) };
  const change = far > 0 && near > 0 ? t(near >= far ? "told.falls" : "told.grows", holes) : "";
  return `${t(`told.${name}`, holes)} ${change}`;
}

const INKS = { light: { median: "#0072b2", own: "#b34700" }, dark: { median: "#56b4e9", own: "#f0a35e" } };
const FAINT = { light: "#dcdad2", dark: "#3a3f47" };
const PLOT = { height: 240, least: 420, most: 760 };
const MARGIN = { left: 72, right: 20, top: 48, bottom: 52 };

// The powers of ten that numbers above zero lie between, at most twelve.
function decades(numbers) {
  const logs = numbers.filter((x) => x > 0).map(Math.log10);
  if (!logs.length) return [-1, 0];
  const high = Math.ceil(Math.max(...logs));
  return [Math.max(Math.min(Math.floor(Math.min(...logs)), high - 1), high - 12), high];
}

// The median and the middle half of the sentences, and the sentence that is shown, by place; sizes on a scale of powers of ten.
function chart(each, look, label, axes, titled) {
  const { places, lower, median, upper, mean, own } = each;
  const [low, high] = decades([...lower, ...median, ...upper, ...mean, ...own]);
  const across = Math.max(PLOT.least, Math.min(PLOT.most, 22 * places.length));
  const top = MARGIN.top + (titled ? 26 : 0);
  const bottom = top + PLOT.height;
  const [first, last] = [places[0], Math.max(places.at(-1), places[0] + 1)];
  const x = (place) => MARGIN.left + ((place - first) / (last - first)) * across;
  const y = (size) => bottom - ((Math.max(low, Math.log10(size)) - low) / (high - low)) * PLOT.height;
  const points = (numbers) => numbers.map((size, k) => [places[k], size]).filter(([, size]) => size > 0);
  const line = (numbers) => points(numbers).map(([place, size], k) => `${k ? "L" : "M"}${x(place)} ${y(size)}`).join("");
  const drawn = titled ? [text(label, { x: 12, y: 22, "font-size": 13, "font-weight": 600 })] : [];
  for (let power = low; power <= high; power += Math.ceil((high - low) / 8)) {
    drawn.push(element("path", { d: `M${MARGIN.left} ${y(10 ** power)}H${MARGIN.left + across}`, stroke: FAINT[look] }));
    drawn.push(text(`1e${power}`.replace("-", "−"), { x: MARGIN.left - 8, y: y(10 ** power) + 4, "text-anchor": "end", "font-size": 11 }));
  }
  for (let place = first; place <= last; place += Math.max(1, Math.ceil((last - first) / 12))) drawn.push(text(place, { x: x(place), y: bottom + 18, "text-anchor": "middle", "font-size": 11 }));
  const { median: blue, own: orange } = INKS[look];
  const back = points(lower).reverse().map(([place, size]) => `L${x(place)} ${y(size)}`).join("");
  drawn.push(element("path", { d: `${line(upper)}${back}Z`, fill: blue, "fill-opacity": 0.22, stroke: "none" }));
  drawn.push(element("path", { d: line(median), fill: "none", stroke: blue, "stroke-width": 2.5 }));
  drawn.push(element("path", { d: line(mean), fill: "none", stroke: blue, "stroke-width": 1.5, "stroke-dasharray": "2 4" }));
  drawn.push(element("path", { d: line(own), fill: "none", stroke: orange, "stroke-width": 1.5, "stroke-dasharray": "7 3" }));
  drawn.push(element("g", { fill: orange }, ...points(own).map(([place, size]) => element("circle", { cx: x(place), cy: y(size), r: 3.5 }))));
  drawn.push(text(axes.x, { x: MARGIN.left + across, y: bottom + 38, "text-anchor": "end" }), text(axes.y, { x: 12, y: top - 30 + (titled ? 4 : 0) }));
  let at = MARGIN.left;
  for (const [kind, sample] of LEGEND) {
    drawn.push(element("g", { transform: `translate(${at} ${top - 14})` }, sample(blue, orange)));
    drawn.push(text(t(`legend.${kind}`), { x: at + 30, y: top - 10, "font-size": 11 }));
    at += 48 + widthOf(t(`legend.${kind}`)) * 0.9;
  }
  return drawing(Math.max(at, MARGIN.left + across + MARGIN.right, titled ? 24 + 1.15 * widthOf(label) : 0), bottom + MARGIN.bottom, look, label, ...drawn);
}

const LEGEND = [
  ["median", (blue) => element("path", { d: "M0 0H24", stroke: blue, "stroke-width": 2.5 })],
  ["half", (blue) => element("rect", { y: -6, width: 24, height: 12, fill: blue, "fill-opacity": 0.22 })],
  ["mean", (blue) => element("path", { d: "M0 0H24", stroke: blue, "stroke-width": 1.5, "stroke-dasharray": "2 4" })],
  ["own", (_, orange) => element("path", { d: "M0 0H24", stroke: orange, "stroke-width": 1.5, "stroke-dasharray": "7 3" }) + element("circle", { cx: 12, r: 3.5, fill: orange })],
];

const STRIP = { width: 620, height: 104 };

function strip(all, loss, look, label) {
  const values = all.array(loss.values);
  const losses = values ? loss.count.flatMap((count) => Array.from({ length: count }, (_, i) => values.at(0, i, 0))) : [];
  const [low, high] = decades([...losses, ...loss.own]);
  const x = (size) => MARGIN.left + ((Math.max(low, Math.log10(size)) - low) / (high - low)) * STRIP.width;
  const { median: blue, own: orange } = INKS[look];
  const drawn = [];
  for (let power = low; power <= high; power += Math.ceil((high - low) / 8)) {
    drawn.push(element("path", { d: `M${x(10 ** power)} 22V72`, stroke: FAINT[look] }));
    drawn.push(text(`1e${power}`.replace("-", "−"), { x: x(10 ** power), y: 90, "text-anchor": "middle", "font-size": 11 }));
  }
  drawn.push(element("rect", { x: x(loss.lower[0]), y: 28, width: Math.max(2, x(loss.upper[0]) - x(loss.lower[0])), height: 38, fill: blue, "fill-opacity": 0.22 }));
  drawn.push(element("path", { d: `M${x(loss.median[0])} 28V66`, stroke: blue, "stroke-width": 2.5 }));
  drawn.push(element("g", { fill: blue, "fill-opacity": 0.55 }, ...losses.map((size, i) => element("circle", { cx: x(size), cy: 38 + ((7 * i) % 19), r: 3 }))));
  if (loss.own[0] !== null) drawn.push(element("path", { d: `M${x(loss.own[0])} 20V74`, stroke: orange, "stroke-width": 2.5 }), text(t("legend.own"), { x: x(loss.own[0]), y: 14, "text-anchor": "middle", "font-size": 11, fill: orange }));
  return drawing(MARGIN.left + STRIP.width + MARGIN.right + 40, STRIP.height, look, label, ...drawn);
}

const PARTS = ["mean", "error", "lower", "median", "upper", "own"];
const value = (x) => (x === null ? "" : rounded(x));

// The numbers of curves as a table, to be opened and saved.
function Numbers({ all, name, label, curves, head, place }) {
  const [open, setOpen] = useState(false);
  const save = () => download(`sentences-${name}.csv`, new Blob([csv(curves)], { type: "text/csv" }));
  return html`<details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>${t("numbers")} <span class="muted">${label}</span></summary>
    ${open && html`<p class="saving"><button type="button" class="quiet" aria-label=${t("save_csv", { name: label })} onClick=${save}>CSV</button></p>
    <div class="scroll tall" tabindex="0" role="region" aria-label=${label}><table class="plain sentences-table"><thead><tr><th scope="col">${head}</th><th scope="col" class="number">n</th>
      ${PARTS.map((part) => html`<th scope="col" class="number" key=${part}>${t(`part.${part}`)}</th>`)}<th scope="col" class="number">${t("part.below")}</th></tr></thead>
    <tbody>${curves.flatMap((each) => each.places.map((_, k) => html`<tr key=${`${each.of} ${k}`}><th scope="row">${place(each, k)}</th><td class="number">${each.count[k]}</td>
      ${PARTS.map((part) => html`<td class=${`number ${part}`} key=${part} title=${each[part][k] === null ? "" : full(each[part][k])}>${value(each[part][k])}</td>`)}
      <td class="number">${each.below[k] === null ? "" : percent(each.below[k] / each.count[k])}</td></tr>`))}</tbody></table></div>`}</details>`;
}

// Plain CSV: a row for each place.
function csv(curves) {
  const rows = curves.flatMap((each) => each.places.map((at, k) => [each.name, each.of, each.measure, at, each.count[k], ...[...PARTS, "below"].map((part) => each[part][k] ?? "")]));
  return [["curve", "of", "measure", "place", "count", ...PARTS, "below"], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

// All numbers of every sentence.
function saveAll(all) {
  const { texts, curves } = all.sentences;
  const numbers = ({ values, count, places }) => {
    const matrix = all.array(values);
    return matrix && texts.map((_, i) => places.map((__, k) => (count[k] && Number.isFinite(matrix.at(0, i, k)) ? matrix.at(0, i, k) : null)));
  };
  const content = { ...all.sentences, curves: curves.map((each) => ({ ...each, values: numbers(each) })) };
  download("sentences.json", new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
}

// The sentences themselves, that of the largest loss first.
function Texts({ all, loss }) {
  const [open, setOpen] = useState(false);
  const { texts } = all.sentences;
  const values = all.array(loss.values);
  const ordered = texts.map(([source, target], i) => ({ source, target, loss: values ? values.at(0, i, 0) : NaN })).sort((a, b) => b.loss - a.loss);
  return html`<details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>${t("texts")}</summary>
    ${open && html`<div class="scroll tall" tabindex="0" role="region" aria-label=${t("texts")}><table class="plain"><thead><tr><th scope="col" class="number">${t("place.loss")}</th>${all.source && html`<th scope="col">${t("source")}</th>`}<th scope="col">${t(all.source ? "target" : "text")}</th></tr></thead>
    <tbody>${ordered.map((each, i) => html`<tr key=${i}><td class="number" title=${full(each.loss)}>${rounded(each.loss)}</td>${all.source && html`<td><bdi>${each.source}</bdi></td>`}<td><bdi>${visible(each.target)}</bdi></td></tr>`)}</tbody></table></div>`}</details>`;
}

const KINDS = ["entropy", "gradient"];

// Every head's entropy, and the gradient of its scores: the middle half of the sentences as a bar, the shown one as a dot.
function Heads({ all, sites }) {
  const look = useStore(theme);
  const label = t("title.heads");
  const found = Object.fromEntries(KINDS.map((kind) => [kind, sites.map((id) => curve(all, kind, id, ""))]));
  const most = Object.fromEntries(KINDS.map((kind) => [kind, Math.max(...found[kind].flatMap((each) => [...each.upper, ...each.mean, ...each.own]).filter(Number.isFinite))]));
  const place = (each, k) => t("place.head", { site: each.of, head: each.places[k] });
  return html`<section class="card" id="sentences-heads"><h2>${label}</h2><p class="words">${t("words.heads")}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="plain"><thead><tr><th scope="col">${t("place.heads")}</th>
      ${KINDS.map((kind) => html`<th scope="col" class="number" key=${kind}>${t(`axis.${kind}`)}</th><th scope="col" key=${`${kind}-drawn`}><span class="hidden">${t("legend.half")}</span></th><th scope="col" class="number" key=${`${kind}-own`}>${t("part.own")}</th><th scope="col" class="number" key=${`${kind}-below`}>${t("part.below")}</th>`)}</tr></thead>
    <tbody>${sites.flatMap((id, s) => found.entropy[s].places.map((head, k) => html`<tr key=${`${id} ${head}`}><th scope="row">${place(found.entropy[s], k)}</th>
      ${KINDS.map((kind) => html`<${Spread} key=${kind} each=${found[kind][s]} k=${k} most=${most[kind]} look=${look} />`)}</tr>`))}</tbody></table></div>
    ${KINDS.map((kind) => html`<${Numbers} key=${kind} ...${{ all, name: kind, label: t(`axis.${kind}`), curves: found[kind], head: t("place.heads"), place }} />`)}</section>`;
}

const BOX = { width: 150, height: 16 };

function Spread({ each, k, most, look }) {
  const x = (size) => 4 + (most > 0 ? size / most : 0) * (BOX.width - 8);
  const { median: blue, own: orange } = INKS[look];
  const [own, mean, median, lower, upper] = ["own", "mean", "median", "lower", "upper"].map((part) => each[part][k]);
  const drawn = element("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, width: BOX.width, height: BOX.height, "aria-hidden": "true" },
    element("path", { d: `M4 8H${BOX.width - 4}`, stroke: FAINT[look] }), element("rect", { x: x(lower), y: 3, width: Math.max(1.5, x(upper) - x(lower)), height: 10, fill: blue, "fill-opacity": 0.4 }),
    element("path", { d: `M${x(median)} 1V15`, stroke: blue, "stroke-width": 2 }), own === null ? "" : element("circle", { cx: x(own), cy: 8, r: 4, fill: orange }));
  return html`<td class="number mean" title=${full(mean)}>${rounded(mean)} <span class="muted">${each.error[k] === null ? "" : `± ${short(each.error[k])}`}</span></td>
    <td dangerouslySetInnerHTML=${{ __html: drawn }}></td><td class="number own" title=${own === null ? "" : full(own)}>${value(own)}</td><td class="number">${each.below[k] === null ? "" : percent(each.below[k] / each.count[k])}</td>`;
}

export const words = {
  "en": {
    "title": "Sentences",
    "lead": "One sentence is an anecdote. Here the same numbers are taken of many sentences: how far back the gradient of a token's loss reaches, at which positions, and what each head does. The line is the median, the band the middle half of the sentences, and the dots are the sentence of this page.",
    "high": "This sentence's loss, {loss}, is larger than that of {below} of {count} others: it is not a typical one, and its gradients are larger, too. Compare shapes, or shares, not sizes.",
    "low": "This sentence's loss, {loss}, is larger than that of only {below} of {count} others: the model is unusually sure of it, and its gradients are smaller than usual.",
    "middle": "This sentence's loss, {loss}, is larger than that of {below} of {count} others: it is one of the usual ones.",
    "split.test": "Over {count|sentence|sentences} of the test set, which the model was not trained on.",
    "split.valid": "Over {count|piece|pieces} of the validation set, which the model was not trained on.",
    "split.given": "Over {count|sentence that was given|sentences that were given}.",
    "left_out": "{count|more was|more were} left out: too long, nothing to predict, or not finite.",
    "losses": "Loss of each sentence",
    "title.distance": "By distance from the token whose loss is taken",
    "title.position": "By position",
    "title.heads": "By head",
    "words.distance": "Each token t of the target has a loss L_t. Its gradient at the embedding x of a symbol has come back through all that was read since: the distance counts these symbols, through the decoder's steps and then through the source from its end. Without attention the gradient has to go through every state between; with attention there is a short way to each.",
    "words.distance.text": "Each token t has a loss L_t. Its gradient at the embedding x of a symbol that was read earlier; the distance counts the symbols from that one to the last one read, which has distance 0.",
    "words.position": "The gradient of the whole loss, the mean over the tokens, at the embedding of the symbol at each position, counted from 0. It is what training moves these embeddings by.",
    "words.position.text": "The gradient of the whole loss, the mean over the tokens, at the embedding of the symbol at each position, counted from 0. An early symbol is read by more tokens than a late one.",
    "words.heads": "The entropy of a head's weights says how widely it looks, 0 at one symbol alone; ‖∂L/∂e‖ how much its scores are asked to change. Bars are the middle half of the sentences, the tick is the median, the dot the sentence of this page.",
    "symbols": "Symbols",
    "side.source": "of the source",
    "side.target": "that the decoder reads",
    "side.text": "of the text",
    "measure": "Measure",
    "measure.norm": "size of the gradient",
    "measure.share": "share of the gradient",
    "figure.distance": "Gradient of a token's loss by distance",
    "figure.position": "Gradient of the loss by position",
    "axis.distance": "distance d, in symbols",
    "axis.position": "position j",
    "axis.distance.norm": "‖∂L_t/∂x‖",
    "axis.distance.share": "share of the token's gradient",
    "axis.position.norm": "‖∂L/∂x‖",
    "axis.position.share": "share of the loss's gradient",
    "axis.entropy": "entropy, nats",
    "axis.gradient": "‖∂L/∂e‖",
    "told.distance": "In half of the sentences or more there are distances from {first} to {last}: there the median goes from {near} to {far}.",
    "told.position": "From position {first} to position {last}, the last that half of the sentences have, the median goes from {near} to {far}.",
    "told.falls": "The first is {times} times the last.",
    "told.grows": "The last is {times} times the first.",
    "too_few": "Too few sentences are long enough to compare near and far.",
    "legend.median": "median",
    "legend.half": "middle half",
    "legend.mean": "mean",
    "legend.own": "this sentence",
    "place.loss": "loss",
    "place.all": "all sentences",
    "place.distance": "distance",
    "place.position": "position",
    "place.heads": "head",
    "place.head": "{site}, head {head}",
    "part.mean": "mean",
    "part.error": "± standard error",
    "part.lower": "1st quartile",
    "part.median": "median",
    "part.upper": "3rd quartile",
    "part.own": "this sentence",
    "part.below": "sentences below it",
    "numbers": "The numbers",
    "texts": "The sentences",
    "source": "source",
    "target": "target",
    "text": "text",
    "save_csv": "Save as CSV: {name}",
    "save_all": "Save every sentence's numbers as JSON",
    "reading": "Reading it",
    "reading_words": "A sentence counts once: tokens at the same distance are averaged within it first, and n is how many sentences have such a distance, so the right end rests on the long ones alone. The mean can lie far above the median, since a few sentences that the model gets wrong have most of the gradient, and training goes mostly by these. In place of sizes, shares compare sentences of different loss: the gradient of each token is 100 % over all symbols that were read. A model with a second, backward reader of the source has another way from its first symbols, which this distance does not count."
  },
  "ko": {
    "title": "문장들",
    "lead": "문장 하나는 일화일 뿐입니다. 여기서는 같은 숫자를 여러 문장에서 얻습니다. 토큰의 손실의 기울기가 얼마나 멀리 거슬러 가는지, 어느 위치에 닿는지, 헤드마다 무엇을 하는지입니다. 선은 중앙값, 띠는 가운데 절반의 문장, 점은 이 페이지의 문장입니다.",
    "high": "이 문장의 손실 {loss}은 다른 {count}개 중 {below}개보다 큽니다. 흔한 문장이 아니며 기울기도 큽니다. 크기가 아니라 모양이나 몫을 비교하세요.",
    "low": "이 문장의 손실 {loss}보다 작은 것은 {count}개 중 {below}개뿐입니다. 모델이 유난히 확신하는 문장이라 기울기가 여느 문장보다 작습니다.",
    "middle": "이 문장의 손실 {loss}은 다른 {count}개 중 {below}개보다 큽니다. 흔한 문장입니다.",
    "split.test": "학습에 쓰지 않은 테스트 집합의 문장 {count}개입니다.",
    "split.valid": "학습에 쓰지 않은 검증 집합의 조각 {count}개입니다.",
    "split.given": "주어진 문장 {count}개입니다.",
    "left_out": "너무 길거나 예측할 것이 없거나 유한하지 않은 {count}개는 뺐습니다.",
    "losses": "문장마다의 손실",
    "title.distance": "손실을 잰 토큰에서의 거리별",
    "title.position": "위치별",
    "title.heads": "헤드별",
    "words.distance": "타깃의 토큰 t마다 손실 L_t가 있습니다. 어떤 기호의 임베딩 x에서 그 기울기는 그 뒤에 읽은 것을 모두 거슬러 온 것입니다. 거리는 그 기호의 수이며, 디코더의 스텝을 지나고 소스의 끝에서부터 셉니다. 어텐션이 없으면 사이의 상태를 빠짐없이 지나야 하고, 어텐션이 있으면 어느 기호로든 짧은 길이 있습니다.",
    "words.distance.text": "토큰 t마다 손실 L_t가 있습니다. 앞서 읽은 기호의 임베딩 x에서 그 기울기입니다. 거리는 그 기호에서 마지막으로 읽은 기호까지의 수이며, 마지막 기호의 거리가 0입니다.",
    "words.position": "토큰의 평균인 전체 손실의 기울기를 위치마다의 임베딩에서 잰 것입니다. 위치는 0부터 셉니다. 학습은 이만큼 임베딩을 움직입니다.",
    "words.position.text": "토큰의 평균인 전체 손실의 기울기를 위치마다의 임베딩에서 잰 것입니다. 위치는 0부터 셉니다. 앞의 기호는 뒤의 기호보다 더 많은 토큰이 읽습니다.",
    "words.heads": "가중치의 엔트로피는 헤드가 얼마나 넓게 보는지를 말하며, 기호 하나만 보면 0입니다. ‖∂L/∂e‖는 스코어가 얼마나 바뀌어야 하는지입니다. 막대는 가운데 절반의 문장, 눈금은 중앙값, 점은 이 페이지의 문장입니다.",
    "symbols": "기호",
    "side.source": "소스의 기호",
    "side.target": "디코더가 읽는 기호",
    "side.text": "텍스트의 기호",
    "measure": "재는 것",
    "measure.norm": "기울기의 크기",
    "measure.share": "기울기의 몫",
    "figure.distance": "토큰의 손실의 기울기, 거리별",
    "figure.position": "손실의 기울기, 위치별",
    "axis.distance": "거리 d(기호의 수)",
    "axis.position": "위치 j",
    "axis.distance.norm": "‖∂L_t/∂x‖",
    "axis.distance.share": "토큰의 기울기에서 차지하는 몫",
    "axis.position.norm": "‖∂L/∂x‖",
    "axis.position.share": "손실의 기울기에서 차지하는 몫",
    "axis.entropy": "엔트로피(nat)",
    "axis.gradient": "‖∂L/∂e‖",
    "told.distance": "절반 이상의 문장에 있는 거리는 {first}부터 {last}까지입니다. 거기서 중앙값은 {near}에서 {far}(으)로 갑니다.",
    "told.position": "위치 {first}부터, 절반의 문장에 있는 마지막 위치 {last}까지 중앙값은 {near}에서 {far}(으)로 갑니다.",
    "told.falls": "처음이 마지막의 {times}배입니다.",
    "told.grows": "마지막이 처음의 {times}배입니다.",
    "too_few": "가까운 곳과 먼 곳을 비교할 만큼 긴 문장이 너무 적습니다.",
    "legend.median": "중앙값",
    "legend.half": "가운데 절반",
    "legend.mean": "평균",
    "legend.own": "이 문장",
    "place.loss": "손실",
    "place.all": "모든 문장",
    "place.distance": "거리",
    "place.position": "위치",
    "place.heads": "헤드",
    "place.head": "{site}, 헤드 {head}",
    "part.mean": "평균",
    "part.error": "± 표준 오차",
    "part.lower": "제1사분위수",
    "part.median": "중앙값",
    "part.upper": "제3사분위수",
    "part.own": "이 문장",
    "part.below": "더 작은 문장",
    "numbers": "숫자",
    "texts": "문장 목록",
    "source": "소스",
    "target": "타깃",
    "text": "텍스트",
    "save_csv": "CSV로 저장: {name}",
    "save_all": "모든 문장의 숫자를 JSON으로 저장",
    "reading": "읽는 법",
    "reading_words": "문장마다 한 번씩 셉니다. 같은 거리의 토큰은 먼저 문장 안에서 평균하고, n은 그런 거리가 있는 문장의 수입니다. 그래서 오른쪽 끝은 긴 문장만으로 이루어집니다. 평균은 중앙값보다 훨씬 클 수 있습니다. 모델이 틀리는 몇 문장이 기울기의 대부분을 차지하고, 학습은 주로 그 문장들을 따르기 때문입니다. 크기 대신 몫을 보면 손실이 다른 문장을 비교할 수 있습니다. 토큰마다 읽은 기호 전체에서 기울기가 100 %입니다. 소스를 뒤에서부터 읽는 층이 또 있는 모델에는 소스의 첫 기호로 가는 다른 길이 있으며, 이 거리는 그것을 세지 않습니다."
  }
};

const t = translator(words);
