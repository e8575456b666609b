// The sentence or text and the model, the prediction for each token, and the result of all checks.

import { html } from "page/core.js";
import { data } from "page/data.js";
import { Formula } from "page/formula.js";
import { translator } from "page/i18n.js";
import { Live } from "page/live.js";
import { full, percent, rounded } from "page/numbers.js";
import { BADGE, Bar, direction, source, Token, Verdict, withoutSites } from "page/parts.js";
import { hash } from "page/selection.js";

export const order = 30;

export function View() {
  const all = data.get();
  return html`
    <div class="columns">
      <section class="card pair"><h2>${t(all.meta.inputs ? "own" : all.source ? "pair" : "text")}</h2><${Pair} all=${all} /></section>
      <${Badge} check=${all.check} loss=${all.meta.loss} />
    </div>
    ${!all.sites.length && html`<p class="note">${withoutSites(all)}</p>`}
    ${all.meta.served && html`<${Live} />`}
    ${all.meta.missing.length > 0 && html`<section class="card" id="missing"><h2>${t("missing")}</h2><ul>${all.meta.missing.map((what) => html`<li key=${what}>${t(`missing.${what}`)}</li>`)}</ul></section>`}
    ${all.tokens.length > 0 && html`<section class="card"><h2>${t("tokens")}</h2>${!all.source && html`<p class="muted">${t("tokens.of_text")}</p>`}<${Tokens} all=${all} /></section>`}
    <div class="columns">
      <section class="card"><h2>${t("identities")}</h2><${Identities} identities=${all.check.identities} /></section>
      <section class="card"><h2>${t("model")}</h2><${Model} all=${all} /></section>
    </div>`;
}

const line = (sentence) => sentence.tokens.map((token, i) => html`<${Token} key=${i} text=${token} />`);

// A source with its target and the model's own translation, the text of a language model, or the inputs of a module.
function Pair({ all }) {
  if (all.meta.inputs) return html`<dl class="pair-list"><dt>${t("inputs")}</dt><dd><code>${all.target.text}</code></dd>
    <dt>${t("loss")}</dt><dd class="number big">${rounded(all.meta.loss)} <span class="muted">${t("loss_own")}</span></dd></dl>`;
  return html`<dl class="pair-list">
    ${all.source ? html`<${Translated} all=${all} />` : html`<dt>${t("read")}</dt><dd dir=${direction(all.target.text)} class="sentence">${line(all.target)}</dd>`}
    <dt>${t("loss")}</dt><dd class="number big">${rounded(all.meta.loss)} <span class="muted">${t("loss_words")}</span></dd>
  </dl>`;
}

function Translated({ all }) {
  const wrong = all.translation.tokens.join("\n") !== all.target.tokens.join("\n");
  return html`<dt>${t("source")}</dt><dd dir=${direction(all.source.text)} class="sentence">${line(all.source)}</dd>
    <dt>${t(all.meta.target_from === "given" ? "target" : "target_greedy")}</dt><dd dir=${direction(all.target.text)} class="sentence">${line(all.target)}</dd>
    <dt>${t("translation")}</dt><dd dir=${direction(all.translation.text)} class="sentence">${line(all.translation)} ${all.meta.target_from === "given" && html`<span class=${wrong ? "verdict bad" : "verdict good"}>${wrong ? `✗ ${t("differs")}` : `✓ ${t("same")}`}</span>`}</dd>`;
}

// The largest gradient that could not be resolved for this reason.
const largest = (check, reason) => Math.max(...check.cells.filter((cell) => cell.reason === reason).map((cell) => cell.largest));

