// Light and dark: the system's, unless the reader chose.

import { makeStore, remember, remembered } from "page/core.js";

const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = makeStore(remembered("theme") ?? (system.matches ? "dark" : "light"));

export function setTheme(name) {
  remember("theme", name);
  theme.set(name);
}

system.addEventListener("change", () => {
  if (!remembered("theme")) theme.set(system.matches ? "dark" : "light");
});

theme.follow(() => {
  document.documentElement.dataset.theme = theme.get();
});
document.documentElement.dataset.theme = theme.get();
