// How the gradient comes back to each symbol of the source: as a value, as a key, and through the recurrence.

import { html, useStore } from "page/core.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { Saving, Token, visible } from "page/parts.js";
import { drawing, element, text, widthOf } from "page/svg.js";
import { theme } from "page/theme.js";

// Told apart by shape and colour; the colours are Okabe and Ito's.
const SERIES = {
  value: { light: "#0072b2", dark: "#56b4e9", shape: (x, y) => element("circle", { cx: x, cy: y, r: 5 }) },
  score: { light: "#b34700", dark: "#f0a35e", shape: (x, y) => element("path", { d: `M${x} ${y - 6}L${x + 6} ${y + 5}H${x - 6}Z` }) },
  recurrence: { light: "#00795a", dark: "#3ecfa3", shape: (x, y) => element("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }) },
  total: { light: "#5c6470", dark: "#a5adba", shape: (x, y) => element("path", { d: `M${x - 6} ${y}H${x + 6}`, "stroke-width": 3 }) },
};
const PLOT = 220; // the height between the axes
const LONGEST = 14; // characters of a label

function decades(all) {
  const sizes = all.flatMap((paths) => Object.keys(SERIES).flatMap((name) => paths[name])).filter((x) => x > 0);
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
  names.forEach((name, j) => {
    const place = `translate(${x(j) + 4} ${bottom + 14}) rotate(-40)`;
    drawn.push(text(name, { transform: place, "text-anchor": "end" }));
  });
  Object.entries(SERIES).forEach(([name, { [look]: ink, shape }], i) => {
    const seen = paths[name].map((size, j) => [size, j]).filter(([size]) => size > 0 && Math.log10(size) >= low);
    const line = seen.map(([size, j], k) => `${k ? "L" : "M"}${x(j)} ${y(size)}`).join("");
    drawn.push(element("path", { d: line, fill: "none", stroke: ink, "stroke-opacity": 0.35, "stroke-width": 1.5 }));
    drawn.push(element("g", { fill: ink, stroke: ink }, ...seen.map(([size, j]) => shape(x(j), y(size)))));
    const at = margin.left + i * 104;
    drawn.push(element("g", { fill: ink, stroke: ink }, shape(at, margin.top - 24)));
    drawn.push(text(t(`path.${name}`), { x: at + 11, y: margin.top - 20 }));
  });
  return drawing(Math.max(width, margin.left + 420, titled ? 24 + 1.15 * widthOf(label) : 0), height, look, label, ...drawn);
}

export const order = 5;

export function View() {
  const look = useStore(theme);
  useLanguage();
  const all = data.get().paths;
  if (!all.length) return html`<p class="note">${t("none")}</p>`;
  const range = decades(all);
  return html`<p class="lead">${t("lead")}</p>
    <div class="runs">${all.map((paths, i) => html`<${Run} key=${i} ...${{ paths, range, look }} />`)}</div>
    ${all.length === 1 && html`<p class="note">${t("beside")}</p>`}`;
}

function Run({ paths, range, look }) {
  const label = t("figure", { model: paths.model, run: paths.run ? ` (${paths.run})` : "" });
  const svg = chart(paths, range, look, label);
  return html`<section class="card">
    <figure class="figure">
      <figcaption><span class="figure-title">${label}</span><span class="muted">${t("loss")} ${rounded(paths.loss)}</span><${Saving} name=${`paths-${paths.model}`} svg=${() => chart(paths, range, look, label, true)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: svg }}></div>
    </figure>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("table")}><table class="plain"><thead><tr><th scope="col">j</th><th scope="col">${t("axis.key")}</th>
      ${[...Object.keys(SERIES), "start"].map((name) => html`<th scope="col" key=${name} class="number">${t(`path.${name}`)}</th>`)}</tr></thead>
      <tbody>${paths.tokens.map((token, j) => html`<tr key=${j}><td>${j}</td><th scope="row"><${Token} text=${token} /></th>
        ${[...Object.keys(SERIES), "start"].map((name) => html`<td key=${name} class="number" title=${full(paths[name][j])}>${rounded(paths[name][j])}</td>`)}</tr>`)}</tbody></table></div>
  </section>`;
}

export const words = {
  "en": {
    "title": "Paths through time",
    "lead": "How large is the gradient that reaches each symbol's encoder state, and which way did it take: through the weighted sums (as a value), through the scores (as a key), or through time (the encoder's next states and the decoder's start)? The vectors add up to the total, their norms do not.",
    "none": "No paths were recorded.",
    "beside": "To see a model with and without attention side by side, make the page of two runs.",
    "figure": "Gradient that reaches the encoder's states: {model}{run}",
    "table": "Norms of the gradients, by symbol",
    "path.value": "value",
    "path.score": "score",
    "path.recurrence": "recurrence",
    "path.total": "total",
    "path.start": "of it: start"
  },
  "ko": {
    "title": "시간을 거치는 경로",
    "lead": "각 기호의 인코더 상태에 닿는 기울기는 얼마나 크고, 어느 길로 왔을까요? 가중합을 지나(값으로서), 스코어를 지나(키로서), 또는 시간을 지나(인코더의 다음 상태와 디코더의 시작) 옵니다. 벡터는 더하면 전체가 되지만, 노름은 그렇지 않습니다.",
    "none": "기록된 경로가 없습니다.",
    "beside": "어텐션이 있는 모델과 없는 모델을 나란히 보려면 두 학습 결과로 페이지를 만드세요.",
    "figure": "인코더 상태에 닿는 기울기: {model}{run}",
    "table": "기호별 기울기의 노름",
    "path.value": "값",
    "path.score": "스코어",
    "path.recurrence": "순환",
    "path.total": "전체",
    "path.start": "그중 시작"
  }
};

const t = translator(words);
