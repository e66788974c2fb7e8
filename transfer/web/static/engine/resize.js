// Pictures made smaller as Pillow does it, to the last digit where it counts: one channel at a time. No DOM.

const FILTERS = {
  box: {support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)},
  bicubic: {
    support: 2,
    at(x) {
      const a = -0.5, v = Math.abs(x);
      if (v < 1) return ((a + 2) * v - (a + 3)) * v * v + 1;
      return v < 2 ? (((v - 5) * v + 8) * v - 4) * a : 0;
    },
  },
};

/** Halves go to the even number, as in Python. */
export function roundEven(x) {
  const down = Math.floor(x), rest = x - down;
  return rest < 0.5 || (rest === 0.5 && down % 2 === 0) ? down : down + 1;
}

/** Of each of `size` places the first one that it is made of, and the shares of that and the next ones. */
function shares(from, to, size, length, {support, at}) {
  const scale = (to - from) / size, stretch = Math.max(scale, 1), reach = support * stretch;
  return Array.from({length: size}, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), end = Math.min(length, Math.trunc(centre + reach + 0.5));
    const parts = new Float64Array(end - first);
    let sum = 0;
    for (let i = 0; i < parts.length; i++) sum += parts[i] = at((i + first - centre + 0.5) / stretch);
    if (sum) for (let i = 0; i < parts.length; i++) parts[i] /= sum;
    return {first, parts};
  });
}

/**
 * channel: {width, height, data}, data bytes or float32, which it stays. size: [width, height]; box: left, top, right, bottom of what is
 * resized, in pixels, whole or not.
 */
export function resize({width, height, data}, size, filter, box = [0, 0, width, height]) {
  const bytes = data instanceof Uint8Array, out = (n) => (bytes ? new Uint8Array(n) : new Float32Array(n));
  const kept = bytes ? (v) => (v <= 0 ? 0 : v >= 255 ? 255 : Math.floor(v + 0.5)) : (v) => v;
  const [left, top, right, bottom] = box, [w, h] = size;
  let wide = data;
  if (w !== width || left !== 0 || right !== width) {
    wide = out(w * height);
    shares(left, right, w, width, FILTERS[filter]).forEach(({first, parts}, x) => {
      for (let y = 0, at = first; y < height; y++, at += width) {
        let sum = 0;
        for (let i = 0; i < parts.length; i++) sum += data[at + i] * parts[i];
        wide[y * w + x] = kept(sum);
      }
    });
  }
  if (h === height && top === 0 && bottom === height) return {width: w, height: h, data: wide};
  const made = out(w * h), row = new Float64Array(w);
  shares(top, bottom, h, height, FILTERS[filter]).forEach(({first, parts}, y) => {
    row.fill(0);
    for (let i = 0; i < parts.length; i++) {
      const share = parts[i];
      for (let x = 0, at = (first + i) * w; x < w; x++, at++) row[x] += wide[at] * share;
    }
    for (let x = 0; x < w; x++) made[y * w + x] = kept(row[x]);
  });
  return {width: w, height: h, data: made};
}

/** Bytes of a strip averaged over blocks of `across` by `down`; those at the right and at the bottom may be smaller. */
export function reduce({width, height, data}, across, down) {
  if (across === 1 && down === 1) return {width, height, data};
  const w = Math.ceil(width / across), h = Math.ceil(height / down), made = new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    const end = Math.min(height, (y + 1) * down);
    for (let x = 0; x < w; x++) {
      const stop = Math.min(width, (x + 1) * across);
      let sum = 0;
      for (let v = y * down; v < end; v++) for (let u = x * across; u < stop; u++) sum += data[v * width + u];
      const count = (end - y * down) * (stop - x * across);
      made[y * w + x] = Math.floor((sum + (count >> 1)) / count);
    }
  }
  return {width: w, height: h, data: made};
}