function Badge({ check, loss }) {
  const failed = (kind) => check.failures.some((failure) => failure.kind === kind);
  const held = check.identities.filter((identity) => identity.holds).length;
  const lines = [ // how many, whether they hold, and the words; none of what a model without attention does not have
    [check.compared, check.cells.every((cell) => cell.holds), t("badge.compared", { count: check.compared, worst: rounded(check.worst), tolerance: rounded(check.tolerance) })],
    [check.recomputed, !failed("recomputed"), t("badge.recomputed", { count: check.recomputed.toLocaleString(), worst: rounded(check.recomputed_worst), tolerance: rounded(check.recomputed_tolerance) })],
    [check.replayed, !failed("replayed"), t("badge.replayed", { count: check.replayed, worst: rounded(check.replayed_worst) })],
    [check.identities.length, held === check.identities.length, t("badge.identities", { held, count: check.identities.length })],
  ].filter(([count]) => count > 0);
  const kinks = [...new Set(check.cells.filter((cell) => cell.kink).map(({ kink }) => t("badge.kink", { ...kink, place: `[${kink.cell.join(", ")}]` })))];
  return html`<section class=${`card badge ${check.state}`} id="badge">
    <h2><span class="badge-mark" aria-hidden="true">${BADGE[check.state]}</span> ${t(`badge.${check.state}`)}</h2>
    ${check.not_finite && html`<p class="alert calm" role="note" id="not-finite">${source(check.not_finite)}</p>`}
    <ul>${lines.map(([, holds, words], i) => html`<li key=${i}><span class=${holds ? "good" : "bad"} aria-label=${t(holds ? "verdict.holds" : "verdict.fails")} role="img">${holds ? "✓" : "✗"}</span> ${words}</li>`)}</ul>
    ${Object.entries(check.unresolved_because).map(([reason, count]) => html`<p class="note" key=${reason}>${t(`badge.unresolved.${reason}`, { count, loss: rounded(loss), rounding: rounded(check.rounding), largest: rounded(largest(check, reason)) })}</p>`)}
    ${kinks.map((words) => html`<p class="note" key=${words}>${words}</p>`)}
    ${check.unknown_ops.length > 0 && html`<p class="note">${t("badge.unknown", { ops: check.unknown_ops.join(", ") })}</p>`}
    ${check.failures.length > 0 && html`<${Failures} failures=${check.failures} failing=${check.failing} />`}
  </section>`;
}

function Failures({ failures, failing }) {
  return html`<details open><summary>${t("failures.title", { count: failing, shown: failures.length })}</summary>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("failures.title", { count: failing, shown: failures.length })}><table class="plain"><thead><tr>
      <th scope="col">${t("failures.kind")}</th><th scope="col">${t("failures.where")}</th><th scope="col">${t("failures.expected")}</th><th scope="col">${t("failures.found")}</th><th scope="col">${t("error")}</th>
    </tr></thead><tbody>${failures.map((failure, i) => html`<tr key=${i}>
      <td>${t(`failure.${failure.kind}`)}</td>
      <td>${[failure.site, failure.tensor ?? failure.name, failure.cell && `[${[failure.cell].flat().join(", ")}]`].filter(Boolean).join(" · ")}</td>
      <td class="number">${failure.expected == null ? "" : rounded(failure.expected)}</td>
      <td class="number">${failure.found == null ? "" : rounded(failure.found)}</td>
      <td class="number">${failure.error == null ? "" : rounded(failure.error)}</td>
    </tr>`)}</tbody></table></div></details>`;
}

