// The heatmap of one tensor at a site of attention, linked with all others by the selection.

import { html } from "page/core.js";
import { data, labels } from "page/data.js";
import { t } from "page/i18n.js";
import { Heatmap } from "page/heatmap.js";
import { endsOf, GradientState, symbol, title } from "page/parts.js";
import { chosenBy, place, select } from "page/selection.js";

// Beyond this, columns of channels or symbols that no formula needs in full are left to the data's JSON.
const MOST_COLUMNS = 256;

// The columns to show of `size`: of symbols those of the targets too, wherever they are, and the chosen one.
function shown(tensor, size, column) {
  const first = Array.from({ length: Math.min(size, MOST_COLUMNS) }, (_, j) => j);
  if (size <= MOST_COLUMNS) return first;
  const targets = tensor.axes[1] === "symbol" ? data.get().tokens.map((token) => token.expected_id) : [];
  return [...new Set([...first, ...targets, column])].sort((a, b) => a - b);
}

export function SiteHeatmap({ site, tensor, part, chosen }) {
  const numbers = tensor[part];
  const label = title(tensor.name, part);
  if (!numbers) {
    const state = part === "gradient" && tensor.state === "none" ? html`<${GradientState} state="none" />` : t("tensor.dropped");
    return html`<figure class="figure empty"><figcaption><span class="figure-title">${label}</span></figcaption><p class="note">${state}</p></figure>`;
  }
  const [rows, all] = [labels(site, tensor.axes[0], numbers.rows), labels(site, tensor.axes[1], numbers.columns)];
  const { row, column } = place(tensor, chosen);
  const order = shown(tensor, all.length, column);
  const columns = order.map((j) => all[j]);
  const keyed = tensor.axes[1] === "key";
  return html`<div class="site-heatmap">
    <${Heatmap}
      linked=${`${site.id} ${keyed ? "keys" : tensor.name}`}
      name=${`${site.id}-${part === "gradient" ? "d" : ""}${tensor.name}-head${chosen.head}`}
      label=${label} corner=${symbol(tensor.name, part)}
      caption=${html`<b class=${part}>${symbol(tensor.name, part)}</b> ${t(`tensor.${tensor.name}`)} <span class="muted">${t(part === "value" ? "forward" : "backward")}</span>${part === "gradient" && tensor.state !== "value" ? html` <${GradientState} state=${tensor.state} />` : ""}`}
      rows=${rows} columns=${columns} ends=${endsOf(tensor, part)} at=${(i, j) => numbers.at(chosen.head, i, order[j])}
      masked=${keyed && tensor.axes[0] === "query" ? (i, j) => !site.allowed(chosen.head, i, j) : null}
      version=${`${site.id} ${chosen.head} ${part} ${tensor.name} ${chosen.run} ${order.slice(MOST_COLUMNS).join()}`}
      row=${row} column=${order.indexOf(column)} active=${chosen.tensor === tensor.name && chosen.part === part}
      choose=${(i, j) => select(chosenBy(tensor, part, i, order[j]))} />
    ${columns.length < all.length && html`<p class="note">${t("tensor.first_columns", { shown: columns.length, all: all.length })}</p>`}
  </div>`;
}
