// The models' files, and onnxruntime-web that runs them: looked at before anything is made of them.
import {prototypesOf} from './hands.js';
import {sha256} from './sha256.js';

const HOME = new URL('../../', import.meta.url);
const PACKED = '.packed', HANDS = `old_hands.safetensors${PACKED}`;
// A module of eleven bytes and one SIMD instruction.
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

/** What the browser or the folder lacks: `key` names the text for readers, `values` what is put into it. */
export class Lacking extends Error {
  constructor(key, values = {}, detail = '') {
    super(detail || key);
    Object.assign(this, {key, values, detail});
  }
}

/** Everything that a reading needs. site: the folder's `site.json`. */
export async function load(site) {
  if (typeof WebAssembly !== 'object' || !WebAssembly.validate(SIMD)) throw new Lacking('engine-simd');
  if ([typeof OffscreenCanvas, typeof DecompressionStream].includes('undefined')) throw new Lacking('engine-old');
  const {runtime, models} = site, [wasm, library] = ['.wasm', '.mjs'].map((end) => runtime.find(({path}) => path.endsWith(end)));
  const packed = (found) => bytes(found).then(unpacked), hands = models.find(({path}) => path.endsWith(HANDS));
  // All is fetched at once. The smallest graph comes first: while the runtime starts with it, the others are unpacked. Then come the
  // largest, since the runtime's memory never shrinks: what they needed while they were prepared is there for the others.
  const graphs = models.filter(({path}) => path.endsWith(`.onnx${PACKED}`)).sort((a, b) => b.size - a.size);
  graphs.unshift(graphs.pop());
  const binary = bytes(wasm), contents = graphs.map(packed), tables = Promise.all([json(models, 'kanji.json'), json(models, 'stroke_settings.json'),
    packed(file(models, `z_new.npy${PACKED}`)), hands && packed(hands)]);
  for (const fetched of [tables, ...contents]) fetched.catch(() => {}); // told where it is waited for
  const [ort, wasmBinary] = await Promise.all([import(new URL(library.path, HOME)).catch(() => {
    throw new Lacking('engine-missing', {file: library.path});
  }), binary.then(({buffer}) => buffer)]);
  Object.assign(ort.env.wasm, {numThreads: 1, proxy: false, wasmBinary});
  const sessions = new Map(), options = {executionProviders: ['wasm'], graphOptimizationLevel: 'all'};
  for (const [n, {path}] of graphs.entries()) {
    const content = await contents[n];
    contents[n] = null; // the session has a copy
    const session = await ort.InferenceSession.create(content, options).catch((error) => {
      throw lack(error);
    });
    sessions.set(path.replace(/^.*\/|\.onnx.*$/g, ''), session);
  }
  ort.env.wasm.wasmBinary = undefined;
  const [kanji, strokes, latents, prototypes] = await tables;
  const {rows, width} = npy(latents);
  return {
    kanji, strokes, prototypes: prototypes && prototypesOf(prototypes), seen: new Map(),
    has: (name) => sessions.has(name),
    zNew: remembered((place) => rows.slice(place * width, (place + 1) * width)),
    async run(name, feeds) {
      try {
        return await sessions.get(name).run(Object.fromEntries(Object.entries(feeds).map(([k, v]) => [k, new ort.Tensor(v.type, v.data, v.dims)])));
      } catch (error) {
        throw lack(error);
      }
    },
  };
}

/** Memory that the browser did not give is told as that. */
function lack(error) {
  const line = String(error).slice(0, 200);
  return new Lacking(/memory|alloc|RangeError|\bOOM\b/i.test(line) ? 'engine-memory' : 'engine-runtime', {}, line);
}

function file(files, name) {
  const found = files.find(({path}) => path.endsWith(`/${name}`));
  if (!found) throw new Lacking('engine-missing', {file: name});
  return found;
}

async function bytes({path, size, sha256: sum}) {
  const response = await fetch(new URL(path, HOME), {cache: 'no-cache'}).catch(() => null);
  if (!response?.ok) throw new Lacking('engine-missing', {file: path});
  const content = new Uint8Array(await response.arrayBuffer().catch(() => new ArrayBuffer(0)));
  if (content.length !== size) throw new Lacking('engine-cut', {file: path});
  // By hand it would take seconds; where the browser has it, it is quick.
  const found = crypto.subtle ? hex(await crypto.subtle.digest('SHA-256', content)) : content.length < 1e6 ? sha256(content) : sum;
  if (found !== sum) throw new Lacking('engine-cut', {file: path});
  return content;
}

/** What `packed` of transfer/export/site.py made smaller: bytes at even places stand before those at odd ones, and all is compressed. */
async function unpacked(content) {
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream('gzip'));
  const halves = new Uint8Array(await new Response(stream).arrayBuffer()), odd = (halves.length + 1) >> 1, out = new Uint8Array(halves.length);
  for (let i = 0; i < odd; i++) out[2 * i] = halves[i];
  for (let i = odd; i < halves.length; i++) out[2 * (i - odd) + 1] = halves[i];
  return out;
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (v) => v.toString(16).padStart(2, '0')).join('');

async function json(files, name) {
  return JSON.parse(new TextDecoder().decode(await bytes(file(files, name))));
}

/** A two-dimensional array of float16, as NumPy writes it. */
function npy(content) {
  const view = new DataView(content.buffer, content.byteOffset), length = view.getUint16(8, true);
  const head = new TextDecoder().decode(content.subarray(10, 10 + length)), shape = /\((\d+), (\d+)\)/.exec(head);
  const halves = new Uint16Array(content.slice(10 + length).buffer), width = Number(shape[2]);
  return {rows: Float32Array.from(halves, single), width};
}

/** A float16 as a number. */
function single(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, rest = half & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -14 * rest / 1024);
}

/** The same array for the same place, so that what is worked out of it can be kept. */
function remembered(make) {
  const kept = new Map();
  return (place) => {
    if (!kept.has(place)) kept.set(place, make(place));
    return kept.get(place);
  };
}
