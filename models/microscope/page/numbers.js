// Numbers as text. `full` loses nothing: reading it back gives the same float64.

export function full(x) {
  if (Number.isNaN(x)) return "NaN";
  if (x === Infinity) return "∞";
  if (x === -Infinity) return "−∞";
  return sign(Object.is(x, -0) ? "-0" : String(x));
}

// A few digits, for cells and bars.
export function short(x) {
  if (!Number.isFinite(x)) return full(x);
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return sign(x.toExponential(0)).replace("e+", "e");
  if (size >= 100) return sign(x.toFixed(0));
  if (size >= 10) return sign(x.toFixed(1));
  return sign(x.toFixed(size < 0.1 ? 3 : 2));
}

// Six significant digits, with a plus where it isn't negative: for a number that stands alone.
export function signed(x) {
  return (x > 0 ? "+" : "") + rounded(x);
}

export function rounded(x) {
  if (!Number.isFinite(x) || x === 0) return full(x);
  const size = Math.abs(x);
  return sign(size >= 1e6 || size < 1e-4 ? x.toExponential(4) : String(Number(x.toPrecision(6))));
}

export function percent(x) {
  if (!Number.isFinite(x)) return full(x);
  const digits = (100 * x).toFixed(1);
  return `${Number(digits) === 0 ? "0.0" : sign(digits)} %`;
}

// For code, which knows no typographic minus.
export function literal(x) {
  if (Number.isNaN(x)) return "np.nan";
  if (!Number.isFinite(x)) return x > 0 ? "np.inf" : "-np.inf";
  return Object.is(x, -0) ? "-0.0" : String(x);
}

function sign(text) {
  return text.replaceAll("-", "−");
}
