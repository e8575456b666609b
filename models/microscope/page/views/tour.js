// A guided tour in ten stops, from a loss to a weight: each asks before it shows a number. The same as a worksheet.

import { html } from "page/core.js";
import { data } from "page/data.js";
import { Formula } from "page/formula.js";
import { translator } from "page/i18n.js";
import { full, rounded } from "page/numbers.js";
import { Token } from "page/parts.js";
import { hash, select } from "page/selection.js";
import { stopsOf } from "page/stops.js";
import { Worksheet } from "page/worksheet.js";

export const order = 20;

// It tells of predictions; with a loss of the user's own there are none.
export const shows = (all) => all.tokens.length > 0;

const UNANSWERED = "-";

export function View({ chosen }) {
  const all = data.get();
  const stops = stopsOf(all);
  if (chosen.sheet) return html`<${Worksheet} ...${{ all, stops, t, withKey: chosen.sheet === "key" }} />`;
  const asked = stops.filter(({ missing }) => !missing);
  if (!asked.length) return html`<p class="lead">${t("nothing")}</p><${LeftOut} stops=${stops} />`;
  const at = Math.max(0, Math.min(asked.length - 1, (Number.parseInt(chosen.stop, 10) || 1) - 1));
  const given = answersOf(chosen, asked);
  return html`<p class="lead">${t("lead", { count: asked.length })}</p>
    <nav class="stops" aria-label=${t("stops")}><ol>${asked.map((stop, i) => html`<li key=${stop.name}>
      <button type="button" aria-current=${i === at ? "step" : undefined} class=${stateOf(stop, given[i])} onClick=${() => select({ stop: String(i + 1) })}
        aria-label=${t("stop.label", { number: i + 1, title: t(`stop.${stop.name}.title`), state: t(`answer.${stateOf(stop, given[i])}`) })}>${i + 1}<span aria-hidden="true">${{ right: " ✓", wrong: " ✗", open: "" }[stateOf(stop, given[i])]}</span></button></li>`)}</ol></nav>
    <${Stop} key=${asked[at].name} stop=${asked[at]} number=${at + 1} count=${asked.length} given=${given[at]}
      answer=${(choice) => select({ stop: String(at + 1), answers: written(given, at, choice) })} />
    <p class="walk-on"><button type="button" class="primary" disabled=${at === 0} onClick=${() => select({ stop: String(at) })}>← ${t("before")}</button>
      <button type="button" class="primary" disabled=${at === asked.length - 1} onClick=${() => select({ stop: String(at + 2) })}>${t("next")} →</button>
      <span class="muted" role="status">${t("score", { right: asked.filter((stop, i) => given[i] === stop.right).length, count: asked.length })}</span>
      <button type="button" class="quiet" onClick=${() => select({ stop: "1", answers: "" })}>${t("again")}</button></p>
    <${LeftOut} stops=${stops} />
    <p class="sheets">${t("sheet.offer")} <a href=${hash({ sheet: "blank" })}>${t("sheet.blank")}</a> · <a href=${hash({ sheet: "key" })}>${t("sheet.key")}</a></p>`;
}

// By stop the number of the chosen answer, or null; the address has a character for each.
const answersOf = ({ answers }, asked) => asked.map((stop, i) => (/\d/.test(answers[i] ?? "") && Number(answers[i]) < stop.choices.length ? Number(answers[i]) : null));
const written = (given, at, choice) => given.map((answer, i) => (i === at ? choice : answer) ?? UNANSWERED).join("");
const stateOf = (stop, answer) => (answer === null ? "open" : answer === stop.right ? "right" : "wrong");

function Choice({ choice }) {
  return choice.token === undefined ? t(choice.text, choice.holes) : html`<${Token} text=${choice.token} kind="chip-token" />`;
}

function Stop({ stop, number, count, given, answer }) {
  return html`<section class="card stop" aria-labelledby="stop-title">
    <h2 id="stop-title"><span class="muted">${number} / ${count}</span> ${t(`stop.${stop.name}.title`)}</h2>
    <p class="stop-tells">${t(`stop.${stop.name}.tells`, stop.holes)}</p>
    <p class="stop-asks" id="stop-asks"><b>${t(`stop.${stop.name}.asks`, stop.holes)}</b></p>
    <div class="choices" role="group" aria-labelledby="stop-asks">${stop.choices.map((choice, i) => html`<button type="button" key=${i} aria-pressed=${i === given}
      class=${given === null ? "" : i === stop.right ? "right" : i === given ? "wrong" : ""} onClick=${() => answer(i)}><${Choice} choice=${choice} /></button>`)}</div>
    <div role="status" class="stop-answer">${given !== null && html`<${Answer} stop=${stop} right=${given === stop.right} />`}</div>
  </section>`;
}

