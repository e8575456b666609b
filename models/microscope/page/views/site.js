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

export const order = 3;

const narrow = mediaStore("(max-width: 1100px)"); // as in page.css: there the inspector stands below its cell

// Of models that attend.
export const shows = (all) => all.sites.length > 0;

export function View({ chosen }) {
  const site = data.get().site(chosen.site);
  const below = useStore(narrow);
  return html`<${Controls} chosen=${chosen} />
    <${Legend} site=${site} />
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
    "title": "Attention matrices"
  },
  "ko": {
    "title": "어텐션 행렬"
  }
};

const t = translator(words);
