// Two scales that people with any colour vision read. From −x to x: blue below zero, orange above, paper at zero. From 0
// to 1, for shares: paper to teal. Mixed in OKLab, where equal steps look equal.

const SCALES = {
  light: { negative: [0x1f, 0x5f, 0xa8], zero: [0xf7, 0xf6, 0xf2], positive: [0xc2, 0x56, 0x08], share: [0x00, 0x5f, 0x56] },
  dark: { negative: [0x5a, 0xa9, 0xf5], zero: [0x23, 0x27, 0x2e], positive: [0xf3, 0x8d, 0x2c], share: [0x63, 0xd8, 0xc4] },
};
export const INK = { light: "#16181d", dark: "#f4f3ef" };
const NOT_A_NUMBER = { light: "#e9c9e6", dark: "#6d2f68" };

const steps = 128;
const toLinear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const fromLinear = (c) => Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * Math.max(c, 0) ** (1 / 2.4) - 0.055));
const SHARES = Object.fromEntries(Object.entries(SCALES).map(([theme, { zero, share }]) => [theme, makeRamp({ negative: zero, zero, positive: share })]));
const SIGNED = Object.fromEntries(Object.entries(SCALES).map(([theme, scale]) => [theme, makeRamp(scale)]));

// The colour of x, and the ink that can be read on it, where [low, high] are the ends of the scale: −x and x, or 0 and 1.
export function colour(x, [low, high], theme) {
  if (Number.isNaN(x)) return { fill: NOT_A_NUMBER[theme], ink: INK[theme] };
  const share = high > 0 ? Math.max(-1, Math.min(1, x / high)) : 0;
  return (low < 0 ? SIGNED : SHARES)[theme][Math.round((share + 1) * steps)];
}

function makeRamp({ negative, zero, positive }) {
  const [low, middle, high] = [negative, zero, positive].map(toLab);
  return Array.from({ length: 2 * steps + 1 }, (_, i) => {
    const share = i / steps - 1;
    const end = share < 0 ? low : high;
    const rgb = toRgb(middle.map((m, k) => m + (end[k] - m) * Math.abs(share)));
    return { fill: `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`, ink: luminance(rgb) > 0.179 ? "#000000" : "#ffffff" };
  });
}

function luminance(rgb) {
  const [r, g, b] = rgb.map(toLinear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Björn Ottosson's matrices, https://bottosson.github.io/posts/oklab/.
function toLab(rgb) {
  const [r, g, b] = rgb.map(toLinear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function toRgb([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((c) => Math.max(0, Math.min(255, fromLinear(c))));
}
