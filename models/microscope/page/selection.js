// The selection, common to all views and kept in the page's address, so that a link shows the same cell.

import { embedded, makeStore } from "page/core.js";
import { data, labels } from "page/data.js";
import { opening } from "page/opening.js";

const NUMBERS = ["head", "step", "key", "channel", "op"];
const TEXTS = ["view", "site", "tensor", "part", "parameter"];
const PROGRESS = ["stop", "answers", "sheet"]; // of the tour; in the address once it has begun

const opens = embedded("opens"); // of a page that does not open with the first view

const start = () => ({
  view: "", ...opening(data.get()), channel: 0, op: 0, tensor: "scores", part: "gradient", parameter: "", stop: "", answers: "", sheet: "", ...opens,
});

function read(address = location.hash) {
  const given = new URLSearchParams(address.slice(1));
  const chosen = start();
  for (const name of [...TEXTS, ...PROGRESS]) if (given.has(name)) chosen[name] = given.get(name);
  for (const name of NUMBERS) if (given.has(name)) chosen[name] = Number.parseInt(given.get(name), 10) || 0;
  return within(chosen);
}

// The selection with each invalid part replaced by a valid one.
function within(chosen) {
  const all = data.get();
  const site = all.site(chosen.site);
  const limit = (x, size) => Math.max(0, Math.min(x, size - 1));
  const sound = { ...chosen, op: limit(chosen.op, all.tape.length) };
  if (!["value", "gradient"].includes(sound.part)) sound.part = "gradient";
  if (!site) return { ...sound, site: "", step: limit(sound.step, all.tokens.length) };
  const tensor = Object.hasOwn(site.tensors, sound.tensor) ? site.tensors[sound.tensor] : site.tensors.scores;
  return {
    ...sound,
    site: site.id,
    head: limit(sound.head, site.heads),
    step: limit(sound.step, site.queries.length),
    key: limit(sound.key, site.keys.length),
    tensor: tensor.name,
    channel: tensor.axes[1] === "query" || tensor.axes[1] === "key" ? Math.max(0, sound.channel) : limit(sound.channel, tensor.shape.at(-1)),
  };
}

export const selection = makeStore(read());

export function hash(changes) {
  const chosen = within({ ...selection.get(), ...changes });
  const names = [...TEXTS, ...NUMBERS, ...PROGRESS.filter((name) => chosen[name] !== "")];
  return `#${new URLSearchParams(names.map((name) => [name, chosen[name]]))}`;
}

// Select something; a change of view can be undone with the browser's back button.
export function select(changes) {
  const before = selection.get();
  const chosen = within({ ...before, ...changes });
  keep(hash(changes), chosen.view === before.view ? "replaceState" : "pushState");
  selection.set(chosen);
}

const REST = 400; // milliseconds between two addresses of one view: a browser takes two to write one, and allows a hundred in half a minute
let [written, waiting] = [-Infinity, null]; // when the last was written, and one that is not yet: { address, beside, timer }

function keep(address, how) {
  const rest = written + REST - performance.now();
  if (how === "pushState") flush();
  clearTimeout(waiting?.timer);
  waiting = null;
  if (address === location.hash) return;
  if (how === "pushState" || rest <= 0) write(address, how);
  else waiting = { address, beside: location.hash, timer: setTimeout(flush, rest) };
}

// Write the address that waits, unless the reader has gone to another meanwhile.
function flush() {
  if (waiting && waiting.beside === location.hash) write(waiting.address, "replaceState");
  clearTimeout(waiting?.timer);
  waiting = null;
}

function write(address, how) {
  written = performance.now();
  try {
    history[how](null, "", address);
  } catch {
    // A notebook's frame has no address of its own: there the selection is not kept.
  }
}

// A link to a selection, without the browser's help: in a notebook's frame it would load the notebook.
export function followLink(event) {
  const link = event.target.closest("a[href^='#view=']");
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  select(read(link.getAttribute("href")));
}

addEventListener("hashchange", () => selection.set(read()));
addEventListener("popstate", () => selection.set(read()));
data.follow(() => selection.set(within(selection.get())));

const AXES = { query: "step", key: "key", channel: "channel", symbol: "channel" };

// Where the selection lies in a tensor: a row and a column.
export function place(tensor, chosen) {
  const [row, column] = tensor.axes.map((axis) => chosen[AXES[axis]]);
  return { row: Math.min(row, tensor.shape.at(-2) - 1), column: Math.min(column, tensor.shape.at(-1) - 1) };
}

// The selection of a tensor's cell.
export function chosenBy(tensor, part, row, column) {
  return { tensor: tensor.name, part, [AXES[tensor.axes[0]]]: row, [AXES[tensor.axes[1]]]: column };
}

export function describe(site, tensor, row, column) {
  const [rows, columns] = [labels(site, tensor.axes[0], tensor.shape.at(-2)), labels(site, tensor.axes[1], tensor.shape.at(-1))];
  return { row: rows[row], column: columns[column] };
}
