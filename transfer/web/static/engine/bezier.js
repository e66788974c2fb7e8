// One polyline -> smooth cubic Béziers that stay within a given distance of it: the same as transfer/output/bezier.py, where the numbers
// are explained. No DOM. A point is [x, y].

const STEP = 0.75, ARM = 3, CORNER = Math.cos(55 * Math.PI / 180), LEAN = Math.cos(35 * Math.PI / 180), PASSES = 6;
const less = (a, b) => [a[0] - b[0], a[1] - b[1]], plus = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1], size = (a) => Math.hypot(a[0], a[1]), unit = (a) => [a[0] / size(a), a[1] / size(a)];

/** Curves of four points each, the first beginning where the polyline does. */
export function fitCurves(polyline, tolerance = 0.45) {
  const points = polyline.filter((p, i) => !i || p[0] !== polyline[i - 1][0] || p[1] !== polyline[i - 1][1]);
  if (points.length === 1) return [[points[0], points[0], points[0], points[0]]];
  const {dense, vertex} = resample(points), corners = cornersOf(dense, vertex).map((at) => vertex.indexOf(at)), curves = [];
  for (let k = 0; k + 1 < corners.length; k++) {
    const [first, last] = [corners[k], corners[k + 1]], section = points.slice(first, last + 1), tangents = tangentsOf(section);
    const knots = new Map(section.slice(1, -1).map((_, i) => [vertex[first + 1 + i] - vertex[first], tangents[i + 1]]));
    const run = dense.slice(vertex[first], vertex[last] + 1);
    curves.push(...fitSpan(run, 0, run.length - 1, tangents[0], tangents.at(-1).map((v) => -v), knots, tolerance));
  }
  return curves;
}

function evaluate([a, b, c, d], t) {
  const s = 1 - t, [p, q, r, u] = [s ** 3, 3 * s * s * t, 3 * s * t * t, t ** 3];
  return [p * a[0] + q * b[0] + r * c[0] + u * d[0], p * a[1] + q * b[1] + r * c[1] + u * d[1]];
}

function resample(points) {
  const sides = points.slice(1).map((p, i) => size(less(p, points[i]))), step = Math.max(STEP, sides.reduce((a, b) => a + b, 0) / 2000);
  const dense = [points[0]], vertex = [0];
  sides.forEach((side, i) => {
    const parts = Math.max(2, Math.ceil(side / step));
    for (let k = 1; k <= parts; k++) dense.push(plus(points[i], less(points[i + 1], points[i]), k / parts));
    vertex.push(dense.length - 1);
  });
  return {dense, vertex};
}

function direction(points, at, way, limit) {
  let stop = at + way;
  while (stop !== limit && size(less(points[stop], points[at])) < ARM) stop += way;
  let chord = less(points[stop], points[at]);
  if (!chord[0] && !chord[1]) chord = less(points[at + way], points[at]);
  return unit(chord);
}

function cornersOf(dense, vertex) {
  const last = dense.length - 1, along = [0];
  for (let i = 1; i <= last; i++) along.push(along[i - 1] + size(less(dense[i], dense[i - 1])));
  const turns = vertex.slice(1, -1).map((v) => [-dot(direction(dense, v, 1, last), direction(dense, v, -1, 0)), v]).filter(([cosine]) => cosine < CORNER);
  const chosen = [0, last];
  for (const [, v] of turns.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (chosen.every((c) => Math.abs(along[v] - along[c]) >= ARM / 2 || c === 0 || c === last)) chosen.push(v);
  }
  return chosen.sort((a, b) => a - b);
}

function tangentsOf(points) {
  const last = points.length - 1;
  const ends = [[-1, 0], [1, last]].map(([way, limit]) => points.map((point, i) => {
    let j = i;
    while (j !== limit && size(less(points[j], point)) < ARM) j += way;
    if (size(less(points[j], point)) === 0 && i !== limit) j = i + way;
    return {chord: less(points[j], point).map((v) => way * v), to: j};
  }));
  const longest = Math.max(...ends.flat().map(({chord}) => size(chord)));
  const units = ends.map((side) => side.map(({chord}) => chord.map((v) => v / Math.max(size(chord), 1e-300))));
  const tangents = points.map((_, i) => {
    const both = plus(ends[0][i].chord, ends[1][i].chord);
    return size(both) > 1e-9 * longest ? unit(both) : units[1][i];
  });
  for (const [end, side, limit] of [[0, 1, last], [last, 0, 0]]) {
    const chord = units[side][end], next = ends[side][end].to;
    tangents[end] = chord;
    if (next === limit) continue;
    const mirrored = less(chord.map((v) => 2 * dot(chord, tangents[next]) * v), tangents[next]);
    if (dot(mirrored, chord) > LEAN) tangents[end] = mirrored;
  }
  return tangents;
}