function Answer({ stop, right }) {
  return html`<p><b class=${right ? "good" : "bad"}>${right ? `✓ ${t("is_right")}` : html`✗ ${t("is_wrong")} <${Choice} choice=${stop.choices[stop.right]} />`}</b></p>
    <dl class="facts">${stop.numbers.map(([label, x, symbol], i) => html`<dt key=${`${i}-name`}>${label}${symbol === undefined ? "" : html` <${Token} text=${symbol} kind="chip-token" />`}</dt>
      <dd key=${i} class="number" title=${full(x)}>${rounded(x)}</dd>`)}</dl>
    <${Formula} latex=${stop.latex} block />
    <p>${t(`stop.${stop.name}.because`, stop.holes)} <a href=${hash(stop.see)}>${t("see")} →</a></p>`;
}

function LeftOut({ stops }) {
  const reasons = [...new Set(stops.map(({ missing }) => missing).filter(Boolean))];
  return reasons.map((reason) => html`<p class="note left-out" key=${reason}>${t("left_out", { titles: stops.filter(({ missing }) => missing === reason).map(({ name }) => `“${t(`stop.${name}.title`)}”`).join(", "), reason: t(`missing.${reason}`) })}</p>`);
}

export const words = {
  "en": {
    "title": "Tour",
    "lead": "{count|question leads|questions lead} from a loss to a weight. Answer first; then the numbers of this page's own run appear.",
    "nothing": "There is nothing to ask about this pass.",
    "stops": "Stops of the tour",
    "stop.label": "Stop {number}: {title}, {state}",
    "answer.open": "not answered",
    "answer.right": "answered rightly",
    "answer.wrong": "answered wrongly",
    "before": "Back",
    "next": "On",
    "score": "{right} of {count} right",
    "again": "Begin again",
    "is_right": "Right.",
    "is_wrong": "No, it is:",
    "see": "See it on the page",
    "left_out": "Left out: {titles}. {reason}",
    "missing.attention": "This model has no attention from a prediction to what it has read.",
    "missing.array": "The numbers that they need are not on this page.",
    "missing.one_key": "This step may attend to one symbol alone, so that its weight is 1 whatever the score.",
    "missing.one_token": "There is one prediction alone, so that there is nothing to compare.",
    "missing.one_symbol": "The vocabulary has one symbol alone.",
    "missing.difference": "No sampled weight has a gradient that a difference of the loss can see.",
    "missing.not_finite": "The pass is not finite, so that no number can be verified.",
    "sheet.offer": "For paper:",
    "sheet.blank": "worksheet with blanks",
    "sheet.key": "worksheet and key",
    "sheet.title": "From a loss to a weight",
    "sheet.lead": "Every number is of one pass of {model}, forward and backward. Work out what is missing; round to three digits.",
    "sheet.print": "Print",
    "sheet.tour": "Back to the tour",
    "sheet.name": "Name",
    "sheet.answers": "Key",
    "sheet.table": "The softmax and its gradient by hand, in step {t}",
    "sheet.table_words": "Fill in column by column, from left to right. The largest score is subtracted from all, which changes no weight. S is the sum of the column exp, m the sum of all α · ∂L/∂α.",
    "sheet.others": "all others together",
    "sheet.sum": "sum",
    "choice.step": "step {t}, which should say “{token}”: p = {p}",
    "sign.above": "above zero",
    "sign.below": "below zero",
    "sign.zero": "exactly zero",
    "sum.0": "0",
    "sum.1": "1",
    "sum.varies": "differs from row to row",
    "loss.above": "it rises",
    "loss.below": "it falls",
    "loss.zero": "it stays",
    "pull.above": "above zero: attention is pushed away",
    "pull.below": "below zero: attention is pulled here",
    "pull.zero": "exactly zero",
    "weight.grows": "it grows",
    "weight.shrinks": "it shrinks",
    "stop.loss.title": "The model is wrong here",
    "stop.loss.tells": "The loss of a step is −ln p, where p is the probability that the model gave to the symbol that should come.",
    "stop.loss.asks": "Which of these steps has the largest loss?",
    "stop.loss.because": "The smaller the probability, the larger the loss. L is the mean over all steps, and all that follows is about the step with the largest loss.",
    "stop.logit.title": "What the loss asks of a logit",
    "stop.logit.tells": "In step {t}, “{token}” should come, and has p = {p}. The derivative of the mean loss over {count} steps with respect to a logit is (p − 1) / {count} for the symbol that should come, and p / {count} for every other.",
    "stop.logit.asks": "What is the sign of the gradient of “{token}”'s logit?",
    "stop.logit.because": "A probability is never above 1, so this gradient is never above zero: gradient descent goes against it, and raises the logit of the symbol that should come.",
    "stop.rival.title": "What the loss asks of a rival",
    "stop.rival.tells": "Another symbol, “{rival}”, has p = {q}; “{token}” has p = {p}.",
    "stop.rival.asks": "Whose logit has the gradient of the larger size?",
    "stop.rival.because": "Over all symbols the gradients sum to zero. So what the logits of all others are lowered by, together, is what the one that should come is raised by: one rival can at most have as much.",
    "stop.weights.title": "Where it looks",
    "stop.weights.tells": "In step {t} the score of “{first}” is e = {e1}, that of “{second}” is e = {e2}. The weights are the softmax of the scores.",
    "stop.weights.asks": "Which symbol has the larger weight?",
    "stop.weights.because": "The softmax keeps the order: the larger score has the larger weight. The ratio of two weights is exp of the difference of their scores.",
    "stop.row.title": "A row of weights",
    "stop.row.tells": "The softmax divides each exp(e) by the sum over all {count} symbols that step {t} may look at.",
    "stop.row.asks": "What do the weights of this row sum to?",
    "stop.row.because": "So attention is a share: what one symbol gains, others lose. That is why the gradient of a score depends on all symbols of its row.",
    "stop.context.title": "What a weight is worth",
    "stop.context.tells": "The context is the sum of the values, each times its weight. So the gradient of “{key}”'s weight is the gradient of the context times the value of “{key}”, added up over {count} channels: the products above zero sum to {above}, those below to {below}.",
    "stop.context.asks": "If this weight alone grew a little, what would the loss do?",
    "stop.context.because": "The sum is the gradient of this weight: its sign says what the loss would do. But a weight cannot grow alone.",
    "stop.score.title": "Where the gradient pulls",
    "stop.score.tells": "“{key}” has the weight α = {alpha} and ∂L/∂α = {d}. The mean of ∂L/∂α over the row, weighted by α, is {mean}.",
    "stop.score.asks": "What is the sign of the gradient of “{key}”'s score?",
    "stop.score.because": "The gradient of a score is α times the difference of ∂L/∂α from the mean: it counts whether looking here is worse than looking as it does now.",
    "stop.zero.title": "A row of gradients",
    "stop.zero.tells": "The score of “{key}” has the gradient {x}. The other scores of step {t} have gradients too.",
    "stop.zero.asks": "What do the gradients of all scores of this row sum to?",
    "stop.zero.because": "Zero, up to rounding: a number added to all scores of a row changes no weight, so it cannot change the loss. What is pushed away here is pulled there.",
    "stop.value.title": "What comes back to the symbols",
    "stop.value.tells": "The gradient of a value is the sum over all steps of the step's weight times the gradient of its context. In step {t}, “{first}” has the weight {a1} and “{second}” {a2}.",
    "stop.value.asks": "To which symbol's value does the larger gradient return?",
    "stop.value.because": "A gradient returns where attention has looked: a symbol that no step looks at learns nothing as a value.",
    "stop.grows.title": "So this weight grows",
    "stop.grows.tells": "All these gradients end at the model's parameters. Take {weight} at {place}. With ε = {eps} more, the loss is {plus}; with ε less, it is {minus}.",
    "stop.grows.asks": "Gradient descent subtracts a multiple of the gradient. What does this weight do?",
    "stop.grows.because": "It moves to the side where the loss is smaller. The difference of the two losses, divided by 2ε, is what backpropagation has found. −0.1 times it is the step of a learning rate of 0.1."
  },
  "ko": {
    "title": "둘러보기",
    "lead": "질문 {count}개가 손실에서 가중치까지 이끕니다. 먼저 답하면 이 페이지에 기록된 숫자가 나타납니다.",
    "nothing": "이 계산에는 물어볼 것이 없습니다.",
    "stops": "둘러보기의 정거장",
    "stop.label": "정거장 {number}: {title}, {state}",
    "answer.open": "아직 답하지 않음",
    "answer.right": "맞음",
    "answer.wrong": "틀림",
    "before": "이전",
    "next": "다음",
    "score": "{count}개 가운데 {right}개 맞음",
    "again": "처음부터",
    "is_right": "맞습니다.",
    "is_wrong": "아닙니다. 답:",
    "see": "페이지에서 보기",
    "left_out": "뺀 질문: {titles}. {reason}",
    "missing.attention": "이 모델에는 예측하는 스텝이 읽은 것을 보는 어텐션이 없습니다.",
    "missing.array": "필요한 숫자가 이 페이지에 없습니다.",
    "missing.one_key": "이 스텝은 기호 하나만 볼 수 있어서, 스코어와 관계없이 가중치가 1입니다.",
    "missing.one_token": "예측이 하나뿐이어서 견줄 것이 없습니다.",
    "missing.one_symbol": "어휘에 기호가 하나뿐입니다.",
    "missing.difference": "표본 가운데 손실의 차분으로 보이는 기울기를 가진 가중치가 없습니다.",
    "missing.not_finite": "계산이 유한하지 않아 숫자를 검증할 수 없습니다.",
    "sheet.offer": "종이로 풀기:",
    "sheet.blank": "빈칸 학습지",
    "sheet.key": "학습지와 정답",
    "sheet.title": "손실에서 가중치까지",
    "sheet.lead": "모든 숫자는 {model} 모델이 순전파와 역전파를 한 번 한 것입니다. 빈칸을 계산해 채우고, 유효 숫자 세 자리로 반올림하세요.",
    "sheet.print": "인쇄",
    "sheet.tour": "둘러보기로 돌아가기",
    "sheet.name": "이름",
    "sheet.answers": "정답",
    "sheet.table": "손으로 하는 소프트맥스와 그 기울기, 스텝 {t}",
    "sheet.table_words": "왼쪽 열부터 차례로 채우세요. 모든 스코어에서 가장 큰 것을 뺐는데, 그래도 가중치는 변하지 않습니다. S는 exp 열의 합, m은 모든 α · ∂L/∂α의 합입니다.",
    "sheet.others": "나머지 모두",
    "sheet.sum": "합",
    "choice.step": "스텝 {t}, 내야 할 기호 ‘{token}’: p = {p}",
    "sign.above": "0보다 큼",
    "sign.below": "0보다 작음",
    "sign.zero": "정확히 0",
    "sum.0": "0",
    "sum.1": "1",
    "sum.varies": "행마다 다름",
    "loss.above": "늘어남",
    "loss.below": "줄어듦",
    "loss.zero": "그대로",
    "pull.above": "0보다 큼: 어텐션을 밀어냄",
    "pull.below": "0보다 작음: 어텐션을 끌어당김",
    "pull.zero": "정확히 0",
    "weight.grows": "커짐",
    "weight.shrinks": "작아짐",
    "stop.loss.title": "모델이 여기서 틀립니다",
    "stop.loss.tells": "스텝의 손실은 −ln p입니다. p는 나와야 할 기호에 모델이 준 확률입니다.",
    "stop.loss.asks": "손실이 가장 큰 스텝은 어느 것일까요?",
    "stop.loss.because": "확률이 작을수록 손실이 큽니다. L은 모든 스텝의 평균이며, 다음 질문은 모두 손실이 가장 큰 이 스텝에 대한 것입니다.",
    "stop.logit.title": "손실이 로짓에 바라는 것",
    "stop.logit.tells": "스텝 {t}에서 나와야 할 기호 ‘{token}’의 확률은 p = {p}입니다. 스텝 {count}개의 평균 손실을 로짓으로 미분하면, 나와야 할 기호에서는 (p − 1) / {count}, 다른 기호에서는 p / {count}입니다.",
    "stop.logit.asks": "‘{token}’ 기호의 로짓의 기울기는 부호가 무엇일까요?",
    "stop.logit.because": "확률은 1을 넘지 않으므로 이 기울기는 0보다 클 수 없습니다. 경사 하강법은 기울기의 반대쪽으로 가서, 나와야 할 기호의 로짓을 키웁니다.",
    "stop.rival.title": "손실이 경쟁자에게 바라는 것",
    "stop.rival.tells": "다른 기호 ‘{rival}’의 확률은 p = {q}이고, ‘{token}’의 확률은 p = {p}입니다.",
    "stop.rival.asks": "로짓의 기울기가 더 큰 쪽은 어느 기호일까요? 부호는 빼고 크기만 견줍니다.",
    "stop.rival.because": "모든 기호의 기울기를 더하면 0입니다. 다른 로짓이 모두 합해 낮아지는 만큼 나와야 할 로짓이 높아집니다. 그래서 경쟁자 하나는 많아야 그만큼입니다.",
    "stop.weights.title": "어디를 볼까요",
    "stop.weights.tells": "스텝 {t}에서 ‘{first}’의 스코어는 e = {e1}, ‘{second}’의 스코어는 e = {e2}입니다. 가중치는 스코어의 소프트맥스입니다.",
    "stop.weights.asks": "가중치가 더 큰 기호는 어느 것일까요?",
    "stop.weights.because": "소프트맥스는 순서를 지킵니다. 스코어가 크면 가중치도 큽니다. 두 가중치의 비는 스코어의 차에 exp를 취한 것입니다.",
    "stop.row.title": "가중치 한 행",
    "stop.row.tells": "소프트맥스는 각 exp(e)를, 스텝 {t}에서 볼 수 있는 기호 {count}개 전체의 합으로 나눕니다.",
    "stop.row.asks": "이 행의 가중치를 모두 더하면 얼마일까요?",
    "stop.row.because": "어텐션은 몫을 나누는 것이어서, 한 기호가 얻으면 다른 기호가 잃습니다. 그래서 스코어의 기울기는 행의 모든 기호에 달려 있습니다.",
    "stop.context.title": "가중치의 값어치",
    "stop.context.tells": "컨텍스트는 값에 가중치를 곱해 더한 것입니다. 그래서 ‘{key}’의 가중치의 기울기는 컨텍스트의 기울기와 ‘{key}’의 값을 채널 {count}개에서 곱해 더한 것입니다. 0보다 큰 곱의 합은 {above}, 0보다 작은 곱의 합은 {below}입니다.",
    "stop.context.asks": "이 가중치만 조금 커지면 손실은 어떻게 될까요?",
    "stop.context.because": "그 합이 이 가중치의 기울기이고, 부호는 손실이 어떻게 될지를 말합니다. 하지만 가중치는 혼자 커질 수 없습니다.",
    "stop.score.title": "기울기가 당기는 곳",
    "stop.score.tells": "‘{key}’의 가중치는 α = {alpha}, 기울기는 ∂L/∂α = {d}입니다. α로 가중한 이 행의 ∂L/∂α의 평균은 {mean}입니다.",
    "stop.score.asks": "‘{key}’의 스코어의 기울기는 부호가 무엇일까요?",
    "stop.score.because": "스코어의 기울기는 ∂L/∂α와 평균의 차에 α를 곱한 것입니다. 지금 보는 방식보다 여기를 보는 것이 나쁜지를 따집니다.",
    "stop.zero.title": "기울기 한 행",
    "stop.zero.tells": "‘{key}’의 스코어의 기울기는 {x}입니다. 스텝 {t}의 다른 스코어에도 기울기가 있습니다.",
    "stop.zero.asks": "이 행의 스코어의 기울기를 모두 더하면 얼마일까요?",
    "stop.zero.because": "반올림 오차를 빼면 0입니다. 한 행의 스코어에 모두 같은 수를 더해도 가중치는 변하지 않으므로 손실도 변할 수 없습니다. 여기서 밀어낸 만큼 저기서 끌어당깁니다.",
    "stop.value.title": "기호로 돌아오는 것",
    "stop.value.tells": "값의 기울기는 스텝마다 그 가중치에 컨텍스트의 기울기를 곱해 모두 더한 것입니다. 스텝 {t}에서 ‘{first}’의 가중치는 {a1}, ‘{second}’의 가중치는 {a2}입니다.",
    "stop.value.asks": "더 큰 기울기가 돌아오는 값은 어느 기호의 것일까요?",
    "stop.value.because": "기울기는 어텐션이 본 곳으로 돌아옵니다. 어느 스텝도 보지 않는 기호는 값으로서 배우는 것이 없습니다.",
    "stop.grows.title": "그래서 이 가중치가 커집니다",
    "stop.grows.tells": "이 기울기는 모두 모델의 파라미터에서 끝납니다. {weight}의 {place} 자리를 봅시다. ε = {eps}만큼 크면 손실은 {plus}, ε만큼 작으면 {minus}입니다.",
    "stop.grows.asks": "경사 하강법은 기울기의 몇 배를 뺍니다. 이 가중치는 어떻게 될까요?",
    "stop.grows.because": "손실이 작은 쪽으로 움직입니다. 두 손실의 차를 2ε으로 나눈 것이 역전파로 구한 기울기와 같습니다. 거기에 −0.1을 곱한 것이 학습률이 0.1일 때의 걸음입니다."
  }
};

const t = translator(words);
