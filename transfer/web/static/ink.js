// Ink on paper: how much of it there is at each pixel, without what is coloured (seals, ruled frames). No DOM: runs under node and in
// workers as well. A raster is {width, height, data: RGBA bytes}, as ImageData is.

const BLOCKS = 256; // blocks along the longer side in which the paper's own colour is estimated
const WINDOW = 9; // blocks: wider than any stroke, narrower than stains
const SPREAD = 0.2; // how far red, green and blue lie apart in a colour, of 1
const INK = 0.6, COLOUR = 0.4; // the least absorbed share of red, green and blue over the most: above is ink, below is colour
const BRIDGE = 10; // pixels: as far a stroke is followed under a coloured line

/**
 * {width, height, ink, coloured, light}: ink (uint8, 255 full) is what absorbs red, green and blue alike; coloured (uint8, 0 or 1) is
 * where a colour was taken out. Light ink on dark paper is seen as well: `light` says so.
 */
export function readInk(raster, {colour = 'out'} = {}) {
  const {width, height} = raster;
  const light = isLight(raster);
  const data = light ? raster.data.map((v, at) => ((at & 3) === 3 ? v : 255 - v)) : raster.data;
  const paper = paperOf({width, height, data});
  const ink = new Uint8Array(width * height), coloured = new Uint8Array(width * height);
  const out = colour === 'out';
  let some = false;
  for (let y = 0, at = 0; y < height; y++) {
    const [pr, pg, pb] = paper(y);
    for (let x = 0; x < width; x++, at++) {
      const r = data[4 * at], g = data[4 * at + 1], b = data[4 * at + 2];
      const sr = r / pr[x], sg = g / pg[x], sb = b / pb[x];
      let absorbed = 1 - (0.299 * r + 0.587 * g + 0.114 * b) / (0.299 * pr[x] + 0.587 * pg[x] + 0.114 * pb[x]);
      if (out) {
        // Ink, brown ink too, takes much of every colour; what lets one of them pass is no ink.
        const most = Math.max(sr, sg, sb), least = Math.min(sr, sg, sb);
        const spread = Math.min(most - least, (Math.max(r, g, b) - Math.min(r, g, b)) / 255);
        if (spread > SPREAD / 2) {
          const share = Math.min(1, 2 * spread / SPREAD - 1) * Math.min(1, Math.max(0, (INK - (1 - most) / (1 - least)) / (INK - COLOUR)));
          absorbed += share * (1 - most - absorbed);
          if (share === 1) coloured[at] = 1, some = true;
        }
      }
      ink[at] = absorbed <= 0 ? 0 : absorbed >= 1 ? 255 : 255 * absorbed;
    }
  }
  return {width, height, ink, coloured: some ? takeOut(ink, coloured, width, height) : coloured, light};
}

/** The picture without what is coloured: ink in its grey on white paper, as a raster. */
export function cleaned(raster) {
  return shown(readInk(raster));
}

/** Ink (see `readInk`) in grey on white, as a raster. */
export function shown({width, height, ink}) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < ink.length; at++) {
    data[4 * at] = data[4 * at + 1] = data[4 * at + 2] = 255 - ink[at];
    data[4 * at + 3] = 255;
  }
  return {width, height, data};
}

/** Otsu's threshold of a histogram of 256 counts: the first value of the upper side; of several that are as good, the middle. */
export function otsu(counts) {
  let total = 0, mass = 0;
  counts.forEach((n, v) => ((total += n), (mass += n * v)));
  const between = new Float64Array(256);
  let below = 0, sum = 0, most = 0;
  for (let v = 0; v < 256; v++) {
    below += counts[v];
    sum += v * counts[v];
    const above = total - below;
    if (below && above) between[v] = below * above * (sum / below - (mass - sum) / above) ** 2;
    most = Math.max(most, between[v]);
  }
  const good = (v) => v >= most * (1 - 1e-9);
  return (between.findIndex(good) + between.findLastIndex(good)) / 2 + 1;
}

// Ink covers less of a page than paper does.
function isLight({width, height, data}) {
  const counts = new Array(256).fill(0);
  const step = Math.max(1, Math.floor(Math.sqrt(width * height / 40000)));
  // The middle of the page: what lies around it is not looked at.
  for (let y = height >> 3; y < height - (height >> 3); y += step) {
    for (let x = width >> 3; x < width - (width >> 3); x += step) {
      const at = 4 * (y * width + x);
      counts[Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2])]++;
    }
  }
  const cut = Math.round(otsu(counts));
  let dark = 0, all = 0;
  counts.forEach((n, v) => {
    all += n;
    if (v < cut) dark += n;
  });
  const median = (share) => {
    let seen = 0;
    return counts.findIndex((n) => (seen += n) >= share * all);
  };
  return dark > 0.6 * all && median(0.5) < 110;
}

