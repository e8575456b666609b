// A site of attention: every matrix forward beside its gradient, linked by the selected cell, which the inspector shows.

import { html, useState } from "page/core.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { translator } from "page/i18n.js";
import { Inspector } from "page/inspector.js";
import { symbol } from "page/parts.js";
import { SiteHeatmap } from "page/site_heatmap.js";

// Rows of the view, and whether they are open at first: what has tokens on both axes is, what has channels isn't.
const ROWS = [
  ["scores", true], ["weights", true], ["gaussian", false], ["mixed", true], ["context", false],
  ["Q", false], ["K", false], ["V", false], ["product", false], ["masked", false], ["joined", false], ["attentional", false], ["logits", false],
];

export const order = 3;

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  const site = data.get().site(chosen.site);
  if (!site) return html`<${Controls} chosen=${chosen} />`;
  return html`<${Controls} chosen=${chosen} />
    <div class="with-inspector">
      <div class="matrices">
        <div class="pair-heads" aria-hidden="true"><span class="value">${t("forward")} →</span><span class="gradient">← ${t("backward")}</span></div>
        ${ROWS.filter(([name]) => name in site.tensors).map(([name, open]) => html`<${Matrices} key=${site.id + name} ...${{ site, name, open, chosen }} />`)}
      </div>
      <${Inspector} site=${site} chosen=${chosen} />
    </div>`;
}

function Matrices({ site, name, open, chosen }) {
  const [shown, show] = useState(open || chosen.tensor === name);
  const tensor = site.tensors[name];
  const size = `${tensor.shape.slice(-2).join(" × ")}`;
  return html`<details class="matrix-pair" open=${shown} onToggle=${(event) => show(event.currentTarget.open)}>
    <summary><b>${symbol(name)}</b> ${t(`tensor.${name}`)} <span class="muted">${t(`axis.${tensor.axes[0]}`)} × ${t(`axis.${tensor.axes[1]}`)}, ${size}</span></summary>
    ${shown && html`<div class="side-by-side">
      <${SiteHeatmap} site=${site} tensor=${tensor} part="value" chosen=${chosen} />
      <${SiteHeatmap} site=${site} tensor=${tensor} part="gradient" chosen=${chosen} />
    </div>`}
  </details>`;
}

export const words = {
  "en": {
    "title": "Attention site"
  },
  "ko": {
    "title": "어텐션 자리"
  }
};

const t = translator(words);
