// Which site of attention, which head, which decoder step: the controls that several views have in common.

import { html } from "page/core.js";
import { data } from "page/data.js";
import { t } from "page/i18n.js";
import { Token, withoutSites } from "page/parts.js";
import { select } from "page/selection.js";

export function Controls({ chosen }) {
  const all = data.get();
  const site = all.site(chosen.site);
  if (!site) return html`<p class="note">${withoutSites(all)}</p>`;
  const last = site.queries.length - 1;
  return html`<div class="controls" role="group" aria-label=${t("controls.label")}>
    <label>${t("controls.site")}
      <select value=${site.id} onChange=${(event) => select({ site: event.target.value })}>
        ${all.sites.map(({ id, role, layer }) => html`<option key=${id} value=${id} selected=${id === site.id}>
          ${t(`role.${role}`)}${layer === null ? "" : `, ${t("controls.layer", { layer })}`} (${id})
        </option>`)}
      </select>
    </label>
    ${site.heads > 1 && html`<fieldset class="heads"><legend>${t("controls.head")}</legend>
      ${Array.from({ length: site.heads }, (_, head) => html`<label key=${head} class="head">
        <input type="radio" name="head" value=${head} checked=${head === chosen.head} onChange=${() => select({ head })} /><span>${head}</span>
      </label>`)}
    </fieldset>`}
    <div class="stepper">
      <span id="step-label">${t(site.role === "cross" ? "controls.step" : "controls.query")}</span>
      <button type="button" aria-label=${t("controls.back")} disabled=${chosen.step === 0} onClick=${() => select({ step: chosen.step - 1 })}>◀</button>
      <output aria-live="polite" aria-labelledby="step-label"><b><i>t</i> = ${chosen.step}</b> <span class="muted">${t("controls.of", { last })}</span>, ${t(site.role === "self" ? "controls.symbol" : "controls.reads")} <${Token} text=${site.queries[chosen.step]} kind="chip-token" /></output>
      <button type="button" aria-label=${t("controls.on")} disabled=${chosen.step === last} onClick=${() => select({ step: chosen.step + 1 })}>▶</button>
    </div>
  </div>`;
}