function Tokens({ all }) {
  const most = Math.max(...all.tokens.map((token) => token.loss), 1e-12);
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("tokens")}><table class="plain"><thead><tr>
    <th scope="col">t</th><th scope="col">${t("tokens.read")}</th><th scope="col">${t("tokens.expected")}</th>
    <th scope="col" class="number">${t("tokens.probability")}</th><th scope="col" class="number">${t("tokens.loss")}</th><th scope="col"><span class="hidden">${t("tokens.loss")}</span></th><th scope="col">${t("tokens.predicted")}</th>
  </tr></thead><tbody>${all.tokens.map((token, i) => html`<tr key=${i}>
    <td><a href=${hash({ view: "steps", step: i })}>${i}</a></td>
    <td><${Token} text=${token.read} /></td><td><${Token} text=${token.expected} /></td>
    <td class="number">${percent(token.probability)}</td><td class="number loss" title=${full(token.loss)}>${rounded(token.loss)}</td>
    <td class="bar-cell"><${Bar} x=${token.loss} ends=${[0, most]} /></td>
    <td class="predicted">${token.predicted.map(([symbol, p], k) => html`<span key=${k} class=${symbol === token.expected ? "guess right" : "guess"}><${Token} text=${symbol} /> <span class="number">${percent(p)}</span></span>`)}</td>
  </tr>`)}</tbody></table></div>`;
}

function Identities({ identities }) {
  if (!identities.length) return html`<p class="note">${t("identities.none")}</p>`;
  const names = [...new Set(identities.map((identity) => identity.name))];
  return html`<ul class="identities">${names.map((name) => {
    const those = identities.filter((identity) => identity.name === name);
    const worst = Math.max(...those.map((identity) => identity.worst));
    return html`<li key=${name}>
      <div><${Verdict} holds=${those.every((identity) => identity.holds)} /> <b>${t(`identity.${name}`)}</b></div>
      <${Formula} latex=${those[0].latex} block />
      <div class="muted">${t("identities.where", { count: those.length, worst: rounded(worst) })}</div>
    </li>`;
  })}</ul>`;
}

const MOST_NAMES = 12;
const leftOut = (names) => [...names.slice(0, MOST_NAMES), ...(names.length > MOST_NAMES ? [t("model.more", { count: names.length - MOST_NAMES })] : [])].join(", ");

function Model({ all }) {
  const { meta } = all;
  const facts = [
    ["model.class", meta.model], ["model.run", meta.run], ["model.seed", meta.seed], ["model.commit", meta.commit?.slice(0, 12)],
    ["model.parameters", meta.parameters.toLocaleString()], ["model.dtype", meta.trained_dtype === meta.dtype ? meta.dtype : t("model.float64", { trained: meta.trained_dtype, dtype: meta.dtype })],
    ...Object.entries(meta.config).filter(([, value]) => typeof value !== "object").map(([key, value]) => [key, String(value)]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${facts.map(([key, value]) => html`<dt key=${`${key}-name`}>${t(key)}</dt><dd key=${key}>${value}</dd>`)}</dl>
    ${all.kept.dropped.length > 0 && html`<p class="note">${t("model.dropped", { names: leftOut(all.kept.dropped) })}</p>`}`;
}

