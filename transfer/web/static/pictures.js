// 64x64 pictures on canvases, in the page's own colours.

function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

function paint(canvas, shade) {
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(64, 64);
  for (let at = 0; at < 4096; at++) pixels.data.set([...shade(at >> 6, at & 63), 255], 4 * at);
  context.putImageData(pixels, 0, 0);
}

const mix = (from, to, share) => from.map((v, i) => v + (to[i] - v) * share);

/** rows: 64 rows of 64 numbers, ink `full`. */
export function ink(canvas, rows, full = 1) {
  const paper = colour('--sheet'), black = colour('--ink');
  paint(canvas, (y, x) => mix(paper, black, rows[y][x] / full));
}

/** The predicted picture, faint, and over it the uncertainty (0 to 0.5). */
export function heat(canvas, pixels, uncertainty) {
  const paper = colour('--sheet'), black = colour('--ink'), hot = colour('--hot');
  paint(canvas, (y, x) => mix(mix(paper, black, 0.3 * pixels[y][x]), hot, Math.min(1, uncertainty[y][x] / 0.4)));
}

/** {most: largest uncertainty in per cent of 1, where: key of the third of the picture with the most of it}. */
export function summary(uncertainty) {
  const sums = new Array(9).fill(0);
  let most = 0;
  uncertainty.forEach((row, y) => row.forEach((value, x) => {
    most = Math.max(most, value);
    sums[3 * Math.floor(3 * y / 64) + Math.floor(3 * x / 64)] += value;
  }));
  const where = ['top-left', 'top', 'top-right', 'left', 'middle', 'right', 'bottom-left', 'bottom', 'bottom-right'];
  return {most: Math.round(100 * most), where: where[sums.indexOf(Math.max(...sums))]};
}
