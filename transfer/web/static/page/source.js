// A file or a picture from the clipboard -> a page to look at; and what is cut out of it.
import {Refused} from '../api.js';
import {picture} from '../engine.js';
import {cleaned} from '../ink.js';

const MOST = 10_000; // pixels a side of a page
const SMALL = 2400; // pixels a side of the page as frames are looked for
const READ = 480; // pixels a side of what is sent to be read
const SHOWABLE = /^image\/(png|jpeg|webp|gif|bmp|avif)$/;

/** {blob, bitmap, small, width, height, name}. Throws Refused with a text for readers. */
export async function pageOf(blob, name) {
  if (!blob.size) throw new Refused('page-empty');
  let shown = blob, size = await sizeOf(blob);
  if (!size && !SHOWABLE.test(blob.type)) {
    // TIFF, HEIC and others: this machine's server may know them.
    shown = await picture(blob);
    size = await sizeOf(shown);
  }
  if (!size) throw new Refused('page-broken');
  if (Math.max(size.width, size.height) > MOST) throw new Refused('page-large', '', {...size, most: MOST});
  const bitmap = await createImageBitmap(shown).catch(() => null);
  if (!bitmap) throw new Refused('page-broken');
  const {width, height} = bitmap, scale = Math.min(1, SMALL / Math.max(width, height));
  const small = canvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = small.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, small.width, small.height);
  return {blob: shown, bitmap, small, width, height, name};
}

/** Size by the file's head, before anything is unpacked; null where the browser cannot show it. */
function sizeOf(blob) {
  return new Promise((resolve) => {
    const image = new Image(), url = URL.createObjectURL(blob);
    const done = (size) => {
      URL.revokeObjectURL(url);
      resolve(size);
    };
    image.onload = () => done(image.naturalWidth ? {width: image.naturalWidth, height: image.naturalHeight} : null);
    image.onerror = () => done(null);
    image.src = url;
  });
}

export function canvas(width, height) {
  return Object.assign(document.createElement('canvas'), {width, height});
}

/** A part of a page, `scale` times as large, as pixels. */
export function part(page, {left, top, right, bottom}, scale = 1) {
  const out = canvas(Math.max(1, Math.round((right - left) * scale)), Math.max(1, Math.round((bottom - top) * scale)));
  const context = out.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.drawImage(page.bitmap, left, top, right - left, bottom - top, 0, 0, out.width, out.height);
  return context.getImageData(0, 0, out.width, out.height);
}

/** What is read: the frame as PNG, without colour that is no ink where `colour` says so. */
export function toRead(page, frame, colour) {
  const width = frame.right - frame.left, height = frame.bottom - frame.top, long = Math.max(width, height);
  const scale = Math.min(1, READ / long);
  // The paper is seen by what is around the character.
  const margin = colour ? long : 0;
  const area = {left: Math.max(0, frame.left - margin), top: Math.max(0, frame.top - margin),
    right: Math.min(page.width, frame.right + margin), bottom: Math.min(page.height, frame.bottom + margin)};
  let pixels = part(page, area, scale);
  if (colour) {
    const clean = cleaned(pixels);
    pixels = new ImageData(clean.data, clean.width, clean.height);
  }
  const out = canvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  out.getContext('2d').putImageData(pixels, -Math.round((frame.left - area.left) * scale), -Math.round((frame.top - area.top) * scale));
  return new Promise((resolve) => out.toBlob(resolve, 'image/png'));
}

/** Draws a frame of the page into a square canvas. */
export function drawCut(page, out, {left, top, right, bottom}) {
  const context = out.getContext('2d'), width = right - left, height = bottom - top;
  const scale = 0.94 * Math.min(out.width / width, out.height / height);
  context.clearRect(0, 0, out.width, out.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(page.bitmap, left, top, width, height, (out.width - width * scale) / 2, (out.height - height * scale) / 2,
    width * scale, height * scale);
}
