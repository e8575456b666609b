// All heads of all layers at once, small: what each attends to, the gradient of its scores, and how alike they are.

import { html, useLayoutEffect, useRef, useState, useStore } from "page/core.js";
import { colour } from "page/colours.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { endsOf, Scale } from "page/parts.js";
import { hash, select } from "page/selection.js";
import { theme } from "page/theme.js";

export const order = 100;

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  return html`<p class="lead">${t("lead")}</p>
    ${all.sites.map((site) => html`<${Site} key=${site.id} ...${{ site, chosen, facts: all.heads.find((each) => each.site === site.id) }} />`)}
    <section class="card"><h2>${t("same")}</h2><p class="words">${t("same_words")}</p></section>`;
}

function Site({ site, chosen, facts }) {
  const { weights, scores } = site.tensors;
  return html`<section class="card heads-of"><h2><a href=${hash({ view: "site", site: site.id })}>${site.id}</a> <span class="muted">${t(`role.${site.role}`)}</span>
      ${weights.value && html`<span class="muted">α</span> <${Scale} ends=${endsOf(weights, "value")} />`} ${scores.gradient && html`<span class="muted">∂L/∂e</span> <${Scale} ends=${endsOf(scores, "gradient")} />`}</h2>
    <div class="multiples">${Array.from({ length: site.heads }, (_, head) => html`<figure key=${head} class=${`multiple ${site.id === chosen.site && head === chosen.head ? "on" : ""}`}>
      <figcaption>${t("head", { head })} <span class="muted">${t("facts", { entropy: rounded(facts.entropy[head]), norm: rounded(facts.gradient_norms[head]) })}</span></figcaption>
      <div class="pair-of"><${Small} ...${{ site, tensor: weights, part: "value", head }} /><${Small} ...${{ site, tensor: scores, part: "gradient", head }} /></div></figure>`)}</div>
    ${site.heads > 1 && html`<${Alike} ...${{ site, facts }} />`}
  </section>`;
}

const LEAST = 108; // pixels of the longer side

// A matrix as a picture, a pixel for each cell, which leads to the matrix with its numbers.
function Small({ site, tensor, part, head }) {
  const look = useStore(theme);
  const canvas = useRef();
  const numbers = tensor[part];
  const [rows, columns] = [site.queries.length, site.keys.length];
  const size = Math.max(1, Math.round(LEAST / Math.max(rows, columns)));
  useLayoutEffect(() => {
    if (!numbers) return;
    const pen = canvas.current.getContext("2d");
    const ends = endsOf(tensor, part);
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) {
        pen.fillStyle = site.allowed(head, i, j) ? colour(numbers.at(head, i, j), ends, look).fill : { light: "#dedbd2", dark: "#343941" }[look];
        pen.fillRect(j, i, 1, 1);
      }
    }
  }, [site, head, part, look]);
  if (!numbers) return html`<p class="note">${t("tensor.dropped")}</p>`;
  const label = t(part === "value" ? "open_weights" : "open_gradient", { head, site: site.id });
  return html`<button type="button" class="small-matrix" aria-label=${label} title=${label} onClick=${() => select({ view: "site", site: site.id, head, tensor: tensor.name, part })}>
    <canvas ref=${canvas} width=${columns} height=${rows} style=${{ width: `${columns * size}px`, height: `${rows * size}px` }} aria-hidden="true"></canvas></button>`;
}

// The cosines between each two heads: of their weights, and of the gradients of their scores.
function Alike({ site, facts }) {
  const [open, setOpen] = useState(site.heads <= 4);
  return html`<details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>${t("alike")}</summary>
    ${open && html`<div class="columns"><${Cosines} caption=${t("alike_weights")} kind="weights" site=${site.id} matrix=${facts.weights_alike} />${facts.gradients_alike && html`<${Cosines} caption=${t("alike_gradients")} kind="gradients" site=${site.id} matrix=${facts.gradients_alike} />`}</div>`}</details>`;
}

