// The whole layer: how much of the gradient passes residual connections, sublayers and norms, through all layers down to the
// embeddings; of the run beside it, too.

import { html, useStore } from "page/core.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, percent, rounded } from "page/numbers.js";
import { Bar, Saving } from "page/parts.js";
import { drawing, element, text } from "page/svg.js";
import { theme } from "page/theme.js";

export const order = 110;

// Of models that announce residual connections.
export const shows = (all) => all.layers.length > 0;

export function View() {
  const look = useStore(theme);
  useLanguage();
  const { layers: runs } = data.get();
  const label = t("figure");
  return html`<p class="lead">${t("lead")}</p>
    <section class="card"><figure class="figure"><figcaption><span class="figure-title">${label}</span><${Saving} name="layers" svg=${() => chart(runs, look, label)} /></figcaption>
      <div class="scroll" tabindex="0" role="region" aria-label=${label} dangerouslySetInnerHTML=${{ __html: chart(runs, look, label) }}></div></figure>
      <p class="muted">${t(runs.length > 1 ? "beside_words" : "beside")}</p></section>
    ${runs.map((run, i) => html`<${Run} key=${i} run=${run} />`)}`;
}

const named = (run) => `${run.model}${run.run ? ` (${run.run})` : ""}`;
const kind = (run) => (run.norm_first === null ? t("no_norm") : t(run.norm_first ? "pre_norm" : "post_norm"));

function Run({ run }) {
  return html`<section class="card layers"><h2>${named(run)} <span class="muted">${kind(run)}, ${t("loss")} ${rounded(run.loss)}</span></h2>
    <p class="words">${t(run.norm_first === null ? "no_norm_words" : run.norm_first ? "pre_norm_words" : "post_norm_words", { times: rounded(throughNorms(run)) })}</p>
    ${run.stacks.map((stack) => html`<${Stack} key=${stack.name} ...${{ stack }} />`)}
  </section>`;
}

// By how much the norms around the sums together have changed the length of the gradient, of the tallest stack.
function throughNorms(run) {
  const tallest = run.stacks.reduce((most, stack) => (stack.sublayers.length > most.sublayers.length ? stack : most));
  return tallest.sublayers.reduce((times, { norm_input: after, norm_output: before }) => (after !== null && before > 0 ? (times * after) / before : times), 1);
}

const COLUMNS = ["input", "added", "arrives"];

function Stack({ stack }) {
  const label = t("stack", { stack: stack.name });
  const rows = stack.sublayers.toReversed();
  const most = Math.max(...rows.map(({ total }) => total));
  return html`<h3>${label}</h3><div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="plain layers-table"><thead><tr>
      <th scope="col">${t("layer")}</th><th scope="col">${t("sublayer")}</th>${COLUMNS.map((name) => html`<th scope="col" class="number" key=${name}>${t(name)}</th>`)}
      <th scope="col" class="number">${t("past")}</th><th scope="col" class="number">${t("through")}</th><th scope="col" class="number">${t("total")}</th><th scope="col"><span class="hidden">${t("total")}</span></th><th scope="col" class="number">${t("norm")}</th><th scope="col">${t("parts")}</th></tr></thead>
    <tbody>${rows.map((each) => html`<tr key=${each.module + each.sublayer}><th scope="row">${each.module.split(".").slice(-2).join(".")}</th><td>${t.has(`sublayer.${each.sublayer}`) ? t(`sublayer.${each.sublayer}`) : each.sublayer}</td>
      ${COLUMNS.map((name) => html`<td class=${`number ${name}`} key=${name} title=${full(each[name])}>${rounded(each[name])}</td>`)}
      <${Share} share=${each.skip_share} kind="past" /><${Share} share=${each.branch_share} kind="through" />
      <td class="number total" title=${full(each.total)}>${rounded(each.total)}</td><td class="bar-cell"><${Bar} x=${each.total} ends=${[0, most]} /></td>
      <td class="number" title=${each.norm_input === null ? "" : `${full(each.norm_output)} → ${full(each.norm_input)}`}>${each.norm_input === null ? "" : `× ${rounded(each.norm_input / each.norm_output)}`}</td>
      <td class="number">${each.parts.map(({ name, norm }) => html`<span class="guess" key=${name} title=${full(norm)}>${name} ${rounded(norm)}</span>`)}</td></tr>`)}
    </tbody></table></div>
    <p class="muted">${t("bottom", { total: rounded(stack.sublayers[0].total) })}</p>`;
}

