// How the ink of a 64x64 image lies, in the 24 numbers of transfer/inference/acceptance.py (`ink_numbers`). No DOM.
import {components} from './strength.js';

const N = 64;

/** image: 4,096 bytes, ink 255. */
export function inkNumbers(image) {
  const ink = Float32Array.from(image, (v) => v / 255), mask = Uint8Array.from(ink, (v) => v > 0.5);
  const sum = (values) => values.reduce((a, b) => a + b, 0), mean = (values) => sum(values) / values.length;
  const area = Math.max(sum(mask), 1), blobs = components(mask, N, N);
  let outline = 0, border = 0, grey = 0;
  for (let y = 0; y < N; y++) {
    for (let x = 0; x < N; x++) {
      const at = y * N + x;
      if (y && mask[at] !== mask[at - N]) outline++;
      if (x && mask[at] !== mask[at - 1]) outline++;
      if (mask[at]) border += (y === 0) + (y === N - 1) + (x === 0) + (x === N - 1);
      if (ink[at] > Math.fround(0.1) && ink[at] < Math.fround(0.9)) grey++;
    }
  }
  outline = Math.max(outline, 1);
  const xs = [], ys = [];
  mask.forEach((v, at) => v && (xs.push(at % N), ys.push(Math.floor(at / N))));
  if (!xs.length) xs.push(0), ys.push(0);
  const depth = distances(mask), ridge = xs.length > 1 || mask.some((v) => v) ? [...depth].filter((d, at) => d > 0 && d >= around(depth, at)) : [0];
  const deviation = (values) => {
    const middle = mean(values);
    return Math.sqrt(mean(values.map((v) => (v - middle) ** 2)));
  };
  const {share, total, cos, sin} = directions(blurred(ink));
  return Float32Array.from([
    mean(ink), mean(mask), grey / N ** 2, grey / outline, Math.log1p(blobs.length), Math.log1p(holes(mask)),
    Math.max(0, ...blobs.map((blob) => blob.area)) / area, 2 * area / outline, Math.log(outline),
    mean(ridge), deviation(ridge), Math.max(...ridge),
    (Math.max(...ys) - Math.min(...ys)) / 63, (Math.max(...xs) - Math.min(...xs)) / 63,
    cos / total, sin / total, Math.max(...share), -sum(share.map((v) => v * Math.log(v + 1e-9))), border / (4 * N),
    deviation(xs) / 16, deviation(ys) / 16, (mean(xs) - 31.5) / 16, (mean(ys) - 31.5) / 16, sum(depth) / area,
  ]);
}

/** Pieces of paper, joined by sides alone. */
function holes(mask) {
  const seen = Uint8Array.from(mask), stack = [];
  const visit = (at) => {
    if (seen[at]) return;
    seen[at] = 1;
    stack.push(at);
  };
  let count = 0;
  for (let from = 0; from < N * N; from++) {
    if (seen[from]) continue;
    count++;
    visit(from);
    while (stack.length) {
      const at = stack.pop(), x = at % N;
      if (x > 0) visit(at - 1);
      if (x < N - 1) visit(at + 1);
      if (at >= N) visit(at - N);
      if (at < N * (N - 1)) visit(at + N);
    }
  }
  return count;
}

/** From each pixel of ink to the nearest one of paper. */
function distances(mask) {
  const columns = new Float64Array(N * N);
  for (let x = 0; x < N; x++) {
    for (let y = 0; y < N; y++) {
      let least = Infinity;
      for (let v = 0; v < N; v++) if (!mask[v * N + x]) least = Math.min(least, (v - y) ** 2);
      columns[y * N + x] = least;
    }
  }
  return Float64Array.from(mask, (inside, at) => {
    if (!inside) return 0;
    const x = at % N, row = at - x;
    let least = Infinity;
    for (let u = 0; u < N; u++) least = Math.min(least, columns[row + u] + (u - x) ** 2);
    return Number.isFinite(least) ? Math.sqrt(least) : 0;
  });
}

function around(values, at) {
  const x = at % N, y = Math.floor(at / N);
  let most = 0;
  for (let v = Math.max(0, y - 1); v <= Math.min(N - 1, y + 1); v++) {
    for (let u = Math.max(0, x - 1); u <= Math.min(N - 1, x + 1); u++) most = Math.max(most, values[v * N + u]);
  }
  return most;
}

/** A Gaussian of deviation 1, edges mirrored. */
function blurred(ink) {
  const weights = Array.from({length: 9}, (_, i) => Math.exp(-((i - 4) ** 2) / 2)), total = weights.reduce((a, b) => a + b, 0);
  const mirror = (i) => (i < 0 ? -1 - i : i >= N ? 2 * N - 1 - i : i);
  const along = (source, step, stride) => {
    const out = new Float32Array(N * N);
    for (let line = 0; line < N; line++) {
      for (let i = 0; i < N; i++) {
        let value = 0;
        for (let k = -4; k <= 4; k++) value += weights[k + 4] / total * source[line * stride + mirror(i + k) * step];
        out[line * stride + i * step] = value;
      }
    }
    return out;
  };
  return along(along(ink, N, 1), 1, N);
}

/** Of the slopes: their shares of eight directions, their sum, and the sums of cosine and sine of twice the direction. */
function directions(ink) {
  const bins = new Float64Array(8);
  let total = 1e-6, cos = 0, sin = 0;
  const slope = (at, i, step) => (i === 0 ? ink[at + step] - ink[at] : i === N - 1 ? ink[at] - ink[at - step] : (ink[at + step] - ink[at - step]) / 2);
  for (let at = 0; at < N * N; at++) {
    const x = at % N, y = Math.floor(at / N), down = slope(at, y, N), right = slope(at, x, 1);
    const size = Math.hypot(down, right), twice = 2 * Math.atan2(down, right), turn = 2 * Math.PI;
    total += size;
    cos += size * Math.cos(twice);
    sin += size * Math.sin(twice);
    bins[Math.floor((((twice % turn) + turn) % turn) / turn * 8) % 8] += size;
  }
  return {share: Array.from(bins, (v) => v / total), total, cos, sin};
}
