// What was run, what the model makes of it, and whether every number on the page was found right.

import { html } from "../core.js";
import { data } from "../data.js";
import { Formula } from "../formula.js";
import { has, t } from "../i18n.js";
import { Live } from "../live.js";
import { full, percent, rounded } from "../numbers.js";
import { Bar, direction, Token, Verdict } from "../parts.js";
import { hash } from "../selection.js";

export function Summary() {
  const all = data.get();
  return html`
    ${all.meta.broken && html`<p class="alert" role="note"><b>${t("broken.title")}</b> ${has(`broken.${all.meta.broken}`) ? t(`broken.${all.meta.broken}`) : all.meta.broken}</p>`}
    ${all.meta.nudge && html`<p class="alert calm" role="note">${t("nudge.active", { parameter: all.meta.nudge.parameter, index: `[${all.meta.nudge.index.join(", ")}]`, by: full(all.meta.nudge.by) })}</p>`}
    <div class="columns">
      <section class="card pair"><h2>${t("summary.pair")}</h2><${Pair} all=${all} /></section>
      <${Badge} check=${all.check} />
    </div>
    ${all.meta.served && html`<${Live} />`}
    <section class="card"><h2>${t("summary.tokens")}</h2><${Tokens} all=${all} /></section>
    <div class="columns">
      <section class="card"><h2>${t("summary.identities")}</h2><${Identities} identities=${all.check.identities} /></section>
      <section class="card"><h2>${t("summary.model")}</h2><${Model} all=${all} /></section>
    </div>`;
}

function Pair({ all }) {
  const wrong = all.translation.tokens.join("\n") !== all.target.tokens.join("\n");
  const line = (sentence) => sentence.tokens.map((token, i) => html`<${Token} key=${i} text=${token} />`);
  return html`<dl class="pair-list">
    <dt>${t("summary.source")}</dt><dd dir=${direction(all.source.text)} class="sentence">${line(all.source)}</dd>
    <dt>${t(all.meta.target_from === "given" ? "summary.target" : "summary.target_greedy")}</dt><dd dir=${direction(all.target.text)} class="sentence">${line(all.target)}</dd>
    <dt>${t("summary.translation")}</dt><dd dir=${direction(all.translation.text)} class="sentence">${line(all.translation)} ${all.meta.target_from === "given" && html`<span class=${wrong ? "verdict bad" : "verdict good"}>${wrong ? `✗ ${t("summary.differs")}` : `✓ ${t("summary.same")}`}</span>`}</dd>
    <dt>${t("summary.loss")}</dt><dd class="number big">${rounded(all.meta.loss)} <span class="muted">${t("summary.loss_words")}</span></dd>
  </dl>`;
}

function Badge({ check }) {
  const held = check.identities.filter((identity) => identity.holds).length;
  const lines = [
    [check.cells.every((cell) => cell.holds), t("badge.compared", { count: check.compared, worst: rounded(check.worst), tolerance: rounded(check.tolerance) })],
    [check.recomputed_worst <= check.recomputed_tolerance, t("badge.recomputed", { count: check.recomputed.toLocaleString(), worst: rounded(check.recomputed_worst), tolerance: rounded(check.recomputed_tolerance) })],
    [check.replayed_worst <= check.recomputed_tolerance, t("badge.replayed", { count: check.replayed, worst: rounded(check.replayed_worst) })],
    [held === check.identities.length, t("badge.identities", { held, count: check.identities.length })],
  ];
  return html`<section class=${`card badge ${check.ok ? "good" : "bad"}`} id="badge">
    <h2><span class="badge-mark" aria-hidden="true">${check.ok ? "✓" : "✗"}</span> ${t(check.ok ? "badge.good" : "badge.bad")}</h2>
    <ul>${lines.map(([holds, words], i) => html`<li key=${i}><span class=${holds ? "good" : "bad"} aria-label=${t(holds ? "verdict.holds" : "verdict.fails")} role="img">${holds ? "✓" : "✗"}</span> ${words}</li>`)}</ul>
    ${check.unresolved > 0 && html`<p class="note">${t("badge.unresolved", { count: check.unresolved, floor: rounded(check.floor) })}</p>`}
    ${check.unknown_ops.length > 0 && html`<p class="note">${t("badge.unknown", { ops: check.unknown_ops.join(", ") })}</p>`}
    ${check.failures.length > 0 && html`<${Failures} failures=${check.failures} failing=${check.failing} />`}
  </section>`;
}

