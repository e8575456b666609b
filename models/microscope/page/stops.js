// The stops of the tour, which lead from the loss of a step that is wrong to a weight that grows, computed from the page's own
// record.
//
// Each is about one cell, that with which the page opens: a step t, a key j. A stop has
//   name     its texts: tour.js has them under stop.NAME.…
//   holes    what stands in the texts of question and context
//   choices  what the learner chooses from: { text, holes } of a text, or { token } of a symbol
//   right    the number of the right choice
//   numbers  what is shown after the answer: [label, number], or [label, number, symbol]
//   byHand   how many of the first of these follow from what the texts say; all, if it is not there
//   latex    the formula behind it
//   see      a selection that shows it
// or, where the model or the page has nothing to ask, `missing`: the reason, a text under missing.….

import { tourFormulas } from "page/data.js";
import { full, percent, rounded, signed } from "page/numbers.js";
import { largestOf, opening } from "page/opening.js";
import { visible } from "page/parts.js";

export const NAMES = ["loss", "logit", "rival", "weights", "row", "context", "score", "zero", "value", "grows"];

const SIGNS = ["above", "below", "zero"]; // choices of a sign
const signOf = (x) => (x > 0 ? 0 : x < 0 ? 1 : 2);
const signs = (kind) => SIGNS.map((name) => ({ text: `${kind}.${name}` }));
const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);

class Missing extends Error {}

function need(value, reason) {
  if (value === null || value === undefined || value === false) throw new Missing(reason);
  return value;
}

// What all stops of attention read: the opening's row, over the keys that it may attend to.
function rowOf(all) {
  const at = opening(all);
  const site = need(all.sites.at(-1), "attention");
  need(site.role !== "self" && at.step < site.queries.length, "attention");
  const { weights, scores, context, V } = site.tensors;
  const read = (numbers, row, column) => need(numbers, "array").at(numbers.heads === 1 ? 0 : at.head, row, column);
  const keys = need(site.keys.map((_, j) => j).filter((j) => site.allowed(at.head, at.step, j)), "array");
  need(keys.length > 1, "one_key");
  const line = (tensor, part) => keys.map((j) => read(tensor[part], at.step, j));
  const most = largestOf(line(weights, "value"));
  return { ...at, site, keys, read, weights, scores, context, V, line, most, mine: Math.max(0, keys.indexOf(at.key)), name: (i) => visible(site.keys[keys[i]]) };
}

