// Exports of the libraries for every view, and the page's state.

import { createElement, render, Fragment } from "preact";
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import htm from "htm";

export { render, Fragment, useEffect, useLayoutEffect, useMemo, useRef, useState };

export const html = htm.bind(createElement);

// A value that components subscribe to: they render again when it changes.
export function makeStore(initial) {
  let value = initial;
  const followers = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      for (const follower of [...followers]) follower();
    },
    follow(follower) {
      followers.add(follower);
      return () => followers.delete(follower);
    },
  };
}

export function useStore(store) {
  const [, again] = useReducer((count) => count + 1, 0);
  useLayoutEffect(() => store.follow(() => again(0)), [store]);
  return store.get();
}

// Whether the window is as a media query says, as a store.
export function mediaStore(query) {
  const media = matchMedia(query);
  const store = makeStore(media.matches);
  media.addEventListener("change", () => store.set(media.matches));
  return store;
}

// The reader's settings for all pages; stored if the browser allows it.
export function remembered(name) {
  try {
    return localStorage.getItem(`microscope.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`microscope.${name}`, value);
  } catch {
    // A page from disk may be forbidden to keep anything: it then starts from the reader's system settings.
  }
}

// Offers `content` (a Blob) to the reader as a file.
export function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Reads a JSON block of the page.
export function embedded(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}
