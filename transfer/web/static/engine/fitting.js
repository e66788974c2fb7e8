// The ink of strokes on coarse pages, and drawings fitted to pictures by it: the same as transfer/models/stroke_forms.py and
// stroke_fitting.py. No DOM. A drawing is a list of strokes, Float64Array of x, y, x, y, … in box units. `model` holds what
// stroke_settings.json says.

/** A stroke's points of its code, and back. */
export function decode({mean, axes, deviation}, code) {
  const scaled = deviation.map((d, i) => d * code[i]);
  return Float64Array.from(mean, (m, at) => {
    let sum = m;
    const row = axes[at];
    for (let i = 0; i < scaled.length; i++) sum += scaled[i] * row[i];
    return sum;
  });
}

export function encode({mean, axes, deviation}, points) {
  const code = new Float64Array(mean.length);
  for (let at = 0; at < mean.length; at++) {
    const off = points[at] - mean[at], row = axes[at];
    for (let i = 0; i < code.length; i++) code[i] += off * row[i];
  }
  return code.map((v, i) => v / deviation[i]);
}

/** Adds the ink of a stroke to a page of `grid` cells a side; `samples` points of each segment leave it. */
export function addInk(page, stroke, samples, grid, {box, ink_width: wide}) {
  const scale = grid / box;
  for (let at = 0; at + 3 < stroke.length; at += 2) {
    const [x0, y0, x1, y1] = [stroke[at], stroke[at + 1], stroke[at + 2], stroke[at + 3]];
    const amount = Math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2 + 1e-12) / samples * wide * scale ** 2;
    for (let i = 0; i < samples; i++) {
      const t = (i + 0.5) / samples, x = (x0 + t * (x1 - x0)) * scale - 0.5, y = (y0 + t * (y1 - y0)) * scale - 0.5;
      const left = Math.floor(x), top = Math.floor(y), right = x - left, below = y - top;
      for (const [v, u, share] of [[top, left, (1 - below) * (1 - right)], [top, left + 1, (1 - below) * right],
        [top + 1, left, below * (1 - right)], [top + 1, left + 1, below * right]]) {
        if (u >= 0 && v >= 0 && u < grid && v < grid) page[v * grid + u] += amount * share;
      }
    }
  }
}

/** Mean ink of each block of a 64x64 picture. */
export function coarse(picture, grid) {
  const block = 64 / grid, page = new Float64Array(grid * grid);
  picture.forEach((v, at) => (page[Math.floor((at >> 6) / block) * grid + Math.floor((at & 63) / block)] += v / block ** 2));
  return page;
}

/** Cosine between the ink of a drawing and of its picture, `page` of `canvas` cells a side. */
export function likeness(strokes, page, model) {
  const written = new Float64Array(model.canvas ** 2), samples = Math.ceil(22 / (model.points - 1));
  for (const stroke of strokes) addInk(written, stroke, samples, model.canvas, model);
  let both = 0, own = 0, theirs = 0;
  written.forEach((v, at) => {
    const ink = Math.min(v, 1);
    both += ink * page[at];
    own += ink * ink;
    theirs += page[at] ** 2;
  });
  return both / Math.sqrt(own * theirs + 1e-6);
}

/** The drawing, moved so that its ink is that of the picture. */
export function fit(strokes, page, model) {
  const codes = strokes.map((stroke) => encode(model, stroke)), width = codes[0].length;
  const target = blurred(page, model.canvas);
  const moved = codes.map(() => new Float64Array(width)), momentum = codes.map(() => new Float64Array(width));
  let longest = 0;
  for (let number = 0; number < model.fit_steps; number++) {
    const gradient = slope(codes.map((code, n) => code.map((v, i) => v + moved[n][i])), target, model);
    let square = 0;
    momentum.forEach((row, n) => row.forEach((v, i) => {
      row[i] = model.momentum * v + gradient[n][i] + 2 * model.stay * moved[n][i];
      square += row[i] ** 2;
    }));
    // By the steepest place met so far: steps as long as each other would end in swinging.
    longest = Math.max(longest, Math.sqrt(square / codes.length + 1e-12));
    const step = model.fit_rate * (1 - number / model.fit_steps) / longest;
    moved.forEach((row, n) => row.forEach((v, i) => (row[i] = v - step * momentum[n][i])));
  }
  return codes.map((code, n) => decode(model, code.map((v, i) => v + moved[n][i])));
}

