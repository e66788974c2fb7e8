// How old hands wrote a kanji: prototypes of z_old, the nearest to the picture first, painted by the old VAE. The same as `Prototypes` of
// transfer/inference/old_hands.py.
import {paint, see} from './seeing.js';

const SHOWN = 4, AT_ONCE = 40, KEPT = 1000; // of a kanji; pictures of one go, and those that are kept, 8 MB

/** What the server answers (transfer/web/__init__.py) for the characters of the text `of`. image: 64x64. rest() as in reading.js. */
export async function oldHands(models, image, of, rest) {
  const {prototypes} = models;
  if (!prototypes) return {source: null, attribution: '', hands: {}};
  const z = (await see(models, image)).z_old.data, hands = {};
  for (const character of new Set(of)) {
    const found = nearest(prototypes, prototypes.rows.get(character.codePointAt(0)) ?? [], z);
    if (found.length) hands[character] = found;
  }
  for (const row of [...prototypes.painted.keys()].slice(0, -KEPT)) prototypes.painted.delete(row);
  const missing = [...new Set(Object.values(hands).flat().map(({row}) => row))].filter((row) => !prototypes.painted.has(row));
  for (let at = 0; at < missing.length; at += AT_ONCE) {
    await rest();
    const rows = missing.slice(at, at + AT_ONCE), pictures = await paint(models, 'old_painter', 'z_old', rows.map(prototypes.latent));
    await Promise.all(rows.map(async (row, n) => prototypes.painted.set(row, await png(pictures[n]))));
  }
  for (const [character, found] of Object.entries(hands)) {
    hands[character] = found.map(({row, distance}) => ({picture: prototypes.painted.get(row), painted: true,
      after: prototypes.books[row] ? 'books' : 'fonts', name: '', distance: Math.round(distance * 1e4) / 1e4}));
  }
  return {source: 'painted', attribution: '', hands};
}

/** {row, distance} of the rows that are nearest to z; of equal ones the first. */
function nearest({latent}, rows, z) {
  const far = (row) => Math.sqrt(latent(row).reduce((sum, v, i) => sum + (v - z[i]) ** 2, 0));
  return rows.map((row) => ({row, distance: far(row)})).sort((a, b) => a.distance - b.distance).slice(0, SHOWN);
}

/** Ink as a PNG of black on white, in a `data:` address. */
async function png(picture) {
  const side = Math.sqrt(picture.length), canvas = new OffscreenCanvas(side, side), context = canvas.getContext('2d');
  const shown = context.createImageData(side, side);
  picture.forEach((ink, at) => shown.data.set([0, 1, 2].map(() => 255 - Math.round(255 * ink)).concat(255), 4 * at));
  context.putImageData(shown, 0, 0);
  return new FileReaderSync().readAsDataURL(await canvas.convertToBlob());
}

/** The file of prototypes, a safetensors file: {rows by code point, latent(row), books, painted}. */
export function prototypesOf(content) {
  const length = Number(new DataView(content.buffer, content.byteOffset).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(content.subarray(8, 8 + length)));
  const array = (name, Type) => new Type(content.slice(...head[name].data_offsets.map((at) => 8 + length + at)).buffer);
  const z = array('z', Int8Array), scale = array('scale', Float32Array), width = scale.length, rows = new Map();
  array('code_points', Int32Array).forEach((point, row) => rows.set(point, [...rows.get(point) ?? [], row]));
  return {rows, latent: (row) => scale.map((v, i) => v * z[row * width + i]), books: array('books', Uint8Array), painted: new Map()};
}
