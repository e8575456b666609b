// The opening picture: where a step looks, as lines whose width is the weight, and where the gradient of its scores pulls,
// as lines whose width is the size and whose colour and dashes are the sign.

import { html, useLayoutEffect, useRef, useState } from "page/core.js";
import { colour } from "page/colours.js";
import { Controls } from "page/controls.js";
import { data } from "page/data.js";
import { translator } from "page/i18n.js";
import { full, percent, rounded, short, signed } from "page/numbers.js";
import { largestOf } from "page/opening.js";
import { source, Token, visible, withoutSites } from "page/parts.js";
import { hash, select } from "page/selection.js";
import { theme } from "page/theme.js";

const WIDEST = 16; // pixels of a line: a weight of 1, or the layer's largest gradient
const THINNEST = 0.2; // of a line that is drawn
const SEEN = 0.04; // the share of the largest gradient from which a symbol is marked with the sign
const TAIL = 16; // symbols of a text that the sentence quotes
const NAMED = 6; // symbols of a text with which one of its letters is quoted: there are many of each
const DENSE = 40; // rows from which they stand closer

export const order = 10;

// It tells of predictions; with a loss of the user's own there are none.
export const shows = (all) => all.tokens.length > 0;

export function View({ chosen }) {
  const all = data.get();
  const [pointed, point] = useState(null); // { key: j } or { step: t } under the pointer or the focus
  const site = all.site(chosen.site);
  if (!site) return html`<${Without} all=${all} step=${chosen.step} />`;
  const row = rowOf(site, chosen);
  return html`
    <p class="says" id="says">${said(all, site, chosen, row).join(" ")}</p>
    <${Controls} chosen=${chosen} />
    <div class="with-readout">
      <figure class=${`card picture ${Math.max(site.queries.length, site.keys.length) > DENSE ? "dense" : ""}`} aria-label=${t("figure")}>
        <${Drawing} ...${{ all, site, chosen, row, pointed, point }} />
        <figcaption><${Reading} site=${site} row=${row} /></figcaption>
      </figure>
      <${Readout} ...${{ all, site, chosen, row, pointed }} />
    </div>`;
}

// The row of the chosen step: by key its weight and the gradient of its score, which are null where the page lacks them.
function rowOf(site, { head, step }) {
  const { weights, scores } = site.tensors;
  const line = (numbers) => numbers && site.keys.map((_, j) => numbers.at(head, step, j));
  return {
    open: site.keys.map((_, j) => site.allowed(head, step, j)),
    alpha: line(weights.value), e: line(scores.value), dAlpha: line(weights.gradient), dScore: line(scores.gradient),
    limit: scores.gradient?.limit() ?? 0,
  };
}

const isDecoder = (site) => site.role !== "self"; // whose rows are the steps that predict

// -- the sentence ---------------------------------------------------------------------------------------------------

// What one sees, in a few sentences.
function said(all, site, chosen, row) {
  if (all.check.not_finite?.reaches) return [source(all.check.not_finite)];
  const first = isDecoder(site) && all.tokens[chosen.step] ? ofStep(all, chosen.step) : t("says.self", { read: visible(site.queries[chosen.step]) });
  if (!row.open.some(Boolean)) return [first, t("says.masked")];
  const most = row.alpha && largestOf(row.alpha);
  const looks = row.alpha ? t("says.looks", { key: named(site, most), share: percent(row.alpha[most]) }) : t("tensor.dropped");
  return [first, looks, pulls(site, row)];
}

// What the model should say at a step and does say.
function ofStep(all, step) {
  const token = all.tokens[step];
  const losses = all.tokens.map(({ loss }) => loss);
  const holes = {
    t: step, read: all.source ? visible(token.read) : tail(all.target.tokens, step), expected: visible(token.expected), said: visible(token.predicted[0]?.[0] ?? "—"),
    p: percent(token.probability), loss: short(token.loss), total: short(losses.reduce((sum, x) => sum + x, 0)),
  };
  const right = token.predicted[0]?.[0] === token.expected;
  const kind = `${all.source ? "says" : "says.text"}.${right ? "right" : "wrong"}`;
  return `${t(kind, holes)} ${t(step === largestOf(losses) ? "says.largest" : "says.loss", holes)}`;
}