const STOPS = {
  loss(all) {
    const losses = all.tokens.map(({ loss }) => loss);
    need(losses.length > 1, "one_token");
    const { step } = opening(all);
    const others = losses.map((_, i) => i).filter((i) => i !== step).sort((a, b) => losses[a] - losses[b]);
    const asked = [...new Set([step, others[0], others[others.length >> 1]])].sort((a, b) => a - b);
    const choice = (i) => ({ text: "choice.step", holes: { t: i, token: visible(all.tokens[i].expected), p: rounded(all.tokens[i].probability) } });
    return {
      holes: {}, choices: asked.map(choice), right: asked.indexOf(step), latex: tourFormulas.loss,
      numbers: [...asked.map((i) => [`−ln p, t = ${i}`, losses[i]]), ["L", all.meta.loss]], byHand: asked.length, see: { view: "summary" },
    };
  },

  logit(all) {
    const { step } = opening(all);
    const { expected, probability } = all.tokens[step];
    const x = (probability - 1) / all.tokens.length;
    return {
      holes: { t: step, token: visible(expected), p: rounded(probability), count: all.tokens.length }, choices: signs("sign"), right: signOf(x),
      latex: tourFormulas.logit, numbers: [["∂L/∂o", x, visible(expected)]], see: all.sites.at(-1)?.tensors.logits ? { view: "steps", part: "gradient" } : { view: "summary" },
    };
  },

  rival(all) {
    const { step } = opening(all);
    const { expected, probability, predicted } = all.tokens[step];
    const [rival, p] = need(predicted.find(([symbol]) => symbol !== expected), "one_symbol");
    const count = all.tokens.length;
    const [mine, other] = [(probability - 1) / count, p / count];
    return {
      holes: { token: visible(expected), rival: visible(rival), p: rounded(probability), q: rounded(p), count },
      choices: [{ token: expected }, { token: rival }], right: Math.abs(mine) >= Math.abs(other) ? 0 : 1, latex: tourFormulas.logit,
      numbers: [["∂L/∂o", mine, visible(expected)], ["∂L/∂o", other, visible(rival)]], see: { view: "summary" },
    };
  },

  weights(all) {
    const { step, head, key, site, keys, line, most, name } = rowOf(all);
    const [alpha, e] = [line(site.tensors.weights, "value"), line(site.tensors.scores, "value")];
    const other = largestOf(alpha.map((x, i) => (i === most ? -1 : x)));
    const asked = [most, other].sort((a, b) => a - b);
    return {
      holes: { t: step, first: name(asked[0]), second: name(asked[1]), e1: rounded(e[asked[0]]), e2: rounded(e[asked[1]]) },
      choices: asked.map((i) => ({ token: site.keys[keys[i]] })), right: alpha[asked[0]] >= alpha[asked[1]] ? 0 : 1,
      latex: site.tensors.weights.latex.value, numbers: asked.map((i) => ["α", alpha[i], name(i)]), byHand: 0,
      see: { view: "site", site: site.id, head, step, key, tensor: "weights", part: "value" },
    };
  },

  row(all) {
    const { step, head, key, site, line } = rowOf(all);
    const alpha = line(site.tensors.weights, "value");
    return {
      holes: { t: step, count: alpha.length }, choices: ["0", "1", "varies"].map((text) => ({ text: `sum.${text}` })), right: 1,
      latex: site.tensors.weights.latex.value, numbers: [["Σ α", sum(alpha)]], see: { view: "site", site: site.id, head, step, key, tensor: "weights", part: "value" },
    };
  },

  context(all) {
    const { step, head, key, site, keys, read, mine, name } = rowOf(all);
    const tensor = site.tensors.mixed ?? site.tensors.weights;
    const { context, V } = site.tensors;
    need(context.gradient && V.value, "array");
    const products = Array.from({ length: context.gradient.columns }, (_, i) => read(context.gradient, step, i) * read(V.value, keys[mine], i));
    const [above, below] = [sum(products.filter((x) => x > 0)), sum(products.filter((x) => x < 0))];
    const x = read(tensor.gradient, step, keys[mine]);
    return {
      holes: { key: name(mine), above: rounded(above), below: rounded(below), count: products.length }, choices: signs("loss"), right: signOf(x),
      latex: tensor.latex.gradient, numbers: [[`∂L/∂${site.tensors.mixed ? "β" : "α"}`, x, name(mine)]],
      see: { view: "site", site: site.id, head, step, key, tensor: tensor.name, part: "gradient" },
    };
  },

  score(all) {
    const { step, head, key, site, keys, read, line, mine, name } = rowOf(all);
    const [alpha, d] = [line(site.tensors.weights, "value"), line(site.tensors.weights, "gradient")];
    const x = read(site.tensors.scores.gradient, step, keys[mine]);
    return {
      holes: { key: name(mine), alpha: rounded(alpha[mine]), d: signed(d[mine]), mean: signed(sum(alpha.map((a, i) => a * d[i]))) },
      choices: signs("pull"), right: signOf(x), latex: site.tensors.scores.latex.gradient, numbers: [["∂L/∂e", x, name(mine)]],
      see: { view: "jacobian", site: site.id, head, step, key },
    };
  },

  zero(all) {
    const { step, head, key, site, line, mine, name } = rowOf(all);
    const x = line(site.tensors.scores, "gradient");
    return {
      holes: { t: step, key: name(mine), x: signed(x[mine]) }, choices: ["0", "1", "varies"].map((text) => ({ text: `sum.${text}` })), right: 0,
      latex: site.tensors.scores.latex.gradient, numbers: [["Σ ∂L/∂e", sum(x)]], see: { view: "jacobian", site: site.id, head, step, key },
    };
  },

  value(all) {
    const { step, head, key, site, keys, read, line, name } = rowOf(all);
    const { V } = site.tensors;
    need(V.gradient, "array");
    const norms = keys.map((j) => Math.hypot(...Array.from({ length: V.gradient.columns }, (_, i) => read(V.gradient, j, i))));
    const alpha = line(site.tensors.weights, "value");
    const first = largestOf(norms);
    const second = largestOf(alpha.map((x, i) => (i === first ? -Infinity : -x)));
    const asked = [first, second].sort((a, b) => a - b);
    return {
      holes: { t: step, first: name(asked[0]), second: name(asked[1]), a1: percent(alpha[asked[0]]), a2: percent(alpha[asked[1]]) },
      choices: asked.map((i) => ({ token: site.keys[keys[i]] })), right: norms[asked[0]] >= norms[asked[1]] ? 0 : 1, latex: V.latex.gradient,
      numbers: asked.map((i) => ["‖∂L/∂V‖", norms[i], name(i)]), byHand: 0, see: { view: "site", site: site.id, head, step, key, tensor: "V", part: "gradient" },
    };
  },

  grows(all) {
    const cells = all.check.cells.filter((cell) => cell.site === "" && cell.resolved && cell.gradient !== 0);
    need(cells.length > 0, "difference");
    const cell = cells.reduce((best, each) => (each.gradient < best.gradient ? each : best)); // the one that grows most, if one grows
    return {
      holes: { weight: cell.tensor, place: `[${cell.row}, ${cell.column}]`, plus: full(cell.plus), minus: full(cell.minus), eps: full(cell.eps) },
      choices: ["grows", "shrinks"].map((text) => ({ text: `weight.${text}` })), right: cell.gradient < 0 ? 0 : 1, latex: tourFormulas.descent,
      numbers: [["(L(w + ε) − L(w − ε)) / 2ε", cell.difference], ["−0.1 · ∂L/∂w", -0.1 * cell.gradient], ["∂L/∂w", cell.gradient]], byHand: 2, see: { view: "check" },
    };
  },
};

// The stops of these data, in their order.
export function stopsOf(all) {
  return NAMES.map((name) => {
    try {
      if (all.check.not_finite?.reaches) throw new Missing("not_finite");
      return { name, ...STOPS[name](all) };
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      return { name, missing: error.message };
    }
  });
}