/** Gradient in the codes of the squared difference between the drawing's ink and the page, as a share of the page's square. */
function slope(codes, page, model) {
  const {canvas: grid, box, samples, ink_width: wide, axes, deviation} = model, scale = grid / box, most = grid - 1.001;
  const weight = wide * scale ** 2 / samples, ink = new Float64Array(grid * grid), at = [];
  const drawing = codes.map((code) => decode(model, code));
  const clamp = (v) => (v < 0 ? 0 : v > most ? most : v);
  for (const points of drawing) {
    for (let k = 0; k + 3 < points.length; k += 2) {
      const dx = points[k + 2] - points[k], dy = points[k + 3] - points[k + 1], length = Math.sqrt(dx * dx + dy * dy + 1e-12);
      for (let i = 0; i < samples; i++) {
        const t = (i + 0.5) / samples, x = clamp((points[k] + t * dx) * scale - 0.5), y = clamp((points[k + 1] + t * dy) * scale - 0.5);
        const u = Math.floor(x), v = Math.floor(y), right = x - u, below = y - v, cell = v * grid + u, amount = length * weight;
        ink[cell] += amount * (1 - below) * (1 - right);
        ink[cell + 1] += amount * (1 - below) * right;
        ink[cell + grid] += amount * below * (1 - right);
        ink[cell + grid + 1] += amount * below * right;
        at.push(cell, right, below, amount);
      }
    }
  }
  const square = Math.max(page.reduce((sum, v) => sum + v * v, 0), 1e-6);
  const error = blurred(blurred(ink, grid).map((v, i) => v - page[i]), grid).map((v) => 2 * v / square);
  let next = 0;
  return drawing.map((points) => {
    const pull = new Float64Array(points.length);
    for (let k = 0; k + 3 < points.length; k += 2) {
      const dx = points[k + 2] - points[k], dy = points[k + 3] - points[k + 1], length = Math.sqrt(dx * dx + dy * dy + 1e-12);
      let value = 0;
      for (let i = 0; i < samples; i++, next += 4) {
        const t = (i + 0.5) / samples, cell = at[next], x = at[next + 1], y = at[next + 2], amount = at[next + 3] * scale;
        const here = error[cell], right = error[cell + 1], below = error[cell + grid], across = error[cell + grid + 1];
        value += (1 - y) * ((1 - x) * here + x * right) + y * ((1 - x) * below + x * across);
        const px = ((1 - y) * (right - here) + y * (across - below)) * amount, py = ((1 - x) * (below - here) + x * (across - right)) * amount;
        pull[k] += px * (1 - t);
        pull[k + 1] += py * (1 - t);
        pull[k + 2] += px * t;
        pull[k + 3] += py * t;
      }
      const stretch = value * weight / length;
      pull[k] -= stretch * dx;
      pull[k + 1] -= stretch * dy;
      pull[k + 2] += stretch * dx;
      pull[k + 3] += stretch * dy;
    }
    const gradient = new Float64Array(pull.length);
    pull.forEach((v, p) => axes[p].forEach((a, i) => (gradient[i] += v * a)));
    return gradient.map((v, i) => v * deviation[i]);
  });
}

/** A page weighted by 1, 2, 1 along both sides; nothing lies beyond it. */
function blurred(page, grid) {
  const along = (source, step, stride) => {
    const out = new Float64Array(source.length);
    for (let line = 0; line < grid; line++) {
      for (let i = 0, at = line * stride; i < grid; i++, at += step) {
        out[at] = ((i ? source[at - step] : 0) + 2 * source[at] + (i < grid - 1 ? source[at + step] : 0)) / 4;
      }
    }
    return out;
  };
  return along(along(page, grid, 1), 1, grid);
}
