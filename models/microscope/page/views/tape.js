// Everything that ran, in order. Only the rows in sight are in the document: a tape can have tens of thousands.

import { html, useEffect, useRef, useState } from "../core.js";
import { data } from "../data.js";
import { Formula } from "../formula.js";
import { t } from "../i18n.js";
import { full, rounded } from "../numbers.js";
import { GradientState, symbol } from "../parts.js";
import { hash, select } from "../selection.js";

const HEIGHT = 30; // of a row, as in page.css
const SPARE = 8;
const STATES = ["value", "zero", "none", "nan"];

// The numbers of the ops whose name, module, tensor, line or shape has every word of the query.
function find(all, query, state) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return all.tape.map((_, i) => i).filter((i) => {
    const op = all.tape[i];
    if (state && op.state !== state) return false;
    const text = `${i} ${op.op} ${all.modules[op.module]} ${op.site ?? ""} ${op.tensor ?? ""} ${all.lines[op.line]} (${op.shape.join(", ")})`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

export function Tape({ chosen }) {
  const all = data.get();
  const [query, setQuery] = useState("");
  const [state, setState] = useState("");
  const found = find(all, query, state);
  const [top, setTop] = useState(0);
  const box = useRef();
  const visible = Math.ceil((box.current?.clientHeight ?? 600) / HEIGHT);
  const first = Math.max(0, Math.floor(top / HEIGHT) - SPARE);
  const rows = found.slice(first, first + visible + 2 * SPARE);
  const at = found.indexOf(chosen.op);
  const reveal = (place) => {
    const y = place * HEIGHT;
    const high = box.current.clientHeight - 2 * HEIGHT;
    if (y < box.current.scrollTop) box.current.scrollTop = y;
    else if (y > box.current.scrollTop + high) box.current.scrollTop = y - high;
  };
  useEffect(() => { if (at >= 0) reveal(at); }, [chosen.op, query, state]);
  const onKeyDown = (event) => {
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 15, PageUp: at - 15, Home: 0, End: found.length - 1,
    }[event.key];
    if (event.key === "Enter" && all.tape[chosen.op].site) select(siteOf(all, chosen.op));
    if (to === undefined || !found.length) return;
    event.preventDefault();
    select({ op: found[Math.max(0, Math.min(to, found.length - 1))] });
  };
  return html`<div class="tape-controls">
      <label>${t("tape.search")} <input type="search" value=${query} placeholder=${t("tape.hint")} onInput=${(event) => { setQuery(event.target.value); box.current.scrollTop = 0; }} /></label>
      <label>${t("tape.state")} <select value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">${t("tape.any")}</option>${STATES.map((name) => html`<option key=${name} value=${name}>${t(`state.${name}`)}</option>`)}</select></label>
      <span role="status" class="muted">${t("tape.found", { found: found.length, all: all.tape.length })}</span>
    </div>
    <div class="with-inspector">
      <div class="tape" ref=${box} tabindex="0" role="grid" aria-label=${t("view.tape")} aria-rowcount=${found.length + 1} aria-colcount="7"
        aria-activedescendant=${at >= first && at < first + rows.length ? `op-${chosen.op}` : undefined}
        onScroll=${(event) => setTop(event.currentTarget.scrollTop)} onKeyDown=${onKeyDown}>
        <div class="tape-row tape-head" role="row" aria-rowindex="1">
          ${["tape.number", "tape.op", "tape.module", "tape.step", "tape.shape", "tape.norm", "tape.gradient"].map((key) => html`<span key=${key} role="columnheader">${t(key)}</span>`)}
        </div>
        <div class="tape-space" role="presentation" style=${{ height: `${found.length * HEIGHT}px` }}>
          <div class="tape-window" role="rowgroup" style=${{ transform: `translateY(${first * HEIGHT}px)` }}>
            ${rows.map((i, k) => html`<${Row} key=${i} ...${{ all, i, index: first + k + 2, on: i === chosen.op }} />`)}
          </div>
        </div>
      </div>
      ${all.tape.length > 0 && html`<${Op} all=${all} i=${chosen.op} />`}
    </div>`;
}

function siteOf(all, i) {
  const { site, tensor, step } = all.tape[i];
  const known = tensor && all.site(site).tensors[tensor];
  return { view: "site", site, ...(known && { tensor }), ...(step !== null && { step }) };
}

function Row({ all, i, index, on }) {
  const op = all.tape[i];
  return html`<div class=${`tape-row ${on ? "on" : ""}`} role="row" id=${`op-${i}`} aria-rowindex=${index} aria-selected=${on} onClick=${() => select({ op: i })}>
    <span role="gridcell" class="number">${i}</span><span role="gridcell"><b>${op.op}</b>${op.tensor ? html` <em>${symbol(op.tensor)}</em>` : ""}</span>
    <span role="gridcell" title=${all.modules[op.module]}>${all.modules[op.module] || "—"}</span><span role="gridcell" class="number">${op.step ?? ""}</span>
    <span role="gridcell" class="number">(${op.shape.join(", ")})</span><span role="gridcell" class="number">${op.norm === null ? "" : rounded(op.norm)}</span>
    <span role="gridcell" class="number">${op.state === "value" ? rounded(op.gradient_norm) : html`<${GradientState} state=${op.state} />`}</span>
  </div>`;
}

function Op({ all, i }) {
  const op = all.tape[i];
  const { latex, vjp = {} } = all.ops[op.op] ?? {};
  const operands = Object.keys(vjp);
  const readers = all.tape.map((other, k) => [other, k]).filter(([other]) => other.inputs.includes(i)).map(([, k]) => k);
  return html`<section class="inspector" aria-label=${t("tape.selected")}>
    <h2>#${i} ${op.op}</h2>
    <p class="muted">${all.modules[op.module] || "—"}${op.step === null ? "" : ` · ${t("tape.step")} ${op.step}`}<br /><code>${all.lines[op.line]}</code></p>
    <h3>${t("inspector.formula")}</h3><${Formula} latex=${latex} block />
    ${operands.map((operand) => html`<div key=${operand} class="vjp"><span class="gradient">∂L/∂${operand}</span> <${Formula} latex=${vjp[operand]} block /></div>`)}
    <h3>${t("tape.inputs")}</h3>
    <ul class="plain-list">${op.inputs.map((input, k) => html`<li key=${k}>
      ${typeof input === "number" ? html`<a href=${hash({ op: input })}>#${input} ${all.tape[input].op}</a>` : html`<code>${input ?? t("tape.constant")}</code>`}
      ${op.edges[k] !== null && op.edges[k] !== undefined && html` <span class="muted">${t("tape.sends")}</span> <span class="number">${rounded(op.edges[k])}</span>`}</li>`)}</ul>
    <h3>${t("tape.readers")}</h3>
    ${readers.length ? html`<ul class="plain-list">${readers.map((k) => html`<li key=${k}><a href=${hash({ op: k })}>#${k} ${all.tape[k].op}</a>
      ${all.tape[k].inputs.map((input, place) => input === i && all.tape[k].edges[place] != null && html` <span class="muted">${t("tape.receives")}</span> <span class="number">${rounded(all.tape[k].edges[place])}</span>`)}</li>`)}</ul>` : html`<p class="note">${t("tape.unread")}</p>`}
    <dl class="facts"><dt>${t("tape.norm")}</dt><dd class="number">${op.norm === null ? "—" : full(op.norm)}</dd>
      <dt>${t("tape.gradient")}</dt><dd>${op.gradient_norm === null ? "" : html`<span class="number">${full(op.gradient_norm)}</span> `}<${GradientState} state=${op.state} /></dd></dl>
    ${op.site && html`<p><a class="jump" href=${hash(siteOf(all, i))}>${t("tape.jump", { site: op.site })} ↗</a></p>`}
  </section>`;
}
