// How the gradient comes back to each symbol of the source or text: the way it enters the encoder, if there is one, and its
// branch in every layer.

import { html, useStore } from "page/core.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { Bar, Saving, Token, visible } from "page/parts.js";
import { drawing, element, text, widthOf } from "page/svg.js";
import { theme } from "page/theme.js";

// Told apart by shape and colour; the colours are Okabe and Ito's.
const SERIES = {
  value: { light: "#0072b2", dark: "#56b4e9", shape: (x, y) => element("circle", { cx: x, cy: y, r: 5 }) },
  key: { light: "#b34700", dark: "#f0a35e", shape: (x, y) => element("path", { d: `M${x} ${y - 6}L${x + 6} ${y + 5}H${x - 6}Z` }) },
  start: { light: "#00795a", dark: "#3ecfa3", shape: (x, y) => element("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }) },
  other: { light: "#8a3ffc", dark: "#be95ff", shape: (x, y) => element("path", { d: `M${x} ${y - 6}L${x + 5} ${y}L${x} ${y + 6}L${x - 5} ${y}Z` }) },
  total: { light: "#5c6470", dark: "#a5adba", shape: (x, y) => element("path", { d: `M${x - 6} ${y}H${x + 6}`, "stroke-width": 3 }) },
};
const PLOT = 220; // the height between the axes
const LONGEST = 14; // characters of a label

// By name the norms that a run has: its ways, and the total.
const series = (paths) => ({ ...paths.ways, total: paths.total });

function decades(all) {
  const sizes = all.flatMap((paths) => Object.values(series(paths)).flat()).filter((x) => x > 0);
  if (!sizes.length) return [-1, 0];
  const high = Math.ceil(Math.log10(Math.max(...sizes)));
  const low = Math.floor(Math.log10(Math.min(...sizes)));
  return [Math.max(low, high - 12), Math.max(high, low + 1)];
}

// With its title for a file; the page has the title above it.
function chart(paths, [low, high], look, label, titled) {
  const names = paths.tokens.map((token) => visible(token).slice(0, LONGEST));
  const top = titled ? 70 : 44;
  const margin = { left: 64, right: 16, top, bottom: 34 + 6 * Math.max(...names.map((name) => name.length)) };
  const height = margin.top + PLOT + margin.bottom;
  const step = Math.max(26, Math.min(64, 420 / paths.tokens.length));
  const width = margin.left + step * paths.tokens.length + margin.right;
  const bottom = margin.top + PLOT;
  const x = (j) => margin.left + step * (j + 0.5);
  const y = (size) => bottom - ((Math.log10(size) - low) / (high - low)) * PLOT;
  const faint = { light: "#dcdad2", dark: "#3a3f47" }[look];
  const drawn = titled ? [text(label, { x: 12, y: 24, "font-size": 13, "font-weight": 600 })] : [];
  for (let power = low; power <= high; power += Math.ceil((high - low) / 8)) {
    const at = y(10 ** power);
    drawn.push(element("path", { d: `M${margin.left} ${at}H${width - margin.right}`, stroke: faint }));
    drawn.push(text(`1e${power}`.replace("-", "−"), { x: margin.left - 8, y: at + 4, "text-anchor": "end", "font-size": 11 }));
  }
  const turned = names.some((name) => widthOf(name) > step - 4); // a turned 6 would look like a 9
  names.forEach((name, j) => {
    const place = turned ? { transform: `translate(${x(j) + 4} ${bottom + 14}) rotate(-40)`, "text-anchor": "end" } : { x: x(j), y: bottom + 16, "text-anchor": "middle" };
    drawn.push(text(name, place));
  });
  Object.entries(series(paths)).forEach(([name, sizes], i) => {
    const { [look]: ink, shape } = SERIES[name];
    const seen = sizes.map((size, j) => [size, j]).filter(([size]) => size > 0 && Math.log10(size) >= low);
    const line = seen.map(([size, j], k) => `${k ? "L" : "M"}${x(j)} ${y(size)}`).join("");
    drawn.push(element("path", { d: line, fill: "none", stroke: ink, "stroke-opacity": 0.35, "stroke-width": 1.5 }));
    drawn.push(element("g", { fill: ink, stroke: ink }, ...seen.map(([size, j]) => shape(x(j), y(size)))));
    const at = margin.left + i * 104;
    drawn.push(element("g", { fill: ink, stroke: ink }, shape(at, margin.top - 24)));
    drawn.push(text(t(`path.${name}`), { x: at + 11, y: margin.top - 20 }));
  });
  return drawing(Math.max(width, margin.left + 420, titled ? 24 + 1.15 * widthOf(label) : 0), height, look, label, ...drawn);
}

export const order = 70;

// Of translators, and of language models that announce residual connections.
export const shows = (all) => all.source !== null || all.paths.length > 0;

export function View() {
  const look = useStore(theme);
  useLanguage();
  const { paths: all, source } = data.get();
  const encoded = all.some(hasWays);
  const range = decades(all);
  return html`${encoded ? html`<p class="lead">${t("lead")}</p>` : html`<p class="note">${t(source ? "none" : "no_encoder")}</p>`}
    <div class="runs">${all.map((paths, i) => html`<${Run} key=${i} ...${{ paths, range, look }} />`)}</div>
    ${encoded && all.length === 1 && html`<p class="note">${t("beside")}</p>`}`;
}

// Whether a model announces encoder states.
const hasWays = (paths) => paths.tokens.length > 0;

function Run({ paths, range, look }) {
  return html`<section class="card">
    ${hasWays(paths) ? html`<${ByWay} ...${{ paths, range, look }} />` : html`<h2>${paths.model}${paths.run ? ` (${paths.run})` : ""} <span class="muted">${t("loss")} ${rounded(paths.loss)}</span></h2>`}
    ${paths.layers.length > 0 && html`<${Layers} layers=${paths.layers} /><${BySymbol} layers=${paths.layers} />`}
  </section>`;
}

function ByWay({ paths, range, look }) {
  const label = t("figure", { model: paths.model, run: paths.run ? ` (${paths.run})` : "" });
  const svg = chart(paths, range, look, label);
  return html`<figure class="figure">
      <figcaption><span class="figure-title">${label}</span><span class="muted">${t("loss")} ${rounded(paths.loss)}</span><${Saving} name=${`paths-${paths.model}`} svg=${() => chart(paths, range, look, label, true)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: svg }}></div>
    </figure>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("table")}><table class="plain ways"><thead><tr><th scope="col">j</th><th scope="col">${t("axis.key")}</th>
      ${Object.keys(series(paths)).map((name) => html`<th scope="col" key=${name} class="number">${t(`path.${name}`)}</th>`)}</tr></thead>
      <tbody>${paths.tokens.map((token, j) => html`<tr key=${j}><td>${j}</td><th scope="row"><${Token} text=${token} /></th>
        ${Object.entries(series(paths)).map(([name, sizes]) => html`<td key=${name} class="number" title=${full(sizes[j])}>${rounded(sizes[j])}</td>`)}</tr>`)}</tbody></table></div>
    <p class="muted">${t("sum", { off: rounded(paths.off) })}</p>`;
}

// The sublayers with a residual connection, from the loss down: what passes each by its residual connection, and what goes through it.
function Layers({ layers }) {
  const norm = (sizes) => Math.hypot(...sizes);
  const most = Math.max(...layers.flatMap((layer) => [norm(layer.skip), norm(layer.branch)]));
  return html`<h2>${t("layers")}</h2><p class="muted">${t("layers_words")}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("layers")}><table class="plain"><thead><tr><th scope="col">${t("layer")}</th><th scope="col">${t("sublayer")}</th>
      ${["skip", "branch", "total"].map((name) => html`<th scope="col" key=${name} class="number">${t(`layer.${name}`)}</th>`)}</tr></thead>
      <tbody>${layers.toReversed().map((layer) => html`<tr key=${layer.module + layer.sublayer}><th scope="row">${layer.module.split(".").slice(-3).join(".")}</th><td>${sublayer(layer)}</td>
        ${["skip", "branch", "total"].map((name) => html`<td key=${name} class="number measured" title=${full(norm(layer[name]))}>${rounded(norm(layer[name]))}${name !== "total" && html`<${Bar} x=${norm(layer[name])} ends=${[0, most]} />`}</td>`)}</tr>`)}</tbody></table></div>`;
}

// The same, symbol by symbol: a table for each stack of layers, such as the encoder's, a row for each symbol.
function BySymbol({ layers }) {
  const stacks = new Map();
  for (const layer of layers) {
    const stack = layer.module.split(".").slice(0, -2).pop() ?? layer.module; // encoder, of Transformer.encoder.layers.0
    stacks.set(stack, [...(stacks.get(stack) ?? []), layer]);
  }
  return [...stacks].map(([stack, those]) => html`<${SymbolTable} key=${stack} stack=${stack} layers=${those} />`);
}

function SymbolTable({ stack, layers }) {
  const label = t("by_symbol", { stack });
  const columns = layers.flatMap((layer) => ["skip", "branch"].map((branch) => ({ layer, branch })));
  return html`<h3>${label}</h3><div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="plain sublayers"><thead>
    <tr><td colspan="2"></td>${layers.map((layer) => html`<th scope="colgroup" colspan="2" key=${layer.module + layer.sublayer}>${layer.module.split(".").slice(-2).join(".")}<br />${sublayer(layer)}</th>`)}</tr>
    <tr><th scope="col">j</th><th scope="col">${t("symbol")}</th>${columns.map(({ layer, branch }) => html`<th scope="col" class="number" key=${layer.module + layer.sublayer + branch}>${t(`layer.${branch}`)}</th>`)}</tr></thead>
    <tbody>${layers[0].tokens.map((token, j) => html`<tr key=${j}><td>${j}</td><th scope="row"><${Token} text=${token} /></th>
      ${columns.map(({ layer, branch }) => html`<td class="number" key=${layer.module + layer.sublayer + branch} title=${full(layer[branch][j])}>${rounded(layer[branch][j])}</td>`)}</tr>`)}</tbody></table></div>`;
}

function sublayer({ sublayer }) {
  return t.has(`sublayer.${sublayer}`) ? t(`sublayer.${sublayer}`) : sublayer;
}

export const words = {
  "en": {
    "title": "Paths through time",
    "lead": "How large is the gradient that reaches each symbol's encoder state, and by which way did it enter the encoder: through the weighted sums (the state as a value), through the scores (as a key), or through the state that the decoder starts with? Each way is followed alone, on through the encoder's own steps. The vectors add up to the total, their norms do not.",
    "none": "This model announces no encoder states, so that no path can be told: see \"encoded\" in tinygrad_attn.modes.MARKS.",
    "no_encoder": "A language model has no encoder, so that there is no way into one to tell apart. The gradient of each symbol flows through the blocks alone: past each sublayer, or through it.",
    "beside": "To see a model with and without attention side by side, make the page of two runs.",
    "figure": "Gradient that reaches the encoder's states: {model}{run}",
    "table": "Norms of the gradients, by symbol",
    "sum": "The ways added up differ from the whole gradient by {off} of its largest element.",
    "path.value": "value",
    "path.key": "key",
    "path.start": "start",
    "path.other": "other",
    "path.total": "total",
    "layers": "Layer by layer, from the loss down",
    "layers_words": "Every sublayer adds its output to its input. Backward, the gradient of the input is the sum of what passes the sublayer by the residual connection and what comes through it. Norms over all positions.",
    "by_symbol": "Symbol by symbol: {stack}",
    "symbol": "symbol",
    "layer": "layer",
    "sublayer": "sublayer",
    "layer.skip": "past it",
    "layer.branch": "through it",
    "layer.total": "total",
    "sublayer.self_attention": "self-attention",
    "sublayer.attention": "attention to the source",
    "sublayer.feed_forward": "feed-forward"
  },
  "ko": {
    "title": "시간을 거치는 경로",
    "lead": "각 기호의 인코더 상태에 닿는 기울기는 얼마나 크고, 어느 길로 인코더에 들어왔을까요? 가중합을 지나(값으로서), 스코어를 지나(키로서), 또는 디코더의 시작 상태를 지나 들어옵니다. 길을 하나씩만 열고, 들어온 뒤 인코더의 스텝을 거치는 것까지 따라갑니다. 벡터는 더하면 전체가 되지만, 노름은 그렇지 않습니다.",
    "none": "이 모델은 인코더 상태를 알리지 않아 경로를 나눌 수 없습니다. tinygrad_attn.modes.MARKS의 \"encoded\"를 보세요.",
    "no_encoder": "언어 모델에는 인코더가 없으므로 그리로 들어가는 길을 나눌 것도 없습니다. 각 기호의 기울기는 블록만 지나옵니다. 부분층을 비켜 가거나 지나갑니다.",
    "beside": "어텐션이 있는 모델과 없는 모델을 나란히 보려면 두 학습 결과로 페이지를 만드세요.",
    "figure": "인코더 상태에 닿는 기울기: {model}{run}",
    "table": "기호별 기울기의 노름",
    "sum": "길들을 더한 것과 전체 기울기의 차이는 가장 큰 원소의 {off}입니다.",
    "path.value": "값",
    "path.key": "키",
    "path.start": "시작",
    "path.other": "그 밖",
    "path.total": "전체",
    "layers": "층마다, 손실에서 아래로",
    "layers_words": "모든 부분층은 출력을 입력에 더합니다. 역전파에서 입력의 기울기는 잔차 연결로 부분층을 비켜 간 것과 부분층을 지나온 것의 합입니다. 모든 위치에 대한 노름입니다.",
    "by_symbol": "기호마다: {stack}",
    "symbol": "기호",
    "layer": "층",
    "sublayer": "부분층",
    "layer.skip": "비켜 감",
    "layer.branch": "지나감",
    "layer.total": "전체",
    "sublayer.self_attention": "셀프 어텐션",
    "sublayer.attention": "소스를 보는 어텐션",
    "sublayer.feed_forward": "피드포워드"
  }
};

const t = translator(words);
