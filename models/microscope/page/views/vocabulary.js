// States read through the output layer: which symbols each argues for, and which its gradient asks for.

import { html } from "page/core.js";
import { data } from "page/data.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, percent, short } from "page/numbers.js";
import { Bar, Token } from "page/parts.js";
import { select } from "page/selection.js";

export const order = 140;

// Of models with an output layer of one matrix.
export const shows = (all) => all.vocabulary !== null;

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  const { states, normed } = all.vocabulary;
  const step = Math.min(chosen.step, all.tokens.length - 1);
  const token = all.tokens[step];
  const rows = states.toReversed();
  return html`<p class="lead">${t("lead")}</p>
    <div class="controls" role="group" aria-label=${t("controls.label")}><div class="stepper"><span>${t("token")}</span>
      <button type="button" aria-label=${t("controls.back")} disabled=${step === 0} onClick=${() => select({ step: step - 1 })}>◀</button>
      <output aria-live="polite"><b><i>t</i> = ${step}</b> <span class="muted">${t("controls.of", { last: all.tokens.length - 1 })}</span>, ${t("expected")} <${Token} text=${token.expected} kind="chip-token" /> <span class="muted">${percent(token.probability)}</span></output>
      <button type="button" aria-label=${t("controls.on")} disabled=${step === all.tokens.length - 1} onClick=${() => select({ step: step + 1 })}>▶</button></div></div>
    <section class="card"><div class="scroll" tabindex="0" role="region" aria-label=${t("title")}><table class="plain lens"><thead><tr><th scope="col">${t("state")}</th><th scope="col" class="number">${t("p_expected")}</th><th scope="col"><span class="hidden">${t("p_expected")}</span></th>
      <th scope="col">${t("says")}</th><th scope="col">${t("asks")}</th><th scope="col">${t("drops")}</th></tr></thead>
      <tbody>${rows.map((state, i) => html`<${Row} key=${i} state=${state} token=${token} at=${state.tokens[step]} />`)}</tbody></table></div>
    <p class="muted">${t(normed ? "normed" : "direct")}</p></section>
    <section class="card"><h2>${t("reading")}</h2><p class="words">${t("reading_words")}</p></section>`;
}

function Row({ state, token, at }) {
  const name = t.has(`sublayer.${state.sublayer}`) ? t(`sublayer.${state.sublayer}`) : state.sublayer;
  return html`<tr><th scope="row">${state.name ? `${state.name} ` : ""}<span class="muted">${name}</span></th>
    <td class="number expected" title=${full(at.expected)}>${percent(at.expected)}</td><td class="bar-cell"><${Bar} x=${at.expected} ends=${[0, 1]} /></td>
    <td class="says"><${Words} words=${at.says} expected=${token.expected} form=${percent} /></td>
    <td class="asks"><${Words} words=${at.asks} expected=${token.expected} form=${short} /></td><td class="drops"><${Words} words=${at.drops} expected=${token.expected} form=${short} /></td></tr>`;
}

function Words({ words: listed, expected, form }) {
  return listed.map(([symbol, x], k) => html`<span key=${k} class=${symbol === expected ? "guess right" : "guess"}><${Token} text=${symbol} /> <span class="number" title=${full(x)}>${form(x)}</span></span>`);
}

export const words = {
  "en": {
    "title": "In the vocabulary",
    "lead": "A state x is a list of numbers that nobody can read. The output layer can: W x + b has a number for each symbol. Here it reads the state after every layer, from the last down to the embeddings: which symbols does the state argue for already? And it reads −∂L/∂x, the direction in which gradient descent would move the state: which symbols does the gradient ask for, and which should go?",
    "token": "Token",
    "expected": "should be",
    "state": "state after",
    "p_expected": "p of the target",
    "says": "argues for",
    "asks": "the gradient asks for",
    "drops": "and asks to drop",
    "normed": "Each state first goes through the model's last norm, as the last one does. Numbers of the gradient are elements of −W ∂L/∂x.",
    "direct": "Numbers of the gradient are elements of −W ∂L/∂x.",
    "reading": "Reading it",
    "reading_words": "At the last state the gradient is Wᵀ(p − y)/T: it asks for the target by as much as its probability is short of 1, and asks every other symbol to go by its own probability. Where the model is right, there is little left to ask. Further down the same request has come through the layers, and it tells what each of them was asked to write: it need not be the target itself, but what makes the layers above say the target.",
    "sublayer.self_attention": "self-attention",
    "sublayer.attention": "attention to the source",
    "sublayer.feed_forward": "feed-forward",
    "sublayer.embeddings": "embeddings",
    "sublayer.output": "what the output layer reads"
  },
  "ko": {
    "title": "어휘로 읽기",
    "lead": "상태 x는 사람이 읽을 수 없는 숫자의 나열입니다. 그러나 출력층은 읽을 수 있습니다. W x + b에는 기호마다 숫자가 하나씩 있습니다. 여기서는 마지막 층에서 임베딩까지 내려가며 층마다의 상태를 출력층으로 읽습니다. 이 상태는 벌써 어떤 기호를 편들고 있을까요? 경사 하강이 상태를 움직일 방향인 −∂L/∂x도 읽습니다. 기울기는 어떤 기호를 바라고, 어떤 기호를 치우라고 할까요?",
    "token": "토큰",
    "expected": "정답은",
    "state": "어디 뒤의 상태",
    "p_expected": "정답의 p",
    "says": "편드는 기호",
    "asks": "기울기가 바라는 기호",
    "drops": "치우라는 기호",
    "normed": "상태마다 먼저 모델의 마지막 정규화를 거칩니다. 마지막 상태도 그렇습니다. 기울기의 숫자는 −W ∂L/∂x의 원소입니다.",
    "direct": "기울기의 숫자는 −W ∂L/∂x의 원소입니다.",
    "reading": "읽는 법",
    "reading_words": "마지막 상태의 기울기는 Wᵀ(p − y)/T입니다. 정답의 확률이 1에 모자라는 만큼 정답을 바라고, 다른 기호는 제 확률만큼 물러나라고 합니다. 모델이 맞은 곳에는 바랄 것이 거의 없습니다. 아래로 내려가면 같은 바람이 층을 지나온 것이고, 그 층에 무엇을 쓰라고 했는지 말해 줍니다. 정답 자체가 아니라, 위의 층이 정답을 말하게 하는 것일 수 있습니다.",
    "sublayer.self_attention": "셀프 어텐션",
    "sublayer.attention": "소스를 보는 어텐션",
    "sublayer.feed_forward": "피드포워드",
    "sublayer.embeddings": "임베딩",
    "sublayer.output": "출력층이 읽는 것"
  }
};

const t = translator(words);