// The last symbols of a text up to a step.
function tail(tokens, step, count = TAIL) {
  const last = tokens.slice(Math.max(0, step + 1 - count), step + 1);
  const letters = last.every((token) => [...token].length === 1);
  return `${step + 1 > count ? "…" : ""}${last.map((token) => (letters && token === " " ? " " : visible(token))).join(letters ? "" : " ")}`;
}

// A symbol that is looked at; in a long text, with those before it.
const named = (site, j) => (site.role === "causal" && site.keys.length > DENSE ? tail(site.keys, j, NAMED) : visible(site.keys[j]));

// From which symbol the gradient pulls attention away, and towards which.
function pulls(site, { dScore }) {
  if (!dScore) return site.tensors.scores.state === "none" ? t("says.none") : t("tensor.dropped");
  const [up, down] = [largestOf(dScore), largestOf(dScore.map((x) => -x))];
  if (!(dScore[up] > 0) && !(dScore[down] < 0)) return t("says.zero");
  if (!(dScore[up] > 0) || !(dScore[down] < 0)) return t("says.one", { key: named(site, dScore[up] > 0 ? up : down) });
  return t("says.pulls", { away: named(site, up), towards: named(site, down) });
}

// -- the drawing ----------------------------------------------------------------------------------------------------

// What stands above the symbols that a step may look at, by the role of the attention.
const HEADS = { cross: "head.source", self: "head.symbol", causal: "head.read" };

// Steps, symbols, and steps again, with the lines between them: forward from the left, backward from the right.
function Drawing({ all, site, chosen, row, pointed, point }) {
  const box = useRef();
  const rows = Math.max(site.queries.length, site.keys.length);
  const middle = (index, count) => (rows - count) / 2 + index + 0.5;
  const from = middle(chosen.step, site.queries.length);
  const ends = site.keys.map((_, j) => middle(j, site.keys.length));
  useLayoutEffect(() => { // in a long text the chosen step is brought into sight
    const [{ clientHeight, scrollTop, scrollHeight }, height] = [box.current, box.current.scrollHeight / rows];
    const top = from * height;
    if (scrollHeight > clientHeight && (top < scrollTop + height || top > scrollTop + clientHeight - height)) box.current.scrollTop = top - clientHeight / 2;
  }, [chosen.step, site.id, rows]);
  return html`<div class="picture-heads" aria-hidden="true">
      <b>${t(isDecoder(site) ? "head.read" : "head.symbol")}</b><span class="value">${t("head.looks")} α →</span><b>${t(HEADS[site.role])}</b>
      <span class="gradient">← ${t("head.pulls")} <span class="index">∂L/∂e</span></span><b>${isDecoder(site) ? t("head.expected") : ""}</b>
    </div>
    <div class="picture-box" ref=${box}><div class="picture-grid" style=${{ "--rows": rows }}>
      <${Steps} ...${{ all, site, chosen, point }} />
      <${Lines} kind="looks" from=${from} ends=${ends} rows=${rows} left numbers=${row.alpha} limit=${1} ...${{ pointed, point }} />
      <${Keys} ...${{ site, chosen, row, point }} />
      <${Lines} kind="pulls" from=${from} ends=${ends} rows=${rows} numbers=${row.dScore} limit=${row.limit} ...${{ pointed, point }} />
      <${Expected} ...${{ all, site, chosen, point }} />
    </div></div>`;
}

function Lines({ kind, from, ends, rows, left, numbers, limit, pointed, point }) {
  const drawn = (numbers ?? []).map((x, j) => [x, j]).filter(([x]) => (WIDEST * Math.abs(x)) / limit >= THINNEST);
  const [start, end] = left ? [0, 100] : [100, 0];
  return html`<svg class=${`lines ${kind}`} viewBox=${`0 0 100 ${rows}`} preserveAspectRatio="none" aria-hidden="true">
    ${drawn.toSorted(([a], [b]) => Math.abs(a) - Math.abs(b)).map(([x, j]) => {
      const share = Math.min(1, Math.abs(x) / limit);
      const stroke = colour(Math.sign(x) * (0.45 + 0.55 * share), kind === "looks" ? [0, 1] : [-1, 1], theme.get()).fill;
      const dim = pointed?.key !== undefined && pointed.key !== j;
      return html`<path key=${j} class=${`${x > 0 && kind === "pulls" ? "away" : ""} ${dim ? "dim" : ""}`} vector-effect="non-scaling-stroke"
        d=${`M${start} ${from}C50 ${from} 50 ${ends[j]} ${end} ${ends[j]}`} style=${{ stroke, strokeWidth: `${Math.max(0.6, WIDEST * share)}px` }}
        onMouseEnter=${() => point({ key: j })} onMouseLeave=${() => point(null)} onClick=${() => select({ key: j })} />`;
    })}</svg>`;
}

