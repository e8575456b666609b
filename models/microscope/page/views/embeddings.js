// How each symbol that is read affects the loss of each token: the gradient at its embedding, and what its removal does.

import { html, useState } from "page/core.js";
import { data } from "page/data.js";
import { Heatmap } from "page/heatmap.js";
import { translator, useLanguage } from "page/i18n.js";
import { full, rounded, signed } from "page/numbers.js";
import { Bar, Token, visible } from "page/parts.js";
import { hash } from "page/selection.js";

export const order = 130;

// Of models that look embeddings up.
export const shows = (all) => all.embeddings !== null;

export function View({ chosen }) {
  useLanguage();
  const all = data.get();
  const { tokens, sides } = all.embeddings;
  return html`<p class="lead">${t("lead")}</p>
    ${Object.entries(sides).map(([name, side]) => html`<${Side} key=${name} ...${{ all, name, side, tokens, chosen }} />`)}
    <section class="card"><h2>${t("graph")}</h2><p class="words">${t(all.source ? "graph_words" : "text_words")}</p></section>
    <p class="note">${all.sentences ? html`<a href=${hash({ view: "sentences" })}>${t("averages")}</a>` : t("anecdote")}</p>`;
}

function Side({ all, name, side, tokens, chosen }) {
  const matrices = ["effects", "norms"].map((kind) => [kind, all.array(side[kind])]);
  const [[row, column], place] = useState(() => largest(matrices[0][1], tokens.length, side.names.length));
  const label = t(`side.${all.source ? name : "text"}`);
  const names = { rows: tokens.map((step) => all.tokens[step].expected), columns: side.names };
  return html`<section class="card embedded" id=${`embedded-${name}`}><h2>${label}</h2>
    <${Symbols} ...${{ side, column, label, choose: (j) => place([row, j]) }} />
    <h3>${t("by_token")}</h3><p class="muted">${t("by_token_words")}</p>
    ${tokens.length < all.tokens.length && html`<p class="note">${t("some_tokens", { shown: tokens.length, all: all.tokens.length })}</p>`}
    <div class="side-by-side" style=${{ "--wide": "34rem" }}>${matrices.map(([kind, numbers]) => (numbers
      ? html`<div class="site-heatmap" key=${kind}><${Heatmap} linked=${`embeddings ${name}`} name=${`embeddings-${name}-${kind}`} label=${t(kind)} caption=${html`<b class="gradient">${kind === "norms" ? "‖∂L_t/∂x_j‖" : "⟨x_j, ∂L_t/∂x_j⟩"}</b> ${t(kind)}`} corner=${t("corner")}
        rows=${names.rows} columns=${names.columns} at=${(i, j) => numbers.at(0, i, j)} ends=${kind === "norms" ? [0, numbers.limit()] : [-numbers.limit(), numbers.limit()]}
        version=${`${name} ${kind} ${chosen.run}`} row=${row} column=${column} active=${kind === "effects"} choose=${(i, j) => place([i, j])} /></div>`
      : html`<p class="note" key=${kind}>${t("tensor.dropped")}</p>`))}</div>
    ${matrices[0][1] && html`<p class="words" role="status">${t(matrices[0][1].at(0, row, column) > 0 ? "raises" : "lowers", { token: visible(names.rows[row]), symbol: visible(side.names[column]), x: signed(matrices[0][1].at(0, row, column)) })}</p>`}
  </section>`;
}

// The place of the largest number.
function largest(numbers, rows, columns) {
  let most = [0, 0];
  for (let i = 0; numbers && i < rows; i += 1) for (let j = 0; j < columns; j += 1) if (Math.abs(numbers.at(0, i, j)) > Math.abs(numbers.at(0, ...most))) most = [i, j];
  return most;
}

