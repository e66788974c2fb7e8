// Any picture of one brushed character becomes 64x64 bytes, ink 255 on paper 0: the same as transfer/inference/images.py.
import {reduce, resize, roundEven} from './resize.js';
import {findInk, inkBox} from './strength.js';

export const SIZE = 64;
const WORK_SIDE = 1024, MAX_PIXELS = 100e6, MAX_SIDE = 30_000;
const STRIP = 4e6; // pixels that are looked at at once

/** A picture that cannot be used: `kind` is 'picture', 'large' or 'kind', the message one line. */
export class ImageError extends Error {
  constructor(kind, message) {
    super(`image: ${message}`);
    this.kind = kind;
  }
}

/** {image, note, box} of a picture's file, as `read_image` gives them. */
export async function readFile(blob) {
  if (!blob.size) throw new ImageError('picture', 'is empty (0 bytes); save the picture again');
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {premultiplyAlpha: 'none', colorSpaceConversion: 'none'});
  } catch {
    throw new ImageError('kind', 'is not a picture that this browser can read, or is damaged; save it as PNG or JPEG');
  }
  const {width, height} = bitmap;
  try {
    if (width * height > MAX_PIXELS || Math.max(width, height) > MAX_SIDE) {
      throw new ImageError('large', `is too large (${width}x${height}): at most ${MAX_PIXELS / 1e6} million pixels and ${MAX_SIDE} a side; `
        + 'crop it to one character');
    }
    return readPixels(small(bitmap), width, height);
  } finally {
    bitmap.close();
  }
}

/** pixels: {width, height, channels}, a list of 1, 3 or 4 arrays of bytes; width, height: of the picture that they are made of. */
export function readPixels(pixels, width, height) {
  const published = asPublished(pixels);
  if (published) return {image: published, note: '', box: [0, 0, SIZE, SIZE]};
  const {ink} = findInk(greyOf(pixels.channels), pixels.width, pixels.height);
  const {box, count} = inkBox(ink, pixels.width, pixels.height);
  if (!box) throw new ImageError('picture', 'no ink found, the picture is blank or too faint; crop it to one character');
  const note = count > 1 ? `used the largest of ${count} pieces of ink that stand apart; crop to one character to choose another` : '';
  const scale = [width / pixels.width, height / pixels.height];
  return {image: framed({width: pixels.width, height: pixels.height, data: ink}, box), note, box: box.map((v, i) => roundEven(v * scale[i % 2]))};
}

/** Ink in 64x64: its longer side fills it, the shorter one is centred on paper. */
function framed(ink, box) {
  const [left, top, right, bottom] = box, scale = SIZE / Math.max(right - left, bottom - top);
  const size = [right - left, bottom - top].map((side) => Math.max(1, roundEven(side * scale)));
  const {data} = resize(ink, size, 'bicubic', box), [w, h] = size;
  const x = Math.floor((SIZE - w) / 2), y = Math.floor((SIZE - h) / 2), out = new Uint8Array(SIZE * SIZE);
  for (let v = 0; v < h; v++) {
    for (let u = 0; u < w; u++) out[(y + v) * SIZE + x + u] = Math.min(255, Math.max(0, roundEven(Math.fround(data[v * w + u] * 255))));
  }
  return out;
}

/** The picture itself if it looks like one of the data set, else null. */
function asPublished({width, height, channels}) {
  if (width !== SIZE || height !== SIZE) return null;
  const [grey] = channels;
  if (channels.length === 4 && channels[3].some((v) => v < 255)) return null;
  if (channels.slice(1, 3).some((channel) => channel.some((v, i) => v !== grey[i]))) return null;
  const dark = grey.reduce((n, v) => n + (v <= 8), 0);
  if (!grey.some((v) => v) || dark / grey.length < 0.1) return null;
  return findInk(Float32Array.from(grey, (v) => v / 255), SIZE, SIZE).light ? Uint8Array.from(grey) : null;
}

/** Luminance; transparent parts are filled with paper. */
function greyOf(channels) {
  if (channels.length === 1) return Float32Array.from(channels[0], (v) => v / 255);
  const [r, g, b, alpha] = channels;
  const grey = Float32Array.from(r, (v, i) => (0.299 * v + 0.587 * g[i] + 0.114 * b[i]) / 255);
  if (!alpha) return grey;
  const most = alpha.reduce((a, v) => Math.max(a, v), 0);
  if (!most) return grey.fill(1);
  const visible = grey.filter((_, i) => alpha[i] / most > 0.5).sort(), half = visible.length >> 1;
  const inside = visible.length % 2 ? visible[half] : (visible[half - 1] + visible[half]) / 2;
  const paper = visible.length / grey.length > 0.6 ? inside : inside < 0.5 ? 1 : 0;
  return grey.map((v, i) => (v * alpha[i] + paper * (most - alpha[i])) / most);
}

/** A bitmap's channels, with a longer side of at most WORK_SIDE pixels, strip by strip: several copies of all pixels would take gigabytes. */
function small(bitmap) {
  const {width, height} = bitmap, long = Math.max(width, height), reduced = long > WORK_SIDE;
  const size = reduced ? [width, height].map((side) => Math.max(1, roundEven(side * WORK_SIDE / long))) : [width, height];
  const [across, down] = reduced ? [Math.trunc(width / size[0] / 3) || 1, Math.trunc(height / size[1] / 3) || 1] : [1, 1];
  const step = Math.max(down, Math.floor(STRIP / width / down) * down);
  const canvas = new OffscreenCanvas(width, Math.min(step, height));
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const parts = [];
  let opaque = true, colourless = true;
  for (let top = 0; top < height; top += step) {
    const rows = Math.min(step, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    const {data} = context.getImageData(0, 0, width, rows), count = width * rows;
    const channels = [0, 1, 2, 3].map(() => new Uint8Array(count));
    for (let i = 0, at = 0; i < count; i++, at += 4) {
      const r = data[at], g = data[at + 1], b = data[at + 2], a = data[at + 3];
      channels[0][i] = r;
      channels[1][i] = g;
      channels[2][i] = b;
      channels[3][i] = a;
      if (a < 255) opaque = false;
      if (r !== g || g !== b) colourless = false;
    }
    if (reduced && !opaque) premultiply(channels);
    parts.push(channels.map((channel) => reduce({width, height: rows, data: channel}, across, down)));
  }
  const joined = [0, 1, 2, 3].map((c) => {
    const strips = parts.map((part) => part[c]), data = new Uint8Array(strips.reduce((n, strip) => n + strip.data.length, 0));
    let at = 0;
    for (const strip of strips) {
      data.set(strip.data, at);
      at += strip.data.length;
    }
    return {width: strips[0].width, height: data.length / strips[0].width, data};
  });
  const used = colourless && opaque ? joined.slice(0, 1) : opaque ? joined.slice(0, 3) : joined;
  const box = [0, 0, width / across, height / down];
  const channels = used.map((channel) => (reduced ? resize(channel, size, 'box', box).data : channel.data));
  if (reduced && !opaque) unmultiply(channels);
  return {width: size[0], height: size[1], channels};
}

// The colour that is hidden under transparent pixels must not be mixed in.
function premultiply([r, g, b, a]) {
  for (let i = 0; i < a.length; i++) for (const channel of [r, g, b]) channel[i] = Math.round(channel[i] * a[i] / 255);
}

function unmultiply([r, g, b, a]) {
  for (let i = 0; i < a.length; i++) {
    if (a[i] && a[i] < 255) for (const channel of [r, g, b]) channel[i] = Math.min(255, Math.floor(255 * channel[i] / a[i]));
  }
}
