// A matrix of numbers as a table whose cells are coloured: every number is text, reachable by keyboard.

import { html, useLayoutEffect, useRef, useStore } from "page/core.js";
import { Grid } from "page/grid.js";
import { t, useLanguage } from "page/i18n.js";
import { Saving, Scale, visible } from "page/parts.js";
import { heatmapSvg } from "page/svg.js";
import { theme } from "page/theme.js";

const MOVES = {
  ArrowLeft: (i, j) => [i, j - 1],
  ArrowRight: (i, j) => [i, j + 1],
  ArrowUp: (i, j) => [i - 1, j],
  ArrowDown: (i, j) => [i + 1, j],
  Home: (i) => [i, 0],
  End: (i) => [i, Infinity],
  PageUp: (i, j) => [i - 10, j],
  PageDown: (i, j) => [i + 10, j],
};

// name: for files. rows, columns: labels. at(i, j): numbers. limit: the ends of the scale. version: changes when the
// numbers do. row, column: the selected cell; active: whether the inspector shows this matrix. choose(i, j): on selecting.
export function Heatmap({ name, label, caption, rows, columns, at, limit, masked, version, row, column, active, choose, corner = "" }) {
  const look = useStore(theme);
  const language = useLanguage();
  const [box, extent, table, grid] = [useRef(), useRef(), useRef(), useRef()];
  useLayoutEffect(() => {
    grid.current = new Grid(box.current, extent.current, table.current);
    return () => grid.current.close();
  }, []);
  useLayoutEffect(() => grid.current.show({ rows, columns, at, limit, masked, corner, theme: look }), [version, look, language]);
  useLayoutEffect(() => grid.current.mark({ row, column, active }));

  const pick = (i, j) => choose(Math.max(0, Math.min(i, rows.length - 1)), Math.max(0, Math.min(j, columns.length - 1)));
  const onKeyDown = (event) => {
    if (!(event.key in MOVES) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    pick(...MOVES[event.key](row, column));
  };
  const onClick = (event) => {
    const place = grid.current.find(event.target);
    if (place) pick(...place);
  };
  const svg = () => heatmapSvg({ title: label, rows: rows.map(visible), columns: columns.map(visible), at, limit, masked, theme: look });

  return html`<figure class="figure">
    <figcaption>
      <span class="figure-title">${caption ?? label}</span>
      <${Scale} limit=${limit} />
      <${Saving} name=${name} svg=${svg} />
    </figcaption>
    <div class="scroll" ref=${box} onKeyDown=${onKeyDown} onClick=${onClick}>
      <div class="extent" ref=${extent}><table class="heatmap" role="grid" ref=${table}
        aria-label=${t("heatmap.label", { label, rows: rows.length, columns: columns.length })}></table></div>
    </div>
  </figure>`;
}