function Cosines({ caption, kind, site, matrix }) {
  const look = useStore(theme);
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${`${caption}, ${site}`}><table class=${`plain cosines ${kind}`}><caption>${caption}</caption><thead><tr><td></td>${matrix.map((_, j) => html`<th scope="col" class="number" key=${j}>${j}</th>`)}</tr></thead>
    <tbody>${matrix.map((row, i) => html`<tr key=${i}><th scope="row">${i}</th>${row.map((x, j) => {
      const { fill, ink } = colour(x, [-1, 1], look);
      return html`<td class="number" key=${j} title=${full(x)} style=${{ backgroundColor: fill, color: ink }}>${x.toFixed(2).replace("-", "−")}</td>`;
    })}</tr>`)}</tbody></table></div>`;
}

export const words = {
  "en": {
    "title": "All heads",
    "lead": "Every head of every layer: at its left what it attends to, α, at its right the gradient of its scores, ∂L/∂e. Rows are queries, columns keys; grey cells are masked. Within a layer the colours of all heads have the same scale, so that a head whose gradient is pale learns little from this sentence.",
    "head": "head {head}",
    "facts": "entropy {entropy}, ‖∂L/∂e‖ {norm}",
    "open_weights": "Weights of head {head} at {site}: open the matrix",
    "open_gradient": "Gradient of the scores of head {head} at {site}: open the matrix",
    "alike": "How alike are the heads?",
    "alike_weights": "Cosine between the weights α",
    "alike_gradients": "Cosine between the gradients ∂L/∂e",
    "same": "What stops heads from learning the same?",
    "same_words": "Nothing in the loss. Heads with the same weights would get the same gradient and stay the same for ever; they start at different random weights, and the output map gives each head columns of its own, so that each hears a different part of what the loss asks: c̄ of a head is the gradient after the heads are joined, through its own columns. Where two rows of a table are near 1, the two heads attend to the same and could be one; where the cosine of the gradients is low although that of the weights is high, they are about to part."
  },
  "ko": {
    "title": "모든 헤드",
    "lead": "모든 층의 모든 헤드입니다. 왼쪽은 어디를 보는지(α), 오른쪽은 스코어의 기울기(∂L/∂e)입니다. 행은 쿼리, 열은 키이고 회색 칸은 마스크된 곳입니다. 한 층 안에서는 모든 헤드의 색이 같은 눈금을 쓰므로, 기울기가 옅은 헤드는 이 문장에서 배우는 것이 적습니다.",
    "head": "헤드 {head}",
    "facts": "엔트로피 {entropy}, ‖∂L/∂e‖ {norm}",
    "open_weights": "{site}의 헤드 {head} 가중치: 행렬 열기",
    "open_gradient": "{site}의 헤드 {head} 스코어의 기울기: 행렬 열기",
    "alike": "헤드는 서로 얼마나 비슷할까요?",
    "alike_weights": "가중치 α 사이의 코사인",
    "alike_gradients": "기울기 ∂L/∂e 사이의 코사인",
    "same": "왜 헤드가 모두 똑같아지지 않을까요?",
    "same_words": "손실에는 막는 것이 없습니다. 가중치가 같은 헤드는 같은 기울기를 받아 영영 같은 채로 남습니다. 그러나 헤드마다 다른 무작위 값에서 시작하고, 출력 사상에 헤드마다 제 몫의 열이 있어 손실이 바라는 것의 다른 부분을 듣습니다. 헤드의 c̄은 이어 붙인 뒤의 기울기가 제 열을 지나온 것입니다. 표에서 1에 가까운 두 헤드는 같은 곳을 보므로 하나로도 됩니다. 가중치의 코사인은 높은데 기울기의 코사인이 낮으면 곧 갈라질 헤드입니다."
  }
};

const t = translator(words);