/** The paper's colour under the ink: a closing wider than any stroke, smoothed; (y) gives rows of red, green and blue, 16 to 255. */
function paperOf({width, height, data}) {
  const step = Math.max(1, Math.ceil(Math.max(width, height) / BLOCKS));
  const w = Math.ceil(width / step), h = Math.ceil(height / step);
  const window = Math.max(3, Math.min(WINDOW, Math.min(w, h) >> 2 | 1));
  const sums = [0, 1, 2].map(() => new Float32Array(w * h)), counts = new Float32Array(w * h);
  for (let y = 0, at = 0; y < height; y++) {
    const base = Math.floor(y / step) * w;
    for (let x = 0; x < width; x++, at += 4) {
      const block = base + Math.floor(x / step);
      counts[block]++;
      for (let c = 0; c < 3; c++) sums[c][block] += data[at + c];
    }
  }
  const means = sums.map((sum) => sum.map((v, i) => v / counts[i]));
  const bright = means[0].map((r, i) => 0.299 * r + 0.587 * means[1][i] + 0.114 * means[2][i]);
  // Blocks are chosen by brightness, all three colours at once: the blue of a ruled line is none of the paper's.
  const all = Uint32Array.from(bright, (_, i) => i);
  const chosen = picked(picked(all, bright, w, h, window, 1), bright, w, h, window, -1);
  const channels = means.map((mean) => {
    const blocks = Float32Array.from(chosen, (i) => mean[i]);
    return smooth(smooth(blocks, w, h), w, h);
  });
  const rows = channels.map(() => new Float32Array(width));
  return (y) => {
    const v = Math.min(Math.max((y + 0.5) / step - 0.5, 0), h - 1), y0 = Math.floor(v), y1 = Math.min(y0 + 1, h - 1), fy = v - y0;
    channels.forEach((blocks, c) => {
      const row = rows[c];
      for (let x = 0; x < width; x++) {
        const u = Math.min(Math.max((x + 0.5) / step - 0.5, 0), w - 1), x0 = u | 0, x1 = x0 + 1 < w ? x0 + 1 : x0, fx = u - x0;
        const above = blocks[y0 * w + x0] * (1 - fx) + blocks[y0 * w + x1] * fx;
        const below = blocks[y1 * w + x0] * (1 - fx) + blocks[y1 * w + x1] * fx;
        row[x] = Math.max(16, above * (1 - fy) + below * fy);
      }
    });
    return rows;
  };
}

/** Of each window of `size` blocks the one that is brightest (sign 1) or darkest (-1), as numbers of blocks. */
function picked(blocks, bright, w, h, size, sign) {
  const half = size >> 1;
  const along = (source, count, length, step, stride) => {
    const out = new Uint32Array(source.length);
    for (let line = 0; line < count; line++) {
      for (let i = 0; i < length; i++) {
        let best = source[line * stride + i * step];
        for (let j = Math.max(0, i - half); j <= Math.min(length - 1, i + half); j++) {
          const other = source[line * stride + j * step];
          if (sign * (bright[other] - bright[best]) > 0) best = other;
        }
        out[line * stride + i * step] = best;
      }
    }
    return out;
  };
  return along(along(blocks, h, w, 1, w), w, h, w, 1);
}

/** The mean of 3 x 3 blocks. */
function smooth(blocks, w, h) {
  return blocks.map((_, at) => {
    const y = Math.floor(at / w), x = at % w;
    let sum = 0, count = 0;
    for (let v = Math.max(0, y - 1); v <= Math.min(h - 1, y + 1); v++) {
      for (let u = Math.max(0, x - 1); u <= Math.min(w - 1, x + 1); u++, count++) sum += blocks[v * w + u];
    }
    return sum / count;
  });
}

/**
 * Ink at coloured pixels (and those beside them, whose colour is smeared by JPEG) is what strokes on both sides say: the most of the
 * lesser of two opposite neighbours that are not coloured. Changes `ink`; returns the widened mask.
 */
function takeOut(ink, coloured, width, height) {
  const out = new Uint8Array(coloured.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!coloured[y * width + x]) continue;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) out[v * width + u] = 1;
      }
    }
  }
  const bare = ink.slice();
  const look = (x, y, dx, dy) => {
    for (let i = 1; i <= BRIDGE; i++) {
      const u = x + i * dx, v = y + i * dy;
      if (u < 0 || v < 0 || u >= width || v >= height) return 0;
      if (!out[v * width + u]) return bare[v * width + u];
    }
    return 0;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!out[y * width + x]) continue;
      let most = 0;
      for (const [dx, dy] of [[1, 0], [0, 1], [1, 1], [1, -1]]) {
        most = Math.max(most, Math.min(look(x, y, dx, dy), look(x, y, -dx, -dy)));
      }
      ink[y * width + x] = Math.min(most, 255);
    }
  }
  return out;
}
