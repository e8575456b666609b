// A site of attention: every matrix forward beside its gradient, linked by the selected cell, which the inspector shows.

import { html, mediaStore, useState, useStore } from "page/core.js";
import { Controls } from "page/controls.js";
import { data, labels } from "page/data.js";
import { widthOfMatrix } from "page/heatmap.js";
import { translator } from "page/i18n.js";
import { Inspector } from "page/inspector.js";
import { Legend } from "page/legend.js";
import { symbol } from "page/parts.js";
import { SiteHeatmap } from "page/site_heatmap.js";

// Rows of the view, and whether they are open at first: what has tokens on both axes is, what has channels isn't.
const ROWS = [
  ["scores", true], ["weights", true], ["gaussian", false], ["mixed", true], ["context", false],
  ["Q", false], ["K", false], ["V", false], ["product", false], ["masked", false], ["joined", false], ["attentional", false], ["logits", false],
];

export const order = 50;

const narrow = mediaStore("(max-width: 1100px)"); // as in page.css: there the inspector stands below its cell

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  const site = data.get().site(chosen.site);
  const below = useStore(narrow);
  return html`<${Controls} chosen=${chosen} />
    <${Legend} site=${site} />
    ${site.mask && html`<details class="legend" id="masks"><summary>${t("mask")}</summary><p class="words">${t("mask_words")}</p></details>`}
    <div class="with-inspector">
      <div class="matrices">
        ${ROWS.filter(([name]) => name in site.tensors).map(([name, open]) => html`<${Matrices} key=${site.id + name} ...${{ site, name, open, chosen, below }} />`)}
      </div>
      ${!below && html`<${Inspector} site=${site} chosen=${chosen} />`}
    </div>`;
}

function Matrices({ site, name, open, chosen, below }) {
  const [shown, show] = useState(open || chosen.tensor === name);
  const tensor = site.tensors[name];
  const size = `${tensor.shape.slice(-2).join(" × ")}`;
  const [rows, columns] = tensor.axes.map((axis, i) => labels(site, axis, tensor.shape.at(i - 2)));
  const wide = `${widthOfMatrix(rows, columns, symbol(name, "gradient"))}px`; // side by side where both are seen whole
  const inspector = (part) => below && chosen.tensor === name && chosen.part === part && html`<${Inspector} site=${site} chosen=${chosen} />`;
  return html`<details class="matrix-pair" open=${shown} onToggle=${(event) => show(event.currentTarget.open)}>
    <summary><b>${symbol(name)}</b> ${t(`tensor.${name}`)} <span class="muted">${t(`axis.${tensor.axes[0]}`)} × ${t(`axis.${tensor.axes[1]}`)}, ${size}</span></summary>
    ${shown && html`<div class="side-by-side" style=${{ "--wide": wide }}>
      <${SiteHeatmap} site=${site} tensor=${tensor} part="value" chosen=${chosen} />${inspector("value")}
      <${SiteHeatmap} site=${site} tensor=${tensor} part="gradient" chosen=${chosen} />${inspector("gradient")}
    </div>`}
  </details>`;
}

export const words = {
  "en": {
    "title": "Attention matrices",
    "mask": "Masks: a score of −∞, and why no gradient is infinite",
    "mask_words": "The mask does not add −∞ as a number that gradients run through. It chooses: where a query may not attend, the softmax never sees the score. The weight there is exp(−∞) = 0, exactly, and ∂L/∂e = α(∂L/∂α − Σ α ∂L/∂α) has this 0 as a factor, so it is exactly 0 as well: the right value, since that score changes nothing. If every key of a query is masked, the softmax would be 0/0; here such a row has weights 0, context 0 and gradient 0. With the causal mask each position attends to itself and what came before, so that all positions can be trained in one pass."
  },
  "ko": {
    "title": "어텐션 행렬",
    "mask": "마스크: 스코어는 −∞인데 기울기는 왜 무한하지 않을까요?",
    "mask_words": "마스크는 기울기가 지나갈 숫자로 −∞를 더하는 것이 아니라 고르는 것입니다. 볼 수 없는 곳의 스코어는 소프트맥스가 아예 보지 않습니다. 그곳의 가중치는 exp(−∞) = 0으로 정확히 0이고, ∂L/∂e = α(∂L/∂α − Σ α ∂L/∂α)에는 이 0이 곱해지므로 기울기도 정확히 0입니다. 그 스코어는 아무것도 바꾸지 않으니 맞는 값입니다. 쿼리의 모든 키가 마스크되면 소프트맥스는 0/0이 되겠지만, 여기서 그런 행은 가중치도 컨텍스트도 기울기도 0입니다. 인과 마스크에서는 위치마다 자신과 그 앞만 보므로 모든 위치를 한 번에 학습할 수 있습니다."
  }
};

const t = translator(words);
