// A drawing as SVG text in KanjiVG's structure: the same as transfer/output/svg.py. No DOM.
import {fitCurves} from './bezier.js';
import {sha256} from './sha256.js';

const STYLE = 'fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round;', NUMBERS = 'font-size:8;fill:#808080';
const two = (v) => (Math.round(v * 100) / 100 + 0).toFixed(2).replace(/^-0\.00$/, '0.00'), pair = ([x, y]) => `${two(x)},${two(y)}`;

/** strokes: lists of [x, y] in box units. */
export function svgOf(strokes, character) {
  const data = strokes.map((points) => {
    const curves = fitCurves(points);
    return `M${pair(curves[0][0])}${curves.map(([, ...rest]) => `C${rest.map(pair).join(' ')}`).join('')}`;
  });
  const hex = character.codePointAt(0).toString(16).padStart(5, '0');
  const name = `${hex}-Drawn${sha256(new TextEncoder().encode(data.join('\n'))).slice(0, 10)}`;
  const paths = data.map((d, i) => `   <path id="kvg:${name}-s${i + 1}" d="${d}"/>\n`).join('');
  const labels = places(strokes).map(([x, y], i) => `  <text transform="matrix(1 0 0 1 ${two(x)} ${two(y)})">${i + 1}</text>\n`).join('');
  return '<svg xmlns="http://www.w3.org/2000/svg" xmlns:kvg="http://kanjivg.tagaini.net" width="109" height="109" viewBox="0 0 109 109">\n'
    + ` <g id="kvg:StrokePaths_${name}" style="${STYLE}">\n  <g id="kvg:${name}" kvg:element="${character}">\n${paths}  </g>\n </g>\n`
    + ` <g id="kvg:StrokeNumbers_${name}" style="${NUMBERS}">\n${labels} </g>\n</svg>\n`;
}

/** Where the strokes' numbers stand: the left end of each one's base line. Of 16 places around a start the one that is freest. */
function places(strokes) {
  const ink = strokes.flatMap(dense), centres = [];
  return strokes.map(([[sx, sy]], n) => {
    const half = [2.3 * String(n + 1).length, 3];
    let best = null, most = -Infinity;
    for (let k = 0; k < 16; k++) {
      const angle = k * Math.PI / 8, at = [[sx, Math.cos(angle)], [sy, Math.sin(angle)]]
        .map(([from, way], i) => Math.min(108.5 - half[i], Math.max(half[i] + 0.5, from + way * (half[i] + 3))));
      const room = Math.min(nearest(at, ink), 5) + Math.min(nearest(at, centres), 8) + 0.8 * Math.cos(angle + 0.8 * Math.PI);
      if (room > most) [best, most] = [at, room];
    }
    centres.push(best);
    return [best[0] - half[0], best[1] + half[1]];
  });
}

function dense(points) {
  const along = [0];
  for (let i = 1; i < points.length; i++) along.push(along[i - 1] + Math.hypot(points[i][0] - points[i - 1][0], points[i][1] - points[i - 1][1]));
  const length = along.at(-1), count = Math.floor(Math.min(length / 2, 1000)) + 2;
  let k = 0;
  return Array.from({length: count}, (_, i) => {
    const at = length * i / (count - 1);
    while (k + 2 < points.length && along[k + 1] < at) k++;
    const share = points.length > 1 && along[k + 1] > along[k] ? (at - along[k]) / (along[k + 1] - along[k]) : 0;
    return points.length > 1 ? [0, 1].map((c) => points[k][c] + share * (points[k + 1][c] - points[k][c])) : points[0];
  });
}

function nearest([x, y], others) {
  return others.reduce((least, [u, v]) => Math.min(least, Math.hypot(x - u, y - v)), Infinity);
}