function fitSpan(dense, first, last, start, end, knots, tolerance) {
  const span = dense.slice(first, last + 1);
  if (span.length <= 2) return [[0, 1 / 3, 2 / 3, 1].map((k) => plus(span[0], less(span.at(-1), span[0]), k))];
  const along = [0];
  for (let i = 1; i < span.length; i++) along.push(along[i - 1] + size(less(span[i], span[i - 1])));
  let t = along.map((v) => v / along.at(-1)), off;
  for (let pass = 0; pass < PASSES; pass++) {
    const curve = leastSquares(span, t, start, end);
    off = span.map((p, i) => size(less(evaluate(curve, t[i]), p)));
    const most = Math.max(...off);
    if (most <= tolerance && stray(curve, span) <= tolerance) return [curve];
    if (most > 6 * tolerance) break;
    t = reparametrise(curve, span, t);
  }
  let middle = first + Math.min(Math.max(off.indexOf(Math.max(...off)), 1), span.length - 2), travel;
  const inside = [...knots.keys()].filter((k) => first < k && k < last).sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle) || a - b);
  if (inside.length) {
    [middle] = inside;
    travel = knots.get(middle);
  } else travel = unit(less(dense[middle + 1], dense[middle]));
  return [...fitSpan(dense, first, middle, start, travel.map((v) => -v), knots, tolerance),
    ...fitSpan(dense, middle, last, travel, end, knots, tolerance)];
}

function leastSquares(span, t, start, end) {
  const from = span[0], to = span.at(-1);
  let aa = 0, ab = 0, bb = 0, ra = 0, rb = 0, length = 0;
  span.forEach((p, i) => {
    const s = 1 - t[i], [p0, p1, p2, p3] = [s ** 3, 3 * s * s * t[i], 3 * s * t[i] * t[i], t[i] ** 3];
    const a = start.map((v) => p1 * v), b = end.map((v) => p2 * v);
    const rest = less(p, plus(from.map((v) => (p0 + p1) * v), to, p2 + p3));
    aa += dot(a, a);
    ab += dot(a, b);
    bb += dot(b, b);
    ra += dot(a, rest);
    rb += dot(b, rest);
    if (i) length += size(less(p, span[i - 1]));
  });
  const determinant = aa * bb - ab * ab, third = Math.max(size(less(to, from)), length / 3) / 3;
  let handles = [third, third];
  if (determinant > 1e-12 * aa * bb) {
    const solved = [(ra * bb - rb * ab) / determinant, (rb * aa - ra * ab) / determinant];
    if (solved.every((v) => v > 1e-3 * length && v < 1.5 * length)) handles = solved;
  }
  return [from, plus(from, start, handles[0]), plus(to, end, handles[1]), to];
}

function reparametrise(curve, span, t) {
  const first = [0, 1, 2].map((i) => less(curve[i + 1], curve[i]).map((v) => 3 * v));
  const second = [0, 1].map((i) => less(first[i + 1], first[i]).map((v) => 2 * v));
  let before = 0;
  return t.map((u, i) => {
    const s = 1 - u;
    const speed = [0, 1].map((k) => s * s * first[0][k] + 2 * s * u * first[1][k] + u * u * first[2][k]);
    const bend = [0, 1].map((k) => s * second[0][k] + u * second[1][k]);
    const away = less(evaluate(curve, u), span[i]), slope = dot(speed, speed) + dot(away, bend);
    return (before = Math.max(before, Math.min(1, Math.max(0, u - (slope > 1e-9 ? dot(away, speed) / slope : 0)))));
  });
}

/** Greatest distance of the curve's points from the span. */
function stray(curve, span) {
  const count = 4 * Math.min(span.length, 16);
  let most = 0;
  for (let i = 0; i < count; i++) {
    const at = evaluate(curve, i / (count - 1));
    let least = Infinity;
    for (let k = 0; k + 1 < span.length; k++) {
      const side = less(span[k + 1], span[k]), offset = less(at, span[k]);
      const along = Math.min(1, Math.max(0, dot(offset, side) / dot(side, side)));
      least = Math.min(least, size(less(offset, side.map((v) => along * v))));
    }
    most = Math.max(most, least);
  }
  return most;
}
