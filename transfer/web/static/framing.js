// A click on a page -> the frame of the character there. No DOM: runs under node and in workers as well.
//
// A frame is good where its sides cut little ink, where it is as large as characters are nearby, and where the click is near its middle.
// All frames around the click are compared by that, on a coarse grid; the ink that belongs to the best is then taken piece by piece.
import {otsu} from './ink.js';

const STEPS = 12; // places that each side of a frame is tried at first
const REACH = 6; // how many characters far is looked for neighbours
const LEAST = 40, MOST = 150; // thresholds of ink, of 255
const SPECK = 0.006; // pieces with less than this share of a frame's ink are no part of the character
const NEAREST = 24; // pieces of ink that the size of characters is first taken from
const THIN = 0.1, JOINED = 3, SHARE = 0.7; // see `sizeOf`
const CUT = 3.2, SIZE = 1.0, CENTRE = 2.6, ASPECT = 0.25, MISSED = 1.2; // what weighs how much

/**
 * page: {width, height, ink} as of `readInk`; x, y: the click, in its pixels; size: the longer side of a character, where it is known.
 * Returns {left, top, right, bottom, size}, right and bottom exclusive, size of characters nearby; null where there is no ink.
 */
export function frame(page, x, y, size = characterSize(page)) {
  if (!size) return null;
  // The size nearby is found in two rounds: what lies nearest, then its surroundings. That of the whole page is also of its pictures.
  let near = cutOut(page, x, y, REACH * size), parts = pieces(near);
  size = sizeOf(nearest(parts, x - near.left, y - near.top, near), near, () => 1) || size;
  near = cutOut(page, x, y, REACH * size);
  parts = pieces(near);
  size = sizeNear(parts, x - near.left, y - near.top, size);
  near = cutOut(page, x, y, REACH * size);
  return best(near, pieces(near), x - near.left, y - near.top, size);
}

/** The longer side of most characters of a page, in its pixels; 0 where there is no ink. */
export function characterSize(page) {
  const parts = pieces({...page, left: 0, top: 0, cut: threshold(page.ink)});
  return sizeOf(parts, page, () => 1);
}

function threshold(ink) {
  const counts = new Array(256).fill(0);
  for (const v of ink) counts[v]++;
  return Math.min(MOST, Math.max(LEAST, otsu(counts)));
}

/** The part of a page around x, y: {left, top, width, height, ink, cut}. */
function cutOut(page, x, y, reach) {
  const left = Math.max(0, Math.floor(x - reach)), top = Math.max(0, Math.floor(y - reach));
  const right = Math.min(page.width, Math.ceil(x + reach)), bottom = Math.min(page.height, Math.ceil(y + reach));
  const width = right - left, height = bottom - top, ink = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = (top + row) * page.width + left;
    ink.set(page.ink.subarray(from, from + width), row * width);
  }
  return {left, top, width, height, ink, cut: threshold(ink)};
}

/** 8-connected pieces of ink: {labels (int32, 0 none, piece k has k + 1), boxes: [{left, top, right, bottom, area}]}. */
export function pieces({width, height, ink, cut}) {
  const labels = new Int32Array(width * height), parent = [0];
  const root = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (ink[at] < cut) continue;
      let label = x ? labels[at - 1] : 0;
      for (let u = y ? Math.max(0, x - 1) : 9e9; u <= Math.min(width - 1, x + 1); u++) {
        const above = labels[at - width + u - x];
        if (!above) continue;
        if (!label) label = above;
        else {
          const a = root(label), b = root(above);
          if (a !== b) parent[Math.max(a, b)] = Math.min(a, b);
        }
      }
      if (!label) parent.push(label = parent.length);
      labels[at] = label;
    }
  }
  const number = new Int32Array(parent.length), boxes = [];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!labels[at]) continue;
      const top = root(labels[at]);
      if (!number[top]) number[top] = boxes.push({left: x, top: y, right: x + 1, bottom: y + 1, area: 0});
      const box = boxes[(labels[at] = number[top]) - 1];
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
      box.bottom = y + 1;
      box.area++;
    }
  }
  return {labels, boxes};
}

const likely = (box, most) => box.area >= 12 && Math.max(widthOf(box), heightOf(box)) <= most && box.area >= THIN * widthOf(box) * heightOf(box);
const widthOf = (box) => box.right - box.left, heightOf = (box) => box.bottom - box.top;

/**
 * The size of characters, by the pieces of ink: most of the ink (as weighed) lies in pieces whose shorter side is smaller. Joined
 * characters are long, but no wider. Lines ruled or drawn are left out: there is little ink in their boxes.
 */
function sizeOf({boxes}, {width, height}, weight) {
  const most = Math.max(width, height) / 5, found = [];
  for (const box of boxes) {
    if (!likely(box, most)) continue;
    const w = widthOf(box), h = heightOf(box);
    found.push({side: Math.max(Math.min(w, h), Math.max(w, h) / JOINED), weight: Math.sqrt(box.area * w * h) * weight(box)});
  }
  found.sort((a, b) => a.side - b.side);
  const enough = found.reduce((sum, one) => sum + one.weight, 0) * SHARE;
  let seen = 0;
  for (const one of found) if ((seen += one.weight) >= enough && enough) return one.side * 1.1;
  return 0;
}

