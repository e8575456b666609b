// Light and dark: the system's, unless the reader chose; on paper light.

import { makeStore, remember, remembered } from "page/core.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => ["light", "dark"].find((name) => name === remembered("theme"));
const current = () => chosen() ?? (system.matches ? "dark" : "light");

export const theme = makeStore(current());

export function setTheme(name) {
  remember("theme", name);
  theme.set(name);
}

system.addEventListener("change", () => theme.set(current()));

theme.follow(() => {
  document.documentElement.dataset.theme = theme.get();
});
document.documentElement.dataset.theme = theme.get();

let onScreen = theme.get();
addEventListener("beforeprint", () => {
  onScreen = theme.get();
  theme.set("light");
});
addEventListener("afterprint", () => theme.set(onScreen));
