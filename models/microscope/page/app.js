// The page: a header, the tabs, and the view that is chosen.

import { html, render, useLayoutEffect, useRef, useStore } from "page/core.js";
import { data } from "page/data.js";
import { mendSubscripts } from "page/formula.js";
import { LANGUAGES, language, setLanguage, t, useLanguage } from "page/i18n.js";
import { RunState } from "page/live.js";
import { full } from "page/numbers.js";
import { BADGE, Broken } from "page/parts.js";
import { followLink, hash, select, selection } from "page/selection.js";
import { setTheme, theme } from "page/theme.js";

let every = []; // the views in their order: { name, order, words, View, shows }

// The views that have something to show; a view says so with `shows(all)`, or shows something of every model.
const viewsOf = (all) => every.filter(({ shows }) => shows?.(all) ?? true);

const named = (views, name) => views.find((view) => view.name === name) ?? views[0];

// The view that a key chooses, by its place: 1 to 9, 0 for the tenth, and with Shift those after it. A keyboard that has digits
// with Shift alone has the first ten.
function viewOf({ key, code, shiftKey }) {
  const digit = /^[0-9]$/.test(key) ? key : shiftKey ? code?.match(/^Digit([0-9])$/)?.[1] : undefined;
  if (digit === undefined) return -1;
  return (Number(digit) || 10) - 1 + (digit === key ? 0 : 10);
}

// As the help writes it.
const keyOf = (place) => (place < 10 ? String((place + 1) % 10) : `⇧${(place - 9) % 10}`);

let runs = 0; // counts what was loaded, so that a view can tell other numbers from the same
data.follow(() => { runs += 1; });