// Buttons of which one is chosen, as a group for the keyboard: Tab reaches the chosen one, arrow keys go on from there.
function Choice({ label, kind, count, at, choose, point, children }) {
  const onKeyDown = (event) => {
    const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: count - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(count - 1, to));
    choose(next);
    event.currentTarget.children[next].focus();
  };
  return html`<div class=${`symbols ${kind}`} role="radiogroup" aria-label=${label} style=${{ "--count": count }} onKeyDown=${onKeyDown}>
    ${Array.from({ length: count }, (_, i) => {
      const { name, content, ...more } = children(i);
      const [on, off] = [() => point(i), () => point(null)];
      return html`<button type="button" key=${i} role="radio" aria-checked=${i === at} tabindex=${i === at ? 0 : -1} aria-label=${name} ...${more}
        onClick=${() => choose(i)} onFocus=${on} onMouseEnter=${on} onBlur=${off} onMouseLeave=${off}>${content}</button>`;
    })}</div>`;
}

function Steps({ all, site, chosen, point }) {
  const name = (i) => {
    const token = isDecoder(site) ? all.tokens[i] : null;
    const holes = { t: i, read: visible(site.queries[i]), expected: visible(token?.expected ?? ""), said: visible(token?.predicted[0]?.[0] ?? "—"), loss: token ? rounded(token.loss) : "" };
    return t(token ? "step.label" : "step.label_self", holes);
  };
  return html`<${Choice} kind="readers" label=${t(site.role === "cross" ? "controls.step" : "controls.query")} count=${site.queries.length} at=${chosen.step}
    choose=${(step) => select({ step })} point=${(i) => point(i === null ? null : { step: i })}
    children=${(i) => ({ name: name(i), content: html`<${Token} text=${site.queries[i]} />` })} />`;
}

function Keys({ site, chosen, row, point }) {
  const sign = (x) => (Math.abs(x) >= SEEN * row.limit && x !== 0 ? (x > 0 ? "+" : "−") : "");
  const name = (j) => (row.open[j] ? t("key.label", { key: visible(site.keys[j]), j, share: row.alpha ? percent(row.alpha[j]) : "—", gradient: row.dScore ? signed(row.dScore[j]) : "—" }) : t("key.masked", { key: visible(site.keys[j]), j }));
  return html`<${Choice} kind="seen" label=${t("axis.key")} count=${site.keys.length} at=${chosen.key}
    choose=${(key) => select({ key })} point=${(j) => point(j === null ? null : { key: j })}
    children=${(j) => ({
      name: name(j), class: row.open[j] ? "" : "masked",
      content: html`<${Token} text=${site.keys[j]} /><span class=${`sign ${row.dScore?.[j] > 0 ? "away" : "towards"}`}>${row.dScore && row.open[j] ? sign(row.dScore[j]) : ""}</span>`,
    })} />`;
}

// What each step should say; its loss is a bar behind it. For the eye and the mouse: the steps' own labels say it too.
function Expected({ all, site, chosen, point }) {
  if (!isDecoder(site)) return html`<div class="symbols expected"></div>`;
  const most = Math.max(...all.tokens.map(({ loss }) => loss), 1e-12);
  return html`<div class="symbols expected" aria-hidden="true" style=${{ "--count": site.queries.length }}>${site.queries.map((_, i) => {
    const token = all.tokens[i];
    if (!token) return html`<span key=${i} class="expected-symbol"></span>`;
    const [first] = token.predicted[0] ?? [];
    const share = `${Math.max(0, Math.min(100, (100 * token.loss) / most))}%`;
    return html`<span key=${i} class=${`expected-symbol ${i === chosen.step ? "on" : ""}`} style=${{ "--loss": share }} onClick=${() => select({ step: i })} onMouseEnter=${() => point({ step: i })} onMouseLeave=${() => point(null)}>
      <${Token} text=${token.expected} />${first !== undefined && first !== token.expected && html`<span class="said bad">✗ <${Token} text=${first} /></span>`}</span>`;
  })}</div>`;
}

