// All ops that ran, in order. Only the visible rows are in the document: a tape can have tens of thousands.

import { html, useEffect, useRef, useState } from "page/core.js";
import { data } from "page/data.js";
import { Formula } from "page/formula.js";
import { translator } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { GradientState, symbol } from "page/parts.js";
import { hash, select } from "page/selection.js";

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

export const order = 80;

export function View({ chosen }) {
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
      <label>${t("search")} <input type="search" value=${query} placeholder=${t("hint")} onInput=${(event) => { setQuery(event.target.value); box.current.scrollTop = 0; }} /></label>
      <label>${t("state")} <select value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">${t("any")}</option>${STATES.map((name) => html`<option key=${name} value=${name}>${t(`state.${name}`)}</option>`)}</select></label>
      <span role="status" class="muted">${t("found", { found: found.length, all: all.tape.length })}</span>
    </div>
    <details class="legend" id="order"><summary>${t("order")}</summary><p class="words">${t("order_words")}</p></details>
    <div class="with-inspector">
      <div class="tape" ref=${box} tabindex="0" role="grid" aria-label=${t("title")} aria-rowcount=${found.length + 1} aria-colcount="7"
        aria-activedescendant=${at >= first && at < first + rows.length ? `op-${chosen.op}` : undefined}
        onScroll=${(event) => setTop(event.currentTarget.scrollTop)} onKeyDown=${onKeyDown}>
        <div class="tape-row tape-head" role="row" aria-rowindex="1">
          ${["number", "op", "module", "step", "shape", "norm", "gradient"].map((key) => html`<span key=${key} role="columnheader">${t(key)}</span>`)}
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
    <span role="gridcell" class="number">${op.state === "value" ? rounded(op.gradient_norm) : op.state === "none" ? html`<span class="state state-none" title=${t("state.none")}>${t("none")}</span>` : html`<${GradientState} state=${op.state} />`}</span>
  </div>`;
}

function Op({ all, i }) {
  const op = all.tape[i];
  const { latex, vjp = {} } = all.ops[op.op] ?? {};
  const operands = Object.keys(vjp);
  const readers = all.tape.map((other, k) => [other, k]).filter(([other]) => other.inputs.includes(i)).map(([, k]) => k);
  return html`<section class="inspector" aria-label=${t("selected")}>
    <h2>#${i} ${op.op}</h2>
    <p class="muted">${all.modules[op.module] || "—"}${op.step === null ? "" : ` · ${t("step")} t = ${op.step}`}<br /><code>${all.lines[op.line]}</code></p>
    <h3>${t("inspector.formula")}</h3><p class="note">${t("letters")}</p><${Formula} latex=${latex} block />
    ${operands.map((operand) => html`<div key=${operand} class="vjp"><span class="gradient">∂L/∂${operand}</span> <${Formula} latex=${vjp[operand]} block /></div>`)}
    <h3>${t("inputs")}</h3>
    <ul class="plain-list">${op.inputs.map((input, k) => html`<li key=${k}>
      ${typeof input === "number" ? html`<a href=${hash({ op: input })}>#${input} ${all.tape[input].op}</a>` : html`<code>${input ?? t("constant")}</code>`}
      ${op.edges[k] !== null && op.edges[k] !== undefined && html` <span class="muted">${t("sends")}</span> <span class="number">${rounded(op.edges[k])}</span>`}</li>`)}</ul>
    <h3>${t("readers")}</h3>
    ${readers.length ? html`<ul class="plain-list">${readers.map((k) => html`<li key=${k}><a href=${hash({ op: k })}>#${k} ${all.tape[k].op}</a>
      ${all.tape[k].inputs.map((input, place) => input === i && all.tape[k].edges[place] != null && html` <span class="muted">${t("receives")}</span> <span class="number">${rounded(all.tape[k].edges[place])}</span>`)}</li>`)}</ul>` : html`<p class="note">${t("unread")}</p>`}
    <dl class="facts"><dt>${t("norm")}</dt><dd class="number">${op.norm === null ? "—" : full(op.norm)}</dd>
      <dt>${t("gradient")}</dt><dd>${op.gradient_norm === null ? "" : html`<span class="number">${full(op.gradient_norm)}</span> `}<${GradientState} state=${op.state} /></dd></dl>
    ${op.site && html`<p><a class="jump" href=${hash(siteOf(all, i))}>${t("jump", { site: op.site })} ↗</a></p>`}
  </section>`;
}

export const words = {
  "en": {
    "title": "Tape",
    "search": "Search",
    "hint": "matmul decoder scores …",
    "state": "Gradient",
    "any": "any",
    "found": "{found} of {all} ops",
    "order": "In which order does the backward pass go, and why not in any?",
    "order_words": "The ops are listed in the order in which they ran, so every op that uses a value stands below the one that made it: a topological order of the graph. The backward pass goes through it from the last to the first. When an op's turn comes, all that use it have sent their shares, so their sum is the whole gradient, and it is sent on once. In another order an op would send on a part, and once more for every share that comes later; where each of n layers uses its input twice, as residual connections do, the first would send 2ⁿ times.",
    "number": "#",
    "op": "op",
    "module": "module",
    "step": "step",
    "shape": "shape",
    "norm": "‖value‖",
    "gradient": "‖gradient‖",
    "selected": "The selected op",
    "letters": "With the op's own letters: z is its output, the others are its operands and options, and a bar marks the gradient of the loss.",
    "inputs": "Inputs, and the norm of the gradient sent to each",
    "readers": "Used by, and the norm of the gradient received from each",
    "sends": "sends",
    "receives": "receives",
    "constant": "a constant",
    "none": "none",
    "unread": "No op uses it.",
    "jump": "Go to {site}"
  },
  "ko": {
    "title": "테이프",
    "search": "찾기",
    "hint": "matmul decoder scores …",
    "state": "기울기",
    "any": "모두",
    "found": "연산 {all}개 중 {found}개",
    "order": "역전파는 어떤 순서로 가고, 왜 아무 순서나 안 될까요?",
    "order_words": "연산은 실행된 순서대로 놓여 있으므로, 어떤 값을 쓰는 연산은 모두 그 값을 만든 연산보다 아래에 있습니다. 곧 그래프의 위상 순서입니다. 역전파는 이것을 마지막에서 처음으로 지나갑니다. 한 연산의 차례가 오면 그것을 쓰는 연산이 모두 제 몫을 이미 보냈으므로, 그 합이 온전한 기울기이고 한 번만 보내면 됩니다. 다른 순서라면 일부만 보낸 뒤 나중에 몫이 올 때마다 다시 보내야 합니다. 잔차 연결처럼 n개 층이 저마다 입력을 두 번 쓰면 첫 층은 2ⁿ번 보내게 됩니다.",
    "number": "#",
    "op": "연산",
    "module": "모듈",
    "step": "스텝",
    "shape": "모양",
    "norm": "‖값‖",
    "gradient": "‖기울기‖",
    "selected": "고른 연산",
    "letters": "연산마다 쓰는 기호입니다: z는 출력, 나머지는 입력과 옵션이고, 막대는 손실의 기울기를 나타냅니다.",
    "inputs": "입력, 그리고 각각에 보내는 기울기의 노름",
    "readers": "이것을 쓰는 연산, 그리고 각각에서 받는 기울기의 노름",
    "sends": "보냄",
    "receives": "받음",
    "constant": "상수",
    "none": "없음",
    "unread": "쓰는 연산이 없습니다.",
    "jump": "{site}(으)로 가기"
  }
};

const t = translator(words);
