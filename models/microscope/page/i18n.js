// The page's words, in the reader's language.

import { embedded, makeStore, remember, remembered, useStore } from "page/core.js";

const strings = embedded("strings"); // { en: { key: text }, ko: … }

export const LANGUAGES = Object.keys(strings);

const first = remembered("language") ?? (navigator.language || "en").slice(0, 2);
export const language = makeStore(LANGUAGES.includes(first) ? first : "en");

export function setLanguage(name) {
  remember("language", name);
  document.documentElement.lang = name;
  language.set(name);
}

// A function from a key to its text in the reader's language: from `own`, { en: { key: text }, ko: … }, or from the words
// that all views share. A missing text is shown as its key, so that it is noticed. In a text, {name} is a hole, and
// {count|check fails|checks fail} a number followed by the words for one or for several.
export function translator(own = {}) {
  const find = (key) => {
    const name = language.get();
    return own[name]?.[key] ?? strings[name][key] ?? own.en?.[key] ?? strings.en[key];
  };
  const t = (key, holes = {}) =>
    (find(key) ?? key).replace(/\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}/g, (hole, name, one, many) => {
      if (!(name in holes)) return hole;
      return one === undefined ? holes[name] : `${holes[name]} ${String(holes[name]) === "1" ? one : many}`;
    });
  t.has = (key) => find(key) !== undefined;
  return t;
}

export const t = translator();

export function useLanguage() {
  return useStore(language);
}
