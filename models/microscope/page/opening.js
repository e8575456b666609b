// What a page opens with: the prediction with the largest loss, and where its gradient is largest in the last attention.

// The place of the largest number; 0 where there is none. A number that is not finite is written as a text in JSON.
export function largestOf(numbers) {
  return numbers.reduce((best, x, i) => (Number.isFinite(x) && !(x <= numbers[best]) ? i : best), 0);
}

// { site, head, step, key } of these data: of the last attention the head and the key whose score has the largest gradient.
export function opening(all) {
  const step = largestOf(all.tokens.map(({ loss }) => loss));
  const site = all.sites.at(-1);
  const found = { site: site?.id ?? "", head: 0, step, key: 0 };
  const numbers = site && (site.tensors.scores.gradient ?? site.tensors.weights.value);
  if (!numbers || step >= site.queries.length) return found;
  const sizes = Array.from({ length: site.heads }, (_, head) => site.keys.map((__, j) => Math.abs(numbers.at(head, step, j))));
  const head = largestOf(sizes.map((row) => row[largestOf(row)]));
  return { ...found, head, key: largestOf(sizes[head]) };
}