// -- what is beside it ------------------------------------------------------------------------------------------------

function Reading({ site, row }) {
  const most = row.dScore ? row.dScore.reduce((size, x) => (Number.isFinite(x) ? Math.max(size, Math.abs(x)) : size), 0) : 0;
  const share = row.limit > 0 ? most / row.limit : 0;
  return html`<ul class="reading">
    <li><svg aria-hidden="true"><path class="looks" d="M0 8H40" /></svg>${t("reading.looks")}</li>
    <li><svg aria-hidden="true"><path class="towards" d="M0 8H40" /></svg>${t("reading.towards")}</li>
    <li><svg aria-hidden="true"><path class="away" d="M0 8H40" /></svg>${t("reading.away")}</li>
    ${isDecoder(site) && html`<li><span class="loss-sample" aria-hidden="true"></span>${t("reading.loss")}</li>`}
  </ul>
  ${row.dScore && share < SEEN && html`<p class="note">${t("reading.small", { share: short(share) })}</p>`}`;
}

// The numbers of what is pointed at or has the focus.
function Readout({ all, site, chosen, row, pointed }) {
  if (pointed?.key !== undefined) return html`<${OfKey} site=${site} row=${row} step=${chosen.step} j=${pointed.key} />`;
  if (pointed?.step !== undefined) return html`<${OfStep} all=${all} site=${site} step=${pointed.step} />`;
  return html`<aside class="card readout"><h2>${t("numbers")}</h2><p class="muted">${t("point")}</p>
    <p class="muted">${t("keyboard")}</p></aside>`;
}

function OfKey({ site, row, step, j }) {
  const numbers = [["α", row.alpha], ["e", row.e], ["∂L/∂α", row.dAlpha], ["∂L/∂e", row.dScore]].filter(([, line]) => line);
  const x = row.dScore?.[j];
  return html`<aside class="card readout"><h2><${Token} text=${site.keys[j]} kind="chip-token" /> <span class="muted">${t("axis.key")} <i>j</i> = ${j}, <i>t</i> = ${step}</span></h2>
    ${row.open[j] ? html`<dl class="facts">${numbers.map(([name, line]) => html`<dt key=${`${name}-name`}>${name}</dt><dd key=${name} class="number" data-name=${name} title=${full(line[j])}>${name === "α" || name === "e" ? rounded(line[j]) : signed(line[j])}</dd>`)}</dl>
      ${x !== undefined && html`<p>${t(x > 0 ? "means.away" : x < 0 ? "means.towards" : "means.zero")}</p>`}
      <p><a href=${hash({ view: "site", tensor: "scores", part: "gradient", step, key: j })}>${t("how")} →</a></p>`
      : html`<p>${t("masked.zero")}</p>`}</aside>`;
}

function OfStep({ all, site, step }) {
  const token = isDecoder(site) ? all.tokens[step] : null;
  if (!token) return html`<aside class="card readout"><h2><${Token} text=${site.queries[step]} kind="chip-token" /> <span class="muted"><i>t</i> = ${step}</span></h2></aside>`;
  return html`<aside class="card readout"><h2><i>t</i> = ${step}: <${Token} text=${token.read} kind="chip-token" /> → <${Token} text=${token.expected} kind="chip-token" /></h2>
    <dl class="facts"><dt>${t("loss")} −ln p</dt><dd class="number" data-name="loss" title=${full(token.loss)}>${rounded(token.loss)}</dd>
    ${token.predicted.some(([symbol]) => symbol === token.expected) ? "" : html`<dt>p(<${Token} text=${token.expected} />)</dt><dd class="number">${rounded(token.probability)}</dd>`}
    ${token.predicted.slice(0, 3).map(([symbol, p], i) => html`<dt key=${`${i}-name`}>p(<${Token} text=${symbol} />)</dt><dd key=${i} class="number" title=${full(p)}>${rounded(p)}</dd>`)}</dl></aside>`;
}

