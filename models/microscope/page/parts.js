// Small pieces that several views show.

import { html } from "page/core.js";
import { t } from "page/i18n.js";
import { rounded, short } from "page/numbers.js";
import { colour } from "page/colours.js";
import { savePng, saveSvg } from "page/svg.js";
import { theme } from "page/theme.js";

// A symbol as text, whatever its script; one of spaces or line ends alone would not be seen.
export const visible = (text) => (/^\s+$/.test(text) ? text.replaceAll("\n", "↵").replaceAll(/\s/g, "␣") : text);

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

// Which way a text runs, by its first letter; dir="auto" doesn't look into the symbols, each of which is set apart.
export const direction = (text) => (RIGHT_TO_LEFT.test(text.match(/\p{L}/u)?.[0] ?? "") ? "rtl" : "ltr");

export function Token({ text, kind = "" }) {
  return html`<bdi class=${`token ${kind}`}>${visible(text)}</bdi>`;
}

export function Saving({ name, svg }) {
  return html`<span class="saving">
    <button type="button" class="quiet" onClick=${() => saveSvg(name, svg())} aria-label=${t("save.svg", { name })}>SVG</button>
    <button type="button" class="quiet" onClick=${() => savePng(name, svg())} aria-label=${t("save.png", { name })}>PNG</button>
  </span>`;
}

// Shares, between 0 and 1.
const SHARES = ["weights", "gaussian", "mixed"];

// The ends of a tensor's colour scale, the same for all heads and steps: 0 and 1 for shares, else the same on both sides
// of zero.
export function endsOf(tensor, part) {
  const limit = tensor[part].limit();
  return part === "value" && SHARES.includes(tensor.name) ? [0, Math.max(1, limit)] : [-limit, limit];
}

const stops = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1];

export function Scale({ ends: [low, high] }) {
  const fills = stops.map((share) => colour(low + share * (high - low), [low, high], theme.get()).fill);
  return html`<span class="scale" role="img" aria-label=${t(low < 0 || high === 0 ? "scale.label" : "scale.share", { limit: rounded(high) })}>
    <span>${high === 0 ? "0" : short(low)}</span>
    <span class="scale-bar" style=${{ backgroundImage: `linear-gradient(to right, ${fills.join(", ")})` }}></span>
    <span>${high === 0 ? "0" : `${low < 0 ? "+" : ""}${short(high)}`}</span>
  </span>`;
}

// A bar that grows from the middle: to the left below zero, to the right above; on a scale that begins at 0, from the left. In
// per cent.
export function barOf(x, [low, high]) {
  const share = high > 0 && Number.isFinite(x) ? Math.min(1, Math.abs(x) / high) : 0;
  const oneSided = low === 0 && high > 0;
  const { fill } = colour(Math.sign(x) * 0.85 * high, [low, high], theme.get());
  return { oneSided, fill, left: oneSided ? 0 : x < 0 ? 50 - 50 * share : 50, width: (oneSided ? 100 : 50) * share };
}

export function Bar({ x, ends }) {
  const { oneSided, fill, left, width } = barOf(x, ends);
  return html`<span class=${oneSided ? "bar one-sided" : "bar"} aria-hidden="true"><span style=${{ backgroundColor: fill, left: `${left}%`, width: `${width}%` }}></span></span>`;
}

// What to say of a model that announces no attention.
export const withoutSites = (all) => t(all.source ? "site.none" : "site.none_of_text");

// The result of a check as a sign and a word, not as a colour alone.
export function Verdict({ holds }) {
  return html`<span class=${holds ? "verdict good" : "verdict bad"}>${holds ? "✓" : "✗"} ${t(holds ? "verdict.holds" : "verdict.fails")}</span>`;
}

// The signs of the badge's states.
export const BADGE = { good: "✓", bad: "✗", not_finite: "?" };

// Where the pass stopped being finite: the weight or op, and the element.
export function source(found) {
  const value = { nan: "NaN", inf: "∞", "-inf": "−∞" }[found.value];
  const holes = { ...found, value, place: `[${found.cell.join(", ")}]`, step: found.step === null ? "" : t("source.step", { step: found.step }) };
  return t(`source.${found.what === "weight" && !found.reaches ? "unused" : found.what}`, holes);
}

// That a wrong derivative was asked for: on every view, since any of them may show its numbers.
export function Broken({ name }) {
  return html`<p class="alert" role="note" id="broken"><b>${t("broken.title")}</b> ${t.has(`broken.${name}`) ? t(`broken.${name}`) : name}</p>`;
}

export function GradientState({ state }) {
  return html`<span class=${`state state-${state}`}>${t(`state.${state}`)}</span>`;
}

// The label of a site's tensor: its letter in the formulas, with ∂L/∂ before it for the gradient.
export const SYMBOLS = {
  Q: "Q", K: "K", V: "V", product: "P", scores: "e", masked: "ê", weights: "α", gaussian: "G", mixed: "β", context: "c",
  joined: "u", attentional: "s̃", logits: "o",
};

export function symbol(name, part = "value") {
  const letter = SYMBOLS[name] ?? name;
  return part === "gradient" ? `∂L/∂${letter}` : letter;
}

export function title(name, part = "value") {
  return t(part === "gradient" ? "tensor.gradient_of" : "tensor.value_of", { name: t(`tensor.${name}`), symbol: symbol(name, part) });
}