// For each symbol the gradient's size, its first-order effect, and what erasing it really does.
function Symbols({ side, column, label, choose }) {
  const most = Math.max(...side.total_norms);
  const reach = Math.max(...side.total_effects.map(Math.abs), ...(side.erased ?? []).map(Math.abs));
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label=${label}><table class="plain symbols"><thead><tr><th scope="col">j</th><th scope="col">${t("symbol")}</th>
    <th scope="col" class="number">‖∂L/∂x‖</th><th scope="col"><span class="hidden">‖∂L/∂x‖</span></th><th scope="col" class="number">${t("predicted")}</th>
    ${side.erased && html`<th scope="col" class="number">${t("erased")}</th><th scope="col"><span class="hidden">${t("erased")}</span></th>`}</tr></thead>
    <tbody>${side.names.map((symbol, j) => html`<tr key=${j} class=${j === column ? "in-row" : ""} onClick=${() => choose(j)}><td>${j}</td><th scope="row"><${Token} text=${symbol} /></th>
      <td class="number size" title=${full(side.total_norms[j])}>${rounded(side.total_norms[j])}</td><td class="bar-cell"><${Bar} x=${side.total_norms[j]} ends=${[0, most]} /></td>
      <td class="number effect" title=${full(-side.total_effects[j])}>${signed(-side.total_effects[j])}</td>
      ${side.erased && html`<td class="number erased" title=${full(side.erased[j])}>${signed(side.erased[j])}</td><td class="bar-cell"><${Bar} x=${side.erased[j]} ends=${[-reach, reach]} /></td>`}</tr>`)}</tbody></table></div>`;
}

export const words = {
  "en": {
    "title": "Embeddings",
    "lead": "How does each symbol affect the loss? Its embedding x is where the model begins, so ∂L/∂x has gone through everything: attention, all layers, all time steps. A long gradient means that a small change of the symbol's vector moves the loss a lot. To first order the loss changes by −⟨x, ∂L/∂x⟩ if x is replaced by zeros; beside it stands what really happens then, which a large step may make quite different.",
    "side.source": "The source's symbols",
    "side.target": "The symbols that the decoder reads",
    "side.text": "The symbols of the text",
    "symbol": "symbol",
    "predicted": "predicted change without it",
    "erased": "real change of the loss",
    "by_token": "Token by token",
    "by_token_words": "A row is the loss of one token alone, a column a symbol that was read. Every token is trained at the same time: their gradients are means of the rows. Where a symbol comes after the token, as the causal mask has it, the gradient is exactly 0.",
    "some_tokens": "{shown} of {all} tokens, those of the largest loss.",
    "effects": "effect",
    "norms": "size",
    "corner": "token",
    "raises": "A longer vector of “{symbol}” would raise the loss of “{token}” ({x}): it speaks against this token.",
    "lowers": "A longer vector of “{symbol}” would not raise the loss of “{token}” ({x}): it speaks for this token, or does not matter.",
    "graph": "One graph, one backward pass",
    "graph_words": "Encoder and decoder are not trained one after the other. The loss stands at the end of one graph, and backward walks it once: through the output layer and the decoder, through every attention to the encoder's states, through the encoder, to the embeddings of the source. That the source's rows above are not zero is the proof.",
    "text_words": "All positions are trained at once: the loss is the mean over all tokens, and one backward pass serves them all. The causal mask is what makes that honest, since no token's loss depends on a symbol after it.",
    "anecdote": "These are the numbers of one sentence, an anecdote. With the option --sentences 100 the page has their averages and spread over 100 others, by distance, position and head.",
    "averages": "Averages over many sentences, by distance, position and head →"
  },
  "ko": {
    "title": "임베딩",
    "lead": "기호 하나하나는 손실에 어떤 영향을 줄까요? 모델은 임베딩 x에서 시작하므로 ∂L/∂x는 어텐션, 모든 층, 모든 스텝을 지나온 것입니다. 기울기가 길면 그 기호의 벡터가 조금만 바뀌어도 손실이 크게 움직입니다. x를 영벡터로 바꾸면 손실은 일차 근사로 −⟨x, ∂L/∂x⟩만큼 바뀝니다. 그 옆은 실제로 바뀐 값이며, 걸음이 크면 꽤 다를 수 있습니다.",
    "side.source": "소스의 기호",
    "side.target": "디코더가 읽는 기호",
    "side.text": "텍스트의 기호",
    "symbol": "기호",
    "predicted": "없앨 때의 예측",
    "erased": "실제로 바뀐 손실",
    "by_token": "토큰마다",
    "by_token_words": "행은 토큰 하나만의 손실이고 열은 읽은 기호입니다. 모든 토큰을 한꺼번에 학습하며, 전체 기울기는 행들의 평균입니다. 인과 마스크 때문에 토큰보다 뒤에 오는 기호의 기울기는 정확히 0입니다.",
    "some_tokens": "토큰 {all}개 중 손실이 큰 {shown}개입니다.",
    "effects": "영향",
    "norms": "크기",
    "corner": "토큰",
    "raises": "“{symbol}”의 벡터가 길어지면 “{token}”의 손실이 커집니다({x}). 이 토큰에 반대하는 셈입니다.",
    "lowers": "“{symbol}”의 벡터가 길어져도 “{token}”의 손실은 커지지 않습니다({x}). 이 토큰을 편들거나 상관이 없습니다.",
    "graph": "그래프 하나, 역전파 한 번",
    "graph_words": "인코더와 디코더를 따로 학습하지 않습니다. 손실은 한 그래프의 끝에 있고, 역전파는 그 그래프를 한 번 거슬러 갑니다. 출력층과 디코더를 지나, 어텐션마다 인코더의 상태로, 인코더를 지나 소스의 임베딩까지 갑니다. 위에서 소스의 행이 0이 아닌 것이 그 증거입니다.",
    "text_words": "모든 위치를 한꺼번에 학습합니다. 손실은 모든 토큰의 평균이고, 역전파 한 번이면 됩니다. 인과 마스크가 있기에 공정합니다. 어떤 토큰의 손실도 뒤에 오는 기호에 기대지 않습니다.",
    "anecdote": "문장 하나의 숫자이니 일화일 뿐입니다. --sentences 100 옵션을 주면 다른 문장 100개에서 거리, 위치, 헤드별로 평균과 퍼진 정도를 보여 줍니다.",
    "averages": "여러 문장의 평균: 거리별, 위치별, 헤드별 →"
  }
};

const t = translator(words);