function Share({ share, kind: name }) {
  return html`<td class=${`number measured ${name}`} title=${full(share)}>${percent(share)}<${Bar} x=${share} ends=${[-1, 1]} /></td>`;
}

// Okabe and Ito's colours; lines of the second run are dashed.
const INKS = [{ light: "#0072b2", dark: "#56b4e9" }, { light: "#b34700", dark: "#f0a35e" }, { light: "#00795a", dark: "#3ecfa3" }, { light: "#8a3ffc", dark: "#be95ff" }];
const PLOT = { width: 620, height: 220 };
const MARGIN = { left: 64, right: 24, top: 24, bottom: 40 };

// ‖∂L/∂x‖ at every sublayer's input, from the loss at the left down to the embeddings at the right.
function chart(runs, look, label) {
  const lines = runs.flatMap((run, k) => run.stacks.map((stack) => ({ run, k, stack, sizes: [stack.sublayers.at(-1).arrives, ...stack.sublayers.toReversed().map(({ total }) => total)] })));
  const logs = lines.flatMap(({ sizes }) => sizes).filter((x) => x > 0).map(Math.log10);
  const [low, high] = logs.length ? [Math.floor(Math.min(...logs)), Math.max(Math.ceil(Math.max(...logs)), Math.floor(Math.min(...logs)) + 1)] : [-1, 0];
  const longest = Math.max(...lines.map(({ sizes }) => sizes.length - 1));
  const top = MARGIN.top + 18 * lines.length;
  const x = (n) => MARGIN.left + (n / Math.max(1, longest)) * PLOT.width;
  const y = (size) => top + PLOT.height - ((Math.log10(size) - low) / (high - low)) * PLOT.height;
  const faint = { light: "#dcdad2", dark: "#3a3f47" }[look];
  const drawn = [];
  for (let power = low; power <= high; power += Math.max(1, Math.ceil((high - low) / 8))) {
    drawn.push(element("path", { d: `M${MARGIN.left} ${y(10 ** power)}H${MARGIN.left + PLOT.width}`, stroke: faint }));
    drawn.push(text(`1e${power}`.replace("-", "−"), { x: MARGIN.left - 8, y: y(10 ** power) + 4, "text-anchor": "end", "font-size": 11 }));
  }
  lines.forEach(({ run, k, stack, sizes }, i) => {
    const { [look]: ink } = INKS[i % INKS.length];
    const seen = sizes.map((size, n) => [size, n]).filter(([size]) => size > 0);
    const path = seen.map(([size, n], at) => `${at ? "L" : "M"}${x(n)} ${y(size)}`).join("");
    drawn.push(element("path", { d: path, fill: "none", stroke: ink, "stroke-width": 2, "stroke-dasharray": k ? "6 4" : "none" }));
    drawn.push(element("g", { fill: ink }, ...seen.map(([size, n]) => element("circle", { cx: x(n), cy: y(size), r: 4 }))));
    drawn.push(element("path", { d: `M${MARGIN.left} ${18 + 18 * i}h26`, stroke: ink, "stroke-width": 2, "stroke-dasharray": k ? "6 4" : "none" }));
    drawn.push(text(`${stack.name}, ${named(run)}, ${kind(run)}`, { x: MARGIN.left + 34, y: 22 + 18 * i }));
  });
  drawn.push(text(t("axis.loss"), { x: MARGIN.left, y: top + PLOT.height + 24 }));
  drawn.push(text(t("axis.embeddings"), { x: MARGIN.left + PLOT.width, y: top + PLOT.height + 24, "text-anchor": "end" }));
  return drawing(MARGIN.left + PLOT.width + MARGIN.right, top + PLOT.height + MARGIN.bottom, look, label, ...drawn);
}

