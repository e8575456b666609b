// Live mode: another sentence, another target, or a nudged weight; the server runs the model again.

import { html, makeStore, useState, useStore } from "page/core.js";
import { data, replaceData } from "page/data.js";
import { t } from "page/i18n.js";

const run = makeStore({ state: "idle", message: "" }); // idle, pending, failed, done

export async function rerun(body) {
  run.set({ state: "pending", message: "" });
  try {
    const response = await fetch("/run", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Microscope-Token": data.get().meta.served.token },
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error ?? response.statusText);
    replaceData(answer);
    run.set({ state: "done", message: "" });
  } catch (error) {
    run.set({ state: "failed", message: error.message });
  }
}

// What was given, and no translation of the model's own, nor the target that a language model does not have.
export function givenTarget({ meta, source, target }) {
  return source && meta.target_from === "given" ? target.text : null;
}

export function RunState() {
  const { state, message } = useStore(run);
  return html`<span class=${`run-state ${state}`} role="status">${state === "idle" ? "" : t(`live.${state}`, { message })}</span>`;
}

export function Live() {
  const { meta, source, target } = data.get();
  const [sentence, setSentence] = useState((source ?? target).text);
  const [wanted, setWanted] = useState(givenTarget({ meta, source, target }) ?? "");
  const [parameter, setParameter] = useState(meta.nudge?.parameter ?? "");
  const [index, setIndex] = useState(meta.nudge?.index.join(", ") ?? "");
  const [by, setBy] = useState(String(meta.nudge?.by ?? "0.01"));
  const shape = meta.nudgeable.find(({ name }) => name === parameter)?.shape;
  const { state } = useStore(run);
  const submit = (event) => {
    event.preventDefault();
    const nudge = parameter ? { parameter, index: index.split(/[\s,]+/).filter(Boolean).map(Number), by: Number(by) } : null;
    rerun({ source: sentence, target: wanted.trim() === "" ? null : wanted, nudge });
  };
  return html`<form class="card live" onSubmit=${submit} aria-label=${t("live.title")}>
    <h2>${t("live.title")}</h2>
    <div class="fields">
      <label class="wide">${t(source ? "live.source" : "live.text")}<input dir="auto" required value=${sentence} onInput=${(event) => setSentence(event.target.value)} /></label>
      ${source && html`<label class="wide">${t("live.target")}<input dir="auto" value=${wanted} placeholder=${t("live.target_hint")} onInput=${(event) => setWanted(event.target.value)} /></label>`}
      <label>${t("live.parameter")}<select value=${parameter} onChange=${(event) => { setParameter(event.target.value); setIndex(""); }}>
        <option value="">${t("live.no_nudge")}</option>
        ${meta.nudgeable.map(({ name, shape: size }) => html`<option key=${name} value=${name}>${name} (${size.join("×")})</option>`)}
      </select></label>
      ${parameter && html`<label>${t("live.index", { shape: (shape ?? []).join("×") })}<input required value=${index} placeholder=${(shape ?? []).map(() => "0").join(", ")} onInput=${(event) => setIndex(event.target.value)} /></label>
      <label>${t("live.by")}<input type="number" step="any" required value=${by} onInput=${(event) => setBy(event.target.value)} /></label>`}
    </div>
    <p><button type="submit" class="primary" disabled=${state === "pending"}>${t("live.run")}</button> <${RunState} /></p>
  </form>`;
}
