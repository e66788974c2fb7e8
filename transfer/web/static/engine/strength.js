// A grey picture of one brushed character: how strong its ink is, and where the character sits. The same as transfer/inference/ink.py,
// step by step; what its numbers mean is said there. No DOM. Grey and ink are Float32Arrays in [0, 1], white 1, full ink 1.
import {otsu} from '../ink.js';

const ENVELOPE_SIDE = 128, SPECK = 0.006, GAP = 0.25, LONG = 1.7;
const f = Math.fround;

/** {ink, light}: the ink's strength, and whether it is lighter than its paper. */
export function findInk(grey, width, height) {
  const inverse = grey.map((v) => 1 - v);
  const dark = strengthOf(grey, paperOf(grey, width, height)), light = strengthOf(inverse, paperOf(inverse, width, height));
  const isLight = cover(light, width, height) < cover(dark, width, height);
  return {ink: contrast(isLight ? light : dark, width, height), light: isLight};
}

/** {box, count}: left, top, right, bottom of the character, and how many pieces of ink stand apart; null and 0 without ink. */
export function inkBox(ink, width, height) {
  let blobs = components(ink.map((v) => (v > 0.3 ? 1 : 0)), width, height);
  const all = blobs.reduce((sum, {area}) => sum + area, 0);
  blobs = blobs.filter(({area}) => area >= Math.max(SPECK * all, 1));
  if (!blobs.length) return {box: null, count: 0};
  const kept = blobs.filter((blob) => !ruled(blob.box, width, height));
  const total = (list) => list.reduce((sum, {area}) => sum + area, 0);
  if (kept.length < blobs.length && total(kept) > 0.2 * total(blobs)) blobs = kept;
  blobs = pieces(blobs, width, height);
  return {box: blobs.reduce((a, b) => (b.area > a.area ? b : a)).box, count: blobs.length};
}

function ruled([left, top, right, bottom], width, height) {
  const w = right - left, h = bottom - top;
  return (left <= 1 && right >= width - 1 && h < 0.06 * w) || (top <= 1 && bottom >= height - 1 && w < 0.06 * h);
}

/** Blobs that belong to one character are joined. */
function pieces(blobs, width, height) {
  blobs = blobs.map(({area, box}) => ({area, box: [...box]}));
  while (blobs.length > 1) {
    let best = null, least = Infinity;
    for (let i = 1; i < blobs.length; i++) {
      for (let j = 0; j < i; j++) {
        const gap = gapOf(blobs[i], blobs[j], width, height);
        if (gap < least) [best, least] = [[i, j], gap];
      }
    }
    if (!best) break;
    const [i, j] = best, a = blobs[i].box, b = blobs[j].box;
    blobs[j] = {area: blobs[i].area + blobs[j].area,
      box: [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])]};
    blobs.splice(i, 1);
  }
  return blobs;
}

/** Pixels between two blobs, Infinity where it separates two characters. */
function gapOf(one, other, width, height) {
  const [a, b] = [one.box, other.box];
  const gaps = [0, 1].map((k) => Math.max(0, Math.max(a[k], b[k]) - Math.min(a[k + 2], b[k + 2])));
  const gap = Math.max(...gaps), axis = gaps[1] > gaps[0] ? 1 : 0;
  const both = [0, 1].map((k) => Math.max(a[k + 2], b[k + 2]) - Math.min(a[k], b[k]));
  const along = both[axis], across = both[1 - axis];
  const cut = (box) => box[0] <= 0 || box[1] <= 0 || box[2] >= width || box[3] >= height;
  const [larger, smaller] = one.area >= other.area ? [a, b] : [b, a];
  const edge = cut(smaller) && !cut(larger);
  const share = along > LONG * across || edge ? GAP / 3 : along > 1.25 * across ? GAP : 2.5 * GAP;
  return gap <= share * Math.max(larger[2] - larger[0], larger[3] - larger[1]) ? gap : Infinity;
}

/** The 8-connected blobs of a mask, {area, box}, in the order of their first run from the top. */
export function components(mask, width, height) {
  const runs = [], parent = [];
  const root = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  let above = [0, 0];
  for (let y = 0; y < height; y++) {
    const begin = runs.length;
    for (let x = 0, at = y * width; x < width; x++) {
      if (!mask[at + x]) continue;
      const start = x;
      while (x < width && mask[at + x]) x++;
      parent.push(runs.length);
      runs.push([y, start, x]);
    }
    let [i, last] = above, j = begin;
    while (i < last && j < runs.length) {
      if (runs[j][1] <= runs[i][2] && runs[i][1] <= runs[j][2]) {
        const a = root(i), b = root(j);
        parent[Math.max(a, b)] = Math.min(a, b);
      }
      if (runs[i][2] < runs[j][2]) i++;
      else j++;
    }
    above = [begin, runs.length];
  }
  const found = new Map();
  runs.forEach(([y, start, end], i) => {
    const kind = root(i), blob = found.get(kind);
    if (!blob) return found.set(kind, {area: end - start, box: [start, y, end, y + 1]});
    blob.area += end - start;
    const {box} = blob;
    box[0] = Math.min(box[0], start);
    box[2] = Math.max(box[2], end);
    box[3] = Math.max(box[3], y + 1);
  });
  return [...found.entries()].sort(([a], [b]) => a - b).map(([, blob]) => blob);
}

/** Otsu's threshold of values in [0, 1], with 256 bins. */
function threshold(values) {
  const counts = new Float64Array(256);
  for (const v of values) if (v >= 0 && v <= 1) counts[Math.min(255, Math.floor(256 * v))]++;
  return otsu(counts) / 256;
}