function App() {
  useLanguage();
  useStore(theme);
  const all = useStore(data);
  const chosen = { ...useStore(selection), run: runs };
  const help = useRef();
  const views = viewsOf(all);
  useLayoutEffect(() => {
    const onKeyDown = (event) => {
      if (event.target.closest("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "?") help.current.showModal();
      else if (event.key === "[") select({ step: selection.get().step - 1 });
      else if (event.key === "]") select({ step: selection.get().step + 1 });
      else if (views[viewOf(event)]) show(views[viewOf(event)]);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    addEventListener("click", followLink);
    return () => {
      removeEventListener("keydown", onKeyDown);
      removeEventListener("click", followLink);
    };
  }, [views.length]);
  const { name, View } = named(views, chosen.view);
  document.title = `${t("title")} — ${(all.source ?? all.target).text}`;
  return html`
    <a class="skip" href="#panel" onClick=${(event) => { event.preventDefault(); document.getElementById("panel").focus(); }}>${t("skip")}</a>
    <${Header} all=${all} openHelp=${() => help.current.showModal()} />
    <${Tabs} views=${views} view=${name} />
    <${Warnings} all=${all} />
    <main><div id="panel" role="tabpanel" aria-labelledby=${`tab-${name}`} tabindex="-1"><${View} chosen=${chosen} /></div></main>
    <${Help} box=${help} count=${views.length} />`;
}

// The badge in short: a sign, and what it says.
function Chip({ check }) {
  const count = { good: check.recomputed + check.compared, bad: check.failing }[check.state] ?? 0;
  return html`<a class=${`chip ${check.state}`} href=${hash({ view: "summary" })}>
    <span aria-hidden="true">${BADGE[check.state]}</span> ${t(`chip.${check.state}`, { count: count.toLocaleString() })}</a>`;
}

function Header({ all, openHelp }) {
  const { check } = all;
  return html`<header>
    <div class="brand"><h1>${t("title")}</h1>
      <p class="pair-line">${all.source && html`<bdi class="source-text">${all.source.text}</bdi> <span aria-hidden="true">→</span> `}<bdi>${all.target.text}</bdi></p></div>
    <div class="header-right">
      ${all.meta.served && html`<${RunState} />`}
      <${Chip} check=${check} />
      <span class="switch" role="group" aria-label=${t("language")}>${LANGUAGES.map((name) => html`<button type="button" key=${name} lang=${name} aria-pressed=${language.get() === name} onClick=${() => setLanguage(name)}>${{ en: "English", ko: "한국어" }[name]}</button>`)}</span>
      <button type="button" id="theme" aria-label=${t(theme.get() === "dark" ? "theme.to_light" : "theme.to_dark")} onClick=${() => setTheme(theme.get() === "dark" ? "light" : "dark")}>${theme.get() === "dark" ? "☀" : "☾"}</button>
      <button type="button" id="help" aria-label=${t("help.title")} onClick=${openHelp}>?</button>
    </div>
  </header>`;
}

// What the reader must know in every view: the numbers are not those of the trained model.
function Warnings({ all: { meta } }) {
  const { broken, nudge, step } = meta;
  return html`
    ${broken && html`<${Broken} name=${broken} />`}
    ${nudge && html`<p class="alert calm" role="note">${t("nudge.active", { parameter: nudge.parameter, index: `[${nudge.index.join(", ")}]`, by: full(nudge.by) })}</p>`}
    ${step && html`<p class="alert calm" role="note" id="step-taken">${t("step.active", { optimizer: step.optimizer, rate: full(step.rate), before: full(step.before), predicted: full(step.predicted), after: full(meta.loss) })}</p>`}`;
}

function show({ name }) {
  select({ view: name });
  document.getElementById(`tab-${name}`).focus();
}

function Tabs({ views, view }) {
  useLayoutEffect(() => {
    const tab = document.getElementById(`tab-${view}`);
    const row = tab.parentElement; // on a narrow screen the tabs scroll: keep the chosen one in sight
    row.scrollLeft = Math.min(tab.offsetLeft - row.offsetLeft, Math.max(row.scrollLeft, tab.offsetLeft - row.offsetLeft + tab.offsetWidth - row.clientWidth));
  }, [view, language.get()]);
  const onKeyDown = (event) => {
    const at = views.indexOf(named(views, view));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + views.length, Home: 0, End: views.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(views[to % views.length]);
  };
  return html`<nav aria-label=${t("views")}><div class="tabs" role="tablist" aria-label=${t("views")} onKeyDown=${onKeyDown}>
    ${views.map(({ name, words }, i) => html`<button type="button" role="tab" key=${name} id=${`tab-${name}`} aria-selected=${name === view} aria-controls=${name === view ? "panel" : undefined}
      tabindex=${name === view ? 0 : -1} aria-keyshortcuts=${keyOf(i).replace("⇧", "Shift+")} title=${t("views.key", { key: keyOf(i) })} onClick=${() => select({ view: name })}><span class="tab-number" aria-hidden="true">${i + 1}</span> ${words[language.get()]?.title ?? words.en.title}</button>`)}
  </div></nav>`;
}

const KEYS = ["← →", "[ ]", "← ↑ → ↓", "Tab", "Enter", "?"];

function Help({ box, count }) {
  return html`<dialog ref=${box} aria-labelledby="help-title">
    <h2 id="help-title">${t("help.title")}</h2>
    <p>${t("help.lead")}</p>
    <dl class="keys">${[`1 … ${keyOf(count - 1)}`, ...KEYS].map((keys, i) => html`<dt key=${`${i}-keys`}>${keys.split(" ").map((key) => (key === "…" ? " … " : html`<kbd key=${key}>${key}</kbd>`))}</dt><dd key=${i}>${t(`help.${i}`)}</dd>`)}</dl>
    <h3>${t("help.reading")}</h3>
    <ul>${["signs", "states", "colours", "exact", "through", "counting"].map((key) => html`<li key=${key}>${t(`help.${key}`)}</li>`)}</ul>
    <form method="dialog"><button class="primary">${t("help.close")}</button></form>
  </dialog>`;
}

// Opens the page with the views of these modules, { name: module }: each exports its place in the row of tabs as `order`,
// its `words` ({ en: { title, … }, ko: … }), a component `View`, and, if not every model has it, `shows`.
export function start(modules) {
  every = Object.entries(modules).map(([name, module]) => ({ name, ...module })).sort((a, b) => a.order - b.order);
  document.documentElement.lang = language.get();
  mendSubscripts();
  render(html`<${App} />`, document.getElementById("app"));
}
