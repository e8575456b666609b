// The page's words, in the reader's language.

import { embedded, makeStore, remember, remembered, useStore } from "./core.js";

const strings = embedded("strings"); // { en: { key: text }, ko: … }

export const LANGUAGES = Object.keys(strings);

const first = remembered("language") ?? (navigator.language || "en").slice(0, 2);
export const language = makeStore(LANGUAGES.includes(first) ? first : "en");

export function setLanguage(name) {
  remember("language", name);
  document.documentElement.lang = name;
  language.set(name);
}

// The text of a key, its {holes} filled. A key without text shows itself, so that it's noticed.
export function t(key, holes = {}) {
  const text = strings[language.get()][key] ?? strings.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (hole, name) => (name in holes ? holes[name] : hole));
}

export function has(key) {
  return key in strings.en;
}

export function useLanguage() {
  return useStore(language);
}