// Of a model without attention: the loss, and how much gradient reaches each symbol through the one vector.
function Without({ all, step }) {
  const [paths] = all.paths;
  const total = paths?.total ?? [];
  const most = Math.max(...total.filter(Number.isFinite), 0);
  return html`<p class="says" id="says">${all.check.not_finite?.reaches ? source(all.check.not_finite) : `${ofStep(all, step)} ${t("says.without")}`}</p>
    ${total.length && most > 0 ? html`<figure class="card picture without" aria-label=${t("figure.without")}>
      <div class="picture-heads" aria-hidden="true"><b>${t("head.source")}</b><span class="gradient">← ‖∂L/∂h‖</span><b></b></div>
      <div class="picture-grid" style=${{ "--rows": total.length }}>
        <div class="symbols" role="list" style=${{ "--count": total.length }}>${paths.tokens.map((token, j) => html`<span role="listitem" key=${j} class="expected-symbol" title=${full(total[j])}><${Token} text=${token} /><span class="hidden">${rounded(total[j])}</span></span>`)}</div>
        <svg class="lines norms" viewBox=${`0 0 100 ${total.length}`} preserveAspectRatio="none" aria-hidden="true">${total.map((x, j) => html`<path key=${j} vector-effect="non-scaling-stroke"
          d=${`M100 ${total.length / 2}C50 ${total.length / 2} 50 ${j + 0.5} 0 ${j + 0.5}`} style=${{ strokeWidth: `${(WIDEST * x) / most}px` }} />`)}</svg>
        <div class="bottleneck">${t("bottleneck")}</div>
      </div></figure>` : ""}
    <p class="note">${withoutSites(all)}</p>`;
}

