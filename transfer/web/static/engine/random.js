// JAX's random numbers, bit for bit (threefry2x32, arXiv 2011; jax_threefry_partitionable): the same seed draws the same strokes as in
// Python. A key is [high, low], two unsigned 32-bit integers.

const TURNS = [[13, 15, 26, 6], [17, 29, 16, 24]];

function threefry([k0, k1], x0, x1) {
  const keys = [k0 | 0, k1 | 0, (k0 ^ k1 ^ 0x1BD11BDA) | 0];
  x0 = (x0 + keys[0]) | 0;
  x1 = (x1 + keys[1]) | 0;
  for (let round = 0; round < 5; round++) {
    for (const turn of TURNS[round & 1]) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << turn) | (x1 >>> (32 - turn))) ^ x0;
    }
    x0 = (x0 + keys[(round + 1) % 3]) | 0;
    x1 = (x1 + keys[(round + 2) % 3] + round + 1) | 0;
  }
  return [x0 >>> 0, x1 >>> 0];
}

export const key = (seed) => [0, seed >>> 0];
export const foldIn = (from, data) => threefry(from, 0, data);
export const split = (from) => [threefry(from, 0, 0), threefry(from, 0, 1)];

/** `count` numbers from `low` up to 1, as float32 has them. */
function uniform(from, count, low) {
  const out = new Float32Array(count), range = Math.fround(1 - low);
  for (let i = 0; i < count; i++) {
    const [a, b] = threefry(from, 0, i);
    out[i] = Math.max(low, Math.fround(Math.fround(((a ^ b) >>> 9) / 2 ** 23 * range) + low));
  }
  return out;
}

const TINY = 2 ** -126;

/** The place that is drawn with log odds `logits`. */
export function categorical(from, logits) {
  const random = uniform(from, logits.length, TINY);
  let best = 0, most = -Infinity;
  logits.forEach((logit, i) => {
    if (logit === -Infinity) return;
    const value = logit - Math.log(-Math.log(random[i]));
    if (value > most) [best, most] = [i, value];
  });
  return best;
}

/** `count` draws of the standard normal distribution. */
export function normal(from, count) {
  return uniform(from, count, -1 + 2 ** -24).map((u) => Math.SQRT2 * inverseErf(u));
}

// M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2010), which XLA uses too.
const NEAR = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941];
const FAR = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682];

function inverseErf(x) {
  const w = -Math.log1p(-Math.fround(x * x)), near = w < 5, at = near ? w - 2.5 : Math.sqrt(w) - 3;
  return (near ? NEAR : FAR).reduce((sum, c) => sum * at + c, 0) * x;
}