export const words = {
  "en": {
    "title": "Summary",
    "pair": "The sentence",
    "text": "The text",
    "read": "Text",
    "source": "Source",
    "target": "Target, given",
    "target_greedy": "Target: the model's own translation",
    "translation": "The model's translation",
    "same": "as the target",
    "differs": "not the target",
    "loss_words": "mean of −ln p over the tokens; this number is what all gradients differentiate",
    "own": "What the module read",
    "inputs": "Inputs",
    "loss_own": "your own loss; this number is what all gradients differentiate",
    "missing": "What cannot be shown here",
    "missing.tokens": "Symbols and predictions: the loss is one number, so nothing says which symbol it is of. Rows and columns are numbered, and there is no path to an encoder.",
    "missing.batch": "All of the batch but its first item; the loss and the gradients of the weights are of the whole batch.",
    "missing.evaluation": "Dropout: the module is run in evaluation mode.",
    "missing.outside": "PyTorch's other ops: each nn.MultiheadAttention is computed again here, on PyTorch's inputs and with the gradient that PyTorch's loss sends to its output. The tape has attention alone, and between attentions the loss is taken to be linear.",
    "identity.torch_outputs": "Every attention's output is PyTorch's",
    "identity.torch_gradients": "The gradients of its inputs and weights are PyTorch's",
    "identity.torch_differences": "Moving its output moves PyTorch's loss as the gradient says",
    "tokens": "Loss, token by token",
    "tokens.of_text": "A language model predicts each symbol from those before it. There is no source, and so neither an encoder nor attention to one: every attention is self-attention over this text.",
    "identities": "Identities that hold for every correct derivative",
    "model": "The model",
    "tokens.read": "input",
    "tokens.expected": "target",
    "tokens.probability": "p",
    "tokens.loss": "loss −ln p",
    "tokens.predicted": "most likely",
    "badge.good": "Every number checked out",
    "badge.bad": "Some gradients are wrong",
    "badge.not_finite": "Not finite: nothing can be verified",
    "badge.unresolved.rounding": "{count|more belongs|more belong} to gradients of at most {largest}. The loss of {loss} is itself rounded by about {rounding}, so a difference cannot see them: it says only that they are that small.",
    "badge.unresolved.kink": "{count|more lies|more lie} at a kink of the loss, where left and right derivative differ: a difference across it says nothing.",
    "badge.unresolved.curvature": "{count|more lies|more lie} where the loss bends so sharply that every step is either too large or lost in rounding.",
    "badge.unresolved.not_finite": "{count|more is|more are} not finite, or their loss is not: there is nothing to compare.",
    "badge.kink": "Kink: op {call}, {op} in {module}, element {place}.",
    "badge.compared": "{count|gradient|gradients} compared with finite differences; worst error {worst}, allowed {tolerance}",
    "badge.recomputed": "{count|number|numbers} computed again in plain NumPy; worst error {worst}, allowed {tolerance}",
    "badge.replayed": "{count|op|ops} run again, forward and backward; worst error {worst}",
    "badge.identities": "{held} of {count|identity holds|identities hold}",
    "badge.unknown": "Not run again, since plain NumPy has no second version of them here: {ops}.",
    "failures.title": "What fails: {count}, the worst {shown} here",
    "failures.kind": "check",
    "failures.where": "where",
    "failures.expected": "expected",
    "failures.found": "found",
    "failure.difference": "finite difference",
    "failure.recomputed": "computed again",
    "failure.replayed": "run again",
    "failure.identity": "identity",
    "identities.none": "There is no attention here, so no identity of attention to check.",
    "identities.where": "checked at {count|place|places}; worst error {worst}",
    "identity.softmax_rows_sum_to_zero": "Each row of ∂L/∂scores sums to 0",
    "identity.masked_are_zero": "Masked cells are exactly 0",
    "identity.inner_products_agree": "⟨Q, ∂Q⟩ = ⟨K, ∂K⟩ = ⟨scores, ∂scores⟩",
    "identity.values_sum_as_outputs": "The gradients of the values sum to those of the outputs",
    "identity.additive_sums_agree": "Queries and keys receive the same sum",
    "identity.tokens_mean_is_gradient": "The gradients of the single tokens' losses have the gradient as their mean",
    "identity.skip_passes_unchanged": "A residual connection passes the gradient unchanged",
    "identity.branches_add_up": "Past a sublayer plus through it is the gradient of what the layer below made",
    "identity.uses_sum_to_gradient": "The gradient of a parameter is the sum of its uses",
    "identity.tokens_mean_of_sentences": "In every sentence of the averages, the tokens' gradients have the loss's as their mean",
    "identity.shown_among_sentences": "The shown sentence has the same gradients among the averages as in its own views",
    "identity.averages_recomputed": "Averages, standard errors and quartiles, computed again sentence by sentence",
    "identity.shares_sum_to_one": "In every sentence the shares of the gradient sum to 1",
    "identity.frame_attention": "Over training, each step: attention's numbers are plain NumPy's",
    "identity.frame_ops": "Over training, each step: every op, forward and backward, is plain NumPy's",
    "identity.frame_uses": "Over training, each step: the gradient of a parameter is the sum of its uses",
    "identity.frame_losses": "Over training, each step: the losses of the tokens have the loss as their mean",
    "identity.frame_saturation": "Over training, each step: entropy, largest weight and spread follow from the scores",
    "model.class": "model",
    "model.run": "run",
    "model.seed": "seed",
    "model.commit": "commit",
    "model.parameters": "parameters",
    "model.dtype": "computed in",
    "model.float64": "{dtype}; the run itself is {trained}, so its last digits differ",
    "model.dropped": "Left out for size: {names}.",
    "model.more": "and {count} more"
  },
  "ko": {
    "title": "요약",
    "pair": "문장",
    "text": "텍스트",
    "read": "텍스트",
    "source": "소스",
    "target": "타깃(직접 준 것)",
    "target_greedy": "타깃: 모델의 번역",
    "translation": "모델의 번역",
    "same": "타깃과 같음",
    "differs": "타깃과 다름",
    "loss_words": "토큰별 −ln p의 평균이며, 모든 기울기는 이 수를 미분한 것입니다",
    "own": "모듈이 읽은 것",
    "inputs": "입력",
    "loss_own": "직접 정한 손실입니다. 모든 기울기는 이 숫자를 미분한 것입니다",
    "missing": "여기서 보여 줄 수 없는 것",
    "missing.tokens": "기호와 예측: 손실이 숫자 하나이므로 어느 기호의 것인지 알 수 없습니다. 행과 열에는 번호가 붙고, 인코더로 가는 경로도 없습니다.",
    "missing.batch": "배치의 나머지 항목: 첫 항목만 보입니다. 손실과 가중치의 기울기는 배치 전체에 대한 것입니다.",
    "missing.evaluation": "드롭아웃: 모듈은 평가 모드로 실행합니다.",
    "missing.outside": "PyTorch의 다른 연산: nn.MultiheadAttention마다 PyTorch의 입력과, PyTorch의 손실이 그 출력에 보내는 기울기를 받아 여기서 다시 계산합니다. 테이프에는 어텐션만 있고, 어텐션 사이에서 손실은 선형으로 봅니다.",
    "identity.torch_outputs": "어텐션마다 출력이 PyTorch와 같음",
    "identity.torch_gradients": "입력과 가중치의 기울기가 PyTorch와 같음",
    "identity.torch_differences": "출력을 움직이면 PyTorch의 손실이 기울기만큼 움직임",
    "tokens": "토큰별 손실",
    "tokens.of_text": "언어 모델은 앞의 기호들로 다음 기호를 예측합니다. 소스가 없으므로 인코더도, 소스를 보는 어텐션도 없습니다. 모든 어텐션은 이 텍스트에 대한 셀프 어텐션입니다.",
    "identities": "올바른 미분이라면 지켜지는 항등식",
    "model": "모델",
    "tokens.read": "입력",
    "tokens.expected": "타깃",
    "tokens.probability": "p",
    "tokens.loss": "손실 −ln p",
    "tokens.predicted": "확률이 높은 토큰",
    "badge.good": "모든 숫자가 맞습니다",
    "badge.bad": "틀린 기울기가 있습니다",
    "badge.not_finite": "유한하지 않아 검증할 수 없습니다",
    "badge.unresolved.rounding": "그 밖의 {count}개는 커도 {largest}인 기울기입니다. 손실 {loss} 자체가 {rounding}쯤 반올림되므로 차분으로는 보이지 않습니다. 그만큼 작다는 것만 알 수 있습니다.",
    "badge.unresolved.kink": "그 밖의 {count}개는 손실이 꺾이는 곳에 있습니다. 왼쪽과 오른쪽 미분이 달라서, 꺾인 곳을 건너는 차분은 아무것도 말해 주지 않습니다.",
    "badge.unresolved.curvature": "그 밖의 {count}개는 손실이 너무 급하게 휘는 곳에 있습니다. 어떤 간격도 너무 크거나 반올림에 묻힙니다.",
    "badge.unresolved.not_finite": "그 밖의 {count}개는 기울기나 손실이 유한하지 않아 비교할 것이 없습니다.",
    "badge.kink": "꺾인 곳: 연산 {call}, {module}의 {op}, 원소 {place}.",
    "badge.compared": "기울기 {count}개를 유한 차분과 비교했습니다. 가장 큰 오차 {worst}, 허용 {tolerance}",
    "badge.recomputed": "숫자 {count}개를 순수 NumPy로 다시 계산했습니다. 가장 큰 오차 {worst}, 허용 {tolerance}",
    "badge.replayed": "연산 {count}개의 순전파와 역전파를 다시 실행했습니다. 가장 큰 오차 {worst}",
    "badge.identities": "항등식 {count}개 중 {held}개 성립",
    "badge.unknown": "순수 NumPy 구현이 없어 다시 실행하지 않은 연산: {ops}.",
    "failures.title": "틀린 것 {count}개, 그중 가장 큰 {shown}개",
    "failures.kind": "검증",
    "failures.where": "위치",
    "failures.expected": "기대한 값",
    "failures.found": "나온 값",
    "failure.difference": "유한 차분",
    "failure.recomputed": "다시 계산",
    "failure.replayed": "다시 실행",
    "failure.identity": "항등식",
    "identities.none": "어텐션이 없으므로 확인할 어텐션 항등식도 없습니다.",
    "identities.where": "{count}곳에서 확인했습니다. 가장 큰 오차 {worst}",
    "identity.softmax_rows_sum_to_zero": "∂L/∂스코어의 각 행의 합은 0",
    "identity.masked_are_zero": "마스크된 칸은 정확히 0",
    "identity.inner_products_agree": "⟨Q, ∂Q⟩ = ⟨K, ∂K⟩ = ⟨스코어, ∂스코어⟩",
    "identity.values_sum_as_outputs": "값의 기울기의 합 = 출력의 기울기의 합",
    "identity.additive_sums_agree": "쿼리의 합 = 키의 합",
    "identity.tokens_mean_is_gradient": "토큰별 손실의 기울기를 평균하면 전체 기울기",
    "identity.skip_passes_unchanged": "잔차 연결은 기울기를 그대로 통과시킴",
    "identity.branches_add_up": "부분층을 비켜 간 것 + 지나간 것 = 아래층 출력의 기울기",
    "identity.uses_sum_to_gradient": "파라미터의 기울기 = 쓰인 곳마다의 기여를 더한 것",
    "identity.tokens_mean_of_sentences": "평균에 든 문장마다 토큰들의 기울기를 평균하면 손실의 기울기",
    "identity.shown_among_sentences": "이 문장의 기울기가 평균과 다른 화면에서 같음",
    "identity.averages_recomputed": "평균, 표준 오차, 사분위수를 문장마다 다시 계산한 것",
    "identity.shares_sum_to_one": "문장마다 기울기의 몫을 더하면 1",
    "identity.frame_attention": "학습 과정의 스텝마다: 어텐션의 숫자 = 순수 NumPy의 숫자",
    "identity.frame_ops": "학습 과정의 스텝마다: 모든 연산의 순전파와 역전파 = 순수 NumPy의 결과",
    "identity.frame_uses": "학습 과정의 스텝마다: 파라미터의 기울기 = 쓰인 곳마다의 기여를 더한 것",
    "identity.frame_losses": "학습 과정의 스텝마다: 토큰별 손실의 평균 = 손실",
    "identity.frame_saturation": "학습 과정의 스텝마다: 엔트로피, 최대 가중치, 퍼짐은 스코어에서 나온 것",
    "model.class": "모델",
    "model.run": "학습 결과",
    "model.seed": "시드",
    "model.commit": "커밋",
    "model.parameters": "파라미터 수",
    "model.dtype": "계산 정밀도",
    "model.float64": "{dtype} (학습한 모델은 {trained}이므로 끝자리가 다릅니다)",
    "model.dropped": "크기 때문에 뺀 것: {names}.",
    "model.more": "그 밖의 {count}개"
  }
};

const t = translator(words);
