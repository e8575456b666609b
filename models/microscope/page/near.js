// What is far from the window's part of the page is brought up to date once the reader rests: of thirteen cards of numbers
// six are in sight, and a step through time should cost no more than those.

import { html, useLayoutEffect, useRef, useState } from "page/core.js";

const AROUND = 200; // pixels above and below the window that count as near
const REST = 120; // milliseconds without a change

const waiting = new Set(); // of the boxes that are out of date
let timer = null;

function rest() {
  timer = null;
  const those = [...waiting];
  waiting.clear();
  for (const again of those) again();
}

function later(again) {
  waiting.add(again);
  clearTimeout(timer);
  timer = setTimeout(rest, REST);
}

// An element `as` whose content() is rendered at once where it is near; elsewhere it is busy until it is.
export function Near({ as = "div", content, ...attributes }) {
  const [, count] = useState(0);
  const own = useRef({ near: true, shown: null, due: true });
  const box = useRef();
  const { current: state } = own;
  const stale = !state.near && !state.due;
  if (!stale) state.shown = content();
  state.due = false;
  useLayoutEffect(() => {
    state.again = () => {
      state.due = true;
      count((before) => before + 1);
    };
    const places = new IntersectionObserver(([{ isIntersecting }]) => {
      state.near = isIntersecting;
      if (isIntersecting && waiting.delete(state.again)) state.again();
    }, { rootMargin: `${AROUND}px` });
    places.observe(box.current);
    return () => {
      places.disconnect();
      waiting.delete(state.again);
    };
  }, []);
  useLayoutEffect(() => {
    if (stale) later(state.again);
    else waiting.delete(state.again);
  });
  return html`<${as} ref=${box} aria-busy=${stale ? "true" : undefined} ...${attributes}>${state.shown}<//>`;
}