/** The paper's own brightness under the ink. */
function paperOf(grey, width, height) {
  const step = Math.max(1, Math.ceil(Math.max(width, height) / ENVELOPE_SIDE));
  const w = Math.ceil(width / step), h = Math.ceil(height / step);
  const small = new Float32Array(w * h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      let sum = 0;
      for (let v = y * step; v < (y + 1) * step; v++) {
        for (let u = x * step; u < (x + 1) * step; u++) sum += grey[Math.min(v, height - 1) * width + Math.min(u, width - 1)];
      }
      small[y * w + x] = sum / step ** 2;
    }
  }
  const window = Math.max(3, Math.floor(Math.max(w, h) / 4)) | 1, soft = Math.max(3, Math.floor(window / 4)) | 1;
  let envelope = windowed(windowed(small, w, h, window, Math.max), w, h, window, Math.min);
  for (let i = 0; i < 2; i++) envelope = windowed(envelope, w, h, soft, null);
  const out = new Float32Array(width * height);
  const place = (i, most) => {
    const at = Math.min(Math.max((i + 0.5) / step - 0.5, 0), most - 1), low = Math.floor(at);
    return [low, Math.min(low + 1, most - 1), f(at - low)];
  };
  const columns = Array.from({length: width}, (_, x) => place(x, w)), line = new Float32Array(w);
  for (let y = 0; y < height; y++) {
    const [y0, y1, fy] = place(y, h);
    for (let x = 0; x < w; x++) line[x] = f(f(envelope[y0 * w + x] * f(1 - fy)) + f(envelope[y1 * w + x] * fy));
    for (let x = 0; x < width; x++) {
      const [x0, x1, fx] = columns[x];
      out[y * width + x] = f(line[x0] * f(1 - fx)) + f(line[x1] * fx);
    }
  }
  return out;
}

/** Largest, smallest or (pick null) mean value in windows of `size`, edges repeated, down and then across. */
function windowed(image, w, h, size, pick) {
  const half = size >> 1, clamp = (i, n) => (i < 0 ? 0 : i >= n ? n - 1 : i);
  const along = (source, lines, length, step, stride) => {
    const out = new Float32Array(source.length);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < length; i++) {
        let value = pick ? source[line * stride + clamp(i - half, length) * step] : 0;
        for (let j = i - half; j <= i + half; j++) {
          const other = source[line * stride + clamp(j, length) * step];
          value = pick ? pick(value, other) : value + other;
        }
        out[line * stride + i * step] = pick ? value : value / size;
      }
    }
    return out;
  };
  return along(along(image, w, h, w, 1), h, w, 1, w);
}

function strengthOf(grey, paper) {
  return grey.map((v, i) => Math.min(1, Math.max(0, f(1 - f(v / Math.max(paper[i], 1 / 16))))));
}

function cover(strength, width, height) {
  const cut = threshold(strength);
  let ink = 0, border = 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!(strength[at] > cut)) continue;
      ink++;
      border += (y === 0) + (y === height - 1) + (x === 0) + (x === width - 1);
    }
  }
  return ink / (width * height) + border / (2 * (width + height));
}

/** The strength stretched so that paper with its grain is 0 and ink is 1. */
function contrast(strength, width, height) {
  const cut = threshold(strength), none = new Float32Array(strength.length);
  const inside = strength.filter((v) => v > cut), outside = strength.filter((v) => !(v > cut));
  if (!inside.length || !outside.length) return none;
  const paper = median(outside), ink = median(inside);
  const grain = 1.4826 * median(outside.map((v) => Math.abs(f(v - paper))));
  const steps = new Float32Array(strength.length);
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 1, at = y * width + 1; x < width; x++, at++) {
      if (!(strength[at] > cut) && !(strength[at - 1] > cut)) steps[count++] = Math.abs(f(strength[at] - strength[at - 1]));
    }
  }
  const rough = count ? 1.4826 * median(steps.slice(0, count)) / Math.SQRT2 : 0;
  if (ink - paper < Math.max(0.06, 4 * rough, 2.2 * grain)) return none;
  const stain = quantile(outside, 0.85) - paper;
  const low = f(paper + Math.min(Math.max(0.15 * (ink - paper), 2 * grain, stain), 0.5 * (ink - paper)));
  const high = f(ink - 0.05 * (ink - paper));
  return strength.map((v) => Math.min(1, Math.max(0, f(f(v - low) / f(high - low)))));
}

function median(values) {
  return f(quantile(values, 0.5));
}

/** By order of size, with what lies between two values; changes the order of `values`. */
function quantile(values, share) {
  const at = share * (values.length - 1), low = Math.floor(at);
  const a = nth(values, low);
  if (low === at) return a;
  let b = Infinity; // the least of what stands above it
  for (let i = low + 1; i < values.length; i++) if (values[i] < b) b = values[i];
  return a + (b - a) * (at - low);
}

/** Hoare's selection: the value that stands at place k once they are sorted; what is before it is no larger. */
function nth(values, k) {
  let left = 0, right = values.length - 1;
  while (left < right) {
    const pivot = values[k];
    let i = left, j = right;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (pivot < values[j]) j--;
      if (i <= j) {
        const kept = values[i];
        values[i++] = values[j];
        values[j--] = kept;
      }
    }
    if (j < k) left = i;
    if (k < i) right = j;
  }
  return values[k];
}