const away = (box, x, y) => Math.hypot(Math.max(box.left - x, x - box.right, 0), Math.max(box.top - y, y - box.bottom, 0));

/** The NEAREST pieces to a point that may be of characters. */
function nearest({boxes}, x, y, {width, height}) {
  const most = Math.max(width, height) / 5;
  return {boxes: boxes.filter((box) => likely(box, most)).map((box) => [away(box, x, y), box]).sort((a, b) => a[0] - b[0])
    .slice(0, NEAREST).map(([, box]) => box)};
}

function sizeNear(parts, x, y, size) {
  const weight = (box) => Math.exp(-((away(box, x, y) / (2 * size)) ** 2) / 2);
  return sizeOf(parts, {width: 5 * 4 * size, height: 0}, weight) || size;
}

/** Sums over all above and left, one longer a side. */
function integral(width, height, value) {
  const sums = new Int32Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      row += value(y * width + x);
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
    }
  }
  return sums;
}

function best(near, parts, x, y, size) {
  const {width, height, ink, cut} = near;
  const sums = integral(width, height, (at) => (ink[at] >= cut ? 1 : 0)), line = width + 1;
  const inked = (left, top, right, bottom) => sums[bottom * line + right] - sums[top * line + right]
    - sums[bottom * line + left] + sums[top * line + left];
  const rim = Math.max(1, Math.round(size / 24));
  const within = (v, most) => Math.min(Math.max(Math.round(v), 0), most);
  const costOf = (l, t, r, b) => {
    const w = r - l, h = b - t;
    if (Math.max(w, h) > 1.5 * size || Math.min(w, h) < 0.3 * size) return Infinity;
    const left = within(x + l, width), right = within(x + r, width), top = within(y + t, height), bottom = within(y + b, height);
    const sides = inked(within(left - rim, width), top, within(left + rim, width), bottom)
      + inked(within(right - rim, width), top, within(right + rim, width), bottom)
      + inked(left, within(top - rim, height), right, within(top + rim, height))
      + inked(left, within(bottom - rim, height), right, within(bottom + rim, height));
    const long = Math.log(Math.max(w, h) / size), aspect = Math.log(w / h);
    return CUT * sides / (2 * rim * size) + SIZE * long * long + ASPECT * aspect * aspect
      + CENTRE * ((l + r) ** 2 + (t + b) ** 2) / 4 / size ** 2
      - MISSED * Math.min(1, inked(left, top, right, bottom) / (0.22 * size * size));
  };
  const places = Array.from({length: STEPS}, (_, i) => (0.12 + 0.75 * i / (STEPS - 1)) * size);
  let step = places[1] - places[0], least = Infinity, at = null;
  const look = (l, t, r, b) => {
    const cost = costOf(l, t, r, b);
    if (cost < least) [least, at] = [cost, [l, t, r, b]];
  };
  for (const l of places) for (const r of places) for (const t of places) for (const b of places) look(-l, -t, r, b);
  for (step /= 2; step >= size / 100 && at; step /= 2) {
    const [l, t, r, b] = at;
    for (let i = 0; i < 81; i++) {
      const way = (n) => (Math.floor(i / 3 ** n) % 3 - 1) * step;
      look(l + way(0), t + way(1), r + way(2), b + way(3));
    }
  }
  if (!at) return null;
  const [l, t, r, b] = at;
  const box = gathered(near, parts, {left: x + l, top: y + t, right: x + r, bottom: y + b}, size);
  return box && {left: box.left + near.left, top: box.top + near.top, right: box.right + near.left, bottom: box.bottom + near.top, size};
}

/** The box of the ink that belongs to a frame: pieces that lie in it for the most part, and of others what is inside. */
function gathered({width, height}, {labels, boxes}, at, size) {
  const clamp = (v, most) => Math.min(Math.max(Math.round(v), 0), most);
  const left = clamp(at.left, width), right = clamp(at.right, width), top = clamp(at.top, height), bottom = clamp(at.bottom, height);
  const inside = new Map();
  for (let v = top; v < bottom; v++) {
    for (let u = left; u < right; u++) {
      const label = labels[v * width + u];
      if (!label) continue;
      const seen = inside.get(label) ?? {left: u, top: v, right: u + 1, bottom: v + 1, area: 0};
      inside.set(label, {left: Math.min(seen.left, u), top: Math.min(seen.top, v), right: Math.max(seen.right, u + 1),
        bottom: Math.max(seen.bottom, v + 1), area: seen.area + 1});
    }
  }
  const all = [...inside.values()].reduce((sum, part) => sum + part.area, 0);
  const kept = [];
  for (const [label, part] of inside) {
    const whole = boxes[label - 1];
    if (part.area < SPECK * all) continue;
    const share = part.area / whole.area;
    const over = Math.max(left - whole.left, whole.right - right, top - whole.top, whole.bottom - bottom, 0);
    if (share < 0.5 && part.area < 0.25 * all) continue; // a neighbour's
    kept.push(share > 0.6 && over < 0.3 * size ? whole : part);
  }
  if (!kept.length) return null;
  return {left: Math.min(...kept.map((b) => b.left)), top: Math.min(...kept.map((b) => b.top)),
    right: Math.max(...kept.map((b) => b.right)), bottom: Math.max(...kept.map((b) => b.bottom))};
}