function Failures({ failures, failing }) {
  return html`<details open><summary>${t("failures.title", { count: failing, shown: failures.length })}</summary>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("failures.title", { count: failing, shown: failures.length })}><table class="plain"><thead><tr>
      <th scope="col">${t("failures.kind")}</th><th scope="col">${t("failures.where")}</th><th scope="col">${t("failures.expected")}</th><th scope="col">${t("failures.found")}</th><th scope="col">${t("failures.error")}</th>
    </tr></thead><tbody>${failures.map((failure, i) => html`<tr key=${i}>
      <td>${t(`failure.${failure.kind}`)}</td>
      <td>${[failure.site, failure.tensor ?? failure.name, failure.cell && `[${[failure.cell].flat().join(", ")}]`].filter(Boolean).join(" · ")}</td>
      <td class="number">${failure.expected == null ? "" : rounded(failure.expected)}</td>
      <td class="number">${failure.found == null ? "" : rounded(failure.found)}</td>
      <td class="number">${failure.error == null ? "" : rounded(failure.error)}</td>
    </tr>`)}</tbody></table></div></details>`;
}

function Tokens({ all }) {
  const most = Math.max(...all.tokens.map((token) => token.loss), 1e-12);
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("summary.tokens")}><table class="plain"><thead><tr>
    <th scope="col">t</th><th scope="col">${t("tokens.read")}</th><th scope="col">${t("tokens.expected")}</th>
    <th scope="col" class="number">${t("tokens.probability")}</th><th scope="col" class="number">${t("tokens.loss")}</th><th scope="col"><span class="hidden">${t("tokens.loss")}</span></th><th scope="col">${t("tokens.predicted")}</th>
  </tr></thead><tbody>${all.tokens.map((token, i) => html`<tr key=${i}>
    <td><a href=${hash({ view: "steps", step: i })}>${i}</a></td>
    <td><${Token} text=${token.read} /></td><td><${Token} text=${token.expected} /></td>
    <td class="number">${percent(token.probability)}</td><td class="number loss" title=${full(token.loss)}>${rounded(token.loss)}</td>
    <td class="bar-cell"><${Bar} x=${token.loss} limit=${most} oneSided /></td>
    <td class="predicted">${token.predicted.map(([symbol, p], k) => html`<span key=${k} class=${symbol === token.expected ? "guess right" : "guess"}><${Token} text=${symbol} /> <span class="number">${percent(p)}</span></span>`)}</td>
  </tr>`)}</tbody></table></div>`;
}

function Identities({ identities }) {
  if (!identities.length) return html`<p class="note">${t("identities.none")}</p>`;
  const names = [...new Set(identities.map((identity) => identity.name))];
  return html`<ul class="identities">${names.map((name) => {
    const those = identities.filter((identity) => identity.name === name);
    const worst = Math.max(...those.map((identity) => identity.worst));
    return html`<li key=${name}>
      <div><${Verdict} holds=${those.every((identity) => identity.holds)} /> <b>${t(`identity.${name}`)}</b></div>
      <${Formula} latex=${those[0].latex} block />
      <div class="muted">${t("identities.where", { count: those.length, worst: rounded(worst) })}</div>
    </li>`;
  })}</ul>`;
}

function Model({ all }) {
  const { meta } = all;
  const facts = [
    ["model.class", meta.model], ["model.run", meta.run], ["model.seed", meta.seed], ["model.commit", meta.commit?.slice(0, 12)],
    ["model.parameters", meta.parameters.toLocaleString()], ["model.dtype", meta.dtype],
    ...Object.entries(meta.config).filter(([, value]) => typeof value !== "object").map(([key, value]) => [key, String(value)]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${facts.map(([key, value]) => html`<dt key=${`${key}-name`}>${has(key) ? t(key) : key}</dt><dd key=${key}>${value}</dd>`)}</dl>
    ${all.kept.dropped.length > 0 && html`<p class="note">${t("model.dropped", { names: all.kept.dropped.join(", ") })}</p>`}`;
}