export const words = {
  "en": {
    "title": "Picture",
    "figure": "Where the step looks, and where the gradient pulls",
    "figure.without": "How much gradient reaches each symbol of the source",
    "says.wrong": "In step {t} the model has read “{read}” and should say “{expected}”, but says “{said}”.",
    "says.right": "In step {t} the model has read “{read}”, should say “{expected}”, and does (p = {p}).",
    "says.text.wrong": "After “{read}” the text goes on with “{expected}”, but the model expects “{said}”.",
    "says.text.right": "After “{read}” the text goes on with “{expected}”, as the model expects (p = {p}).",
    "says.largest": "No loss is larger: {loss} of {total} in all.",
    "says.loss": "The loss here is {loss} of {total} in all.",
    "says.self": "This is the row of “{read}”.",
    "says.looks": "It looks most at “{key}” ({share}, teal).",
    "says.pulls": "To lower the loss, attention has to move away from “{away}” (orange) and towards “{towards}” (blue).",
    "says.one": "Only the score of “{key}” has a gradient.",
    "says.zero": "The gradient of its scores is exactly zero: nothing pulls at this attention.",
    "says.none": "No gradient reaches its scores: nothing pulls at this attention.",
    "says.masked": "It may look at nothing: all keys are masked.",
    "says.without": "This model has no attention: each step reads one vector of fixed size, so that no line leads from a step to a symbol, and the gradient comes back to all symbols through that vector.",
    "head.read": "has read",
    "head.symbol": "symbol",
    "head.looks": "looks",
    "head.source": "source",
    "head.pulls": "pulls",
    "head.expected": "should say",
    "step.label": "Step {t}: has read {read}, should say {expected}, says {said}, loss {loss}",
    "step.label_self": "Row {t}: {read}",
    "key.label": "{key}, key {j}: weight {share}, gradient of the score {gradient}",
    "key.masked": "{key}, key {j}: masked",
    "reading.looks": "weight α: the wider, the more it looks there",
    "reading.towards": "∂L/∂e below zero: a larger score lowers the loss, so attention is pulled towards here",
    "reading.away": "∂L/∂e above zero: a larger score raises the loss, so attention is pulled away from here",
    "reading.loss": "the longer the bar, the larger the loss",
    "reading.small": "The largest gradient of this row is {share} times the largest in this layer.",
    "numbers": "Numbers",
    "point": "Point at a symbol or a line, and its numbers stand here.",
    "keyboard": "With the keyboard: Tab goes to the steps and to the symbols, arrow keys go on from there.",
    "means.away": "A larger score would raise the loss: gradient descent lowers it, and moves attention away from here.",
    "means.towards": "A larger score would lower the loss: gradient descent raises it, and moves attention towards here.",
    "means.zero": "Exactly zero: no small change of this score changes the loss.",
    "how": "How this number comes about",
    "bottleneck": "one vector"
  },
  "ko": {
    "title": "그림",
    "figure": "스텝이 보는 곳과 기울기가 당기는 곳",
    "figure.without": "소스의 각 기호에 닿는 기울기의 크기",
    "says.wrong": "스텝 {t}에서 모델은 ‘{read}’까지 읽었고 ‘{expected}’ 기호를 내야 하지만 ‘{said}’ 기호를 냅니다.",
    "says.right": "스텝 {t}에서 모델은 ‘{read}’까지 읽었고, 내야 할 ‘{expected}’ 기호를 냅니다(p = {p}).",
    "says.text.wrong": "‘{read}’ 다음에 올 기호는 ‘{expected}’인데, 모델은 ‘{said}’ 기호를 예상합니다.",
    "says.text.right": "‘{read}’ 다음에 올 기호는 ‘{expected}’이고, 모델도 그렇게 예상합니다(p = {p}).",
    "says.largest": "손실이 가장 큰 곳으로, 전체 {total} 가운데 {loss}입니다.",
    "says.loss": "이곳의 손실은 전체 {total} 가운데 {loss}입니다.",
    "says.self": "‘{read}’ 기호의 행입니다.",
    "says.looks": "가장 많이 보는 기호는 ‘{key}’입니다({share}, 청록색).",
    "says.pulls": "손실을 줄이려면 어텐션을 ‘{away}’ 기호에서 떼어(주황색) ‘{towards}’ 기호 쪽으로(파란색) 옮겨야 합니다.",
    "says.one": "기울기가 있는 스코어는 ‘{key}’ 기호의 것뿐입니다.",
    "says.zero": "스코어의 기울기가 정확히 0이어서, 이 어텐션을 당기는 것이 없습니다.",
    "says.none": "스코어에 기울기가 닿지 않아, 이 어텐션을 당기는 것이 없습니다.",
    "says.masked": "모든 키가 마스크되어 아무것도 볼 수 없습니다.",
    "says.without": "이 모델에는 어텐션이 없습니다. 모든 스텝이 크기가 정해진 벡터 하나를 읽으므로 스텝에서 기호로 가는 선이 없고, 기울기는 그 벡터를 지나 모든 기호로 돌아옵니다.",
    "head.read": "읽은 것",
    "head.symbol": "기호",
    "head.looks": "보는 곳",
    "head.source": "소스",
    "head.pulls": "당기는 곳",
    "head.expected": "내야 할 것",
    "step.label": "스텝 {t}: 읽은 것 {read}, 내야 할 것 {expected}, 낸 것 {said}, 손실 {loss}",
    "step.label_self": "행 {t}: {read}",
    "key.label": "{key}, 키 {j}: 가중치 {share}, 스코어의 기울기 {gradient}",
    "key.masked": "{key}, 키 {j}: 마스크됨",
    "reading.looks": "가중치 α: 굵을수록 그곳을 많이 봅니다",
    "reading.towards": "∂L/∂e가 0보다 작음: 스코어가 커지면 손실이 줄어들므로 어텐션을 이쪽으로 당깁니다",
    "reading.away": "∂L/∂e가 0보다 큼: 스코어가 커지면 손실이 늘어나므로 어텐션을 여기서 밀어냅니다",
    "reading.loss": "막대가 길수록 손실이 큽니다",
    "reading.small": "이 행의 가장 큰 기울기는 이 층에서 가장 큰 것의 {share}배입니다.",
    "numbers": "숫자",
    "point": "기호나 선을 가리키면 그 숫자가 여기에 나옵니다.",
    "keyboard": "키보드로는 Tab으로 스텝과 기호에 가서 화살표 키로 옮깁니다.",
    "means.away": "스코어가 커지면 손실이 늘어납니다. 경사 하강법은 스코어를 낮추어 어텐션을 다른 곳으로 옮깁니다.",
    "means.towards": "스코어가 커지면 손실이 줄어듭니다. 경사 하강법은 스코어를 높여 어텐션을 이쪽으로 옮깁니다.",
    "means.zero": "정확히 0입니다. 이 스코어를 조금 바꾸어도 손실은 변하지 않습니다.",
    "how": "이 숫자가 나온 과정",
    "bottleneck": "벡터 하나"
  }
};

const t = translator(words);