export const words = {
  "en": {
    "title": "Whole layer",
    "lead": "A sublayer F (attention, or feed-forward) adds to what it reads: y = x + F(x). Backward, the gradient ȳ arrives at x twice: as it is, past the sublayer by the residual connection, and through it as F′ᵀȳ. The shares say how much of ∂L/∂x each way brings; they add up to 100 %, and one below zero takes away.",
    "figure": "Size of the gradient ‖∂L/∂x‖ at each sublayer's input, from the loss down",
    "axis.loss": "loss",
    "axis.embeddings": "embeddings",
    "beside": "With the option --beside and another run, such as one with model.norm_first=true, both stand beside each other.",
    "beside_words": "The run beside it is dashed. Compare the slopes: a line that falls loses gradient on its way down, one that is flat passes it on to the first layers.",
    "pre_norm": "pre-norm",
    "post_norm": "post-norm",
    "no_norm": "no norms",
    "pre_norm_words": "Pre-norm: the norm stands inside the branch, x + F(norm(x)). On its way along the residual stream the gradient meets no norm at all, so that what arrives at the top reaches the embeddings unchanged, plus what each sublayer adds. The norms act on the branches alone.",
    "post_norm_words": "Post-norm: the norm stands around the sum, norm(x + F(x)). The gradient must go through every one of them, and each scales it by about one over the spread of what it normalises; here all norms of the taller stack together multiply its length by {times}.",
    "no_norm_words": "There are no norms around or inside the sublayers.",
    "stack": "{stack}, from the loss down",
    "layer": "layer",
    "sublayer": "sublayer",
    "input": "‖x‖",
    "added": "‖F(x)‖",
    "arrives": "arrives ‖ȳ‖",
    "past": "past it",
    "through": "through it",
    "total": "‖∂L/∂x‖",
    "norm": "norm",
    "parts": "through W^Q, W^K, W^V",
    "bottom": "The lowest x is the embedding plus the position's vector: a sum passes the same gradient, of length {total}, to both. Positions of sines and cosines are constants and do not learn.",
    "sublayer.self_attention": "self-attention",
    "sublayer.attention": "attention to the source",
    "sublayer.feed_forward": "feed-forward"
  },
  "ko": {
    "title": "층 전체",
    "lead": "부분층 F(어텐션이나 피드포워드)는 읽은 것에 더합니다. y = x + F(x). 역전파에서 기울기 ȳ는 x에 두 번 닿습니다. 잔차 연결로 부분층을 비켜 그대로 오고, 부분층을 지나 F′ᵀȳ로 옵니다. 몫은 ∂L/∂x를 각 길이 얼마나 가져오는지이며, 더하면 100 %이고 0보다 작으면 덜어 냅니다.",
    "figure": "부분층 입력마다 기울기의 크기 ‖∂L/∂x‖, 손실에서 아래로",
    "axis.loss": "손실",
    "axis.embeddings": "임베딩",
    "beside": "--beside 옵션으로 다른 학습 결과(예를 들어 model.norm_first=true)를 주면 둘을 나란히 보여 줍니다.",
    "beside_words": "나란히 놓은 쪽이 점선입니다. 기울어진 정도를 비교해 보세요. 떨어지는 선은 내려가며 기울기를 잃고, 평평한 선은 첫 층까지 전합니다.",
    "pre_norm": "프리놈",
    "post_norm": "포스트놈",
    "no_norm": "정규화 없음",
    "pre_norm_words": "프리놈: 정규화가 가지 안에 있습니다. x + F(norm(x)). 잔차의 흐름을 따라 내려오는 기울기는 정규화를 만나지 않으므로, 위에 닿은 것이 그대로 임베딩까지 오고 부분층마다 조금씩 더해집니다. 정규화는 가지에만 작용합니다.",
    "post_norm_words": "포스트놈: 정규화가 합을 감쌉니다. norm(x + F(x)). 기울기는 정규화를 빠짐없이 지나야 하고, 그때마다 정규화하는 값이 퍼진 정도로 나뉩니다. 여기서는 더 높은 쪽의 정규화를 모두 지나며 길이에 {times}이 곱해집니다.",
    "no_norm_words": "부분층의 안에도 둘레에도 정규화가 없습니다.",
    "stack": "{stack}, 손실에서 아래로",
    "layer": "층",
    "sublayer": "부분층",
    "input": "‖x‖",
    "added": "‖F(x)‖",
    "arrives": "닿음 ‖ȳ‖",
    "past": "비켜 감",
    "through": "지나감",
    "total": "‖∂L/∂x‖",
    "norm": "정규화",
    "parts": "W^Q, W^K, W^V를 지나",
    "bottom": "맨 아래의 x는 임베딩에 위치의 벡터를 더한 것입니다. 합은 길이 {total}의 같은 기울기를 둘에 전합니다. 사인과 코사인의 위치는 상수라 배우지 않습니다.",
    "sublayer.self_attention": "셀프 어텐션",
    "sublayer.attention": "소스를 보는 어텐션",
    "sublayer.feed_forward": "피드포워드"
  }
};

const t = translator(words);
