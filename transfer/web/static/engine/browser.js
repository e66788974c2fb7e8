// The engine of an exported folder: nothing is asked of a server, the models run in a worker. The same functions as in ../api.js.
import {Refused} from '../api.js';

export const place = 'browser';
const HOME = new URL('../../', import.meta.url), LIMITS = {bytes: 200e6};
const DEFAULTS = {samples: 10, seed: 0, temperature: null, top: 10, forms: 'as-read'};
const waiting = new Map();
let worker = null, broken = null, last = 0, ready = false, settle;
const loaded = new Promise((resolve) => (settle = resolve));
loaded.catch(() => {}); // who waits for it is told

/** Starts the models' loading; resolves to {limits, temperature, examples} before it has ended. failed(error) is told what went wrong then. */
export async function begin(failed) {
  const site = listed();
  settle(load(site));
  const {temperature, examples} = await site;
  loaded.catch(failed);
  return {limits: LIMITS, temperature, examples};
}

/** What `site.json` says of the folder. */
async function listed() {
  const response = await fetch(new URL('site.json', HOME), {cache: 'no-cache'}).catch(() => null);
  const site = response?.ok ? await response.json().catch(() => null) : null;
  if (!site) throw new Refused('engine-missing', '', {file: 'site.json'});
  return site;
}

/** site: promised, so that the worker starts meanwhile. */
async function load(site) {
  try {
    worker = new Worker(new URL('./worker.js', import.meta.url), {type: 'module'});
  } catch {
    throw new Refused('engine-old');
  }
  worker.onmessage = ({data: {id, answer, error}}) => {
    const job = waiting.get(id);
    waiting.delete(id);
    if (error) job?.reject(new Refused(error.key, error.detail, error.values));
    else job?.resolve(answer);
  };
  worker.onerror = (event) => {
    // A browser that knows no modules in workers, or a file of the engine that is not there.
    event.preventDefault();
    broken = new Refused('engine-old', event.message ?? '');
    for (const {reject} of waiting.values()) reject(broken);
    waiting.clear();
  };
  await ask('load', {site: await site});
  ready = true;
  document.documentElement.dataset.engine = 'ready';
  atLeisure((await site).examples).catch(() => {}).finally(keepOffline);
}

/** What nobody waits for, once nobody waits for anything else: an example is read, since a model's first run takes longest. */
async function atLeisure([{url}]) {
  const body = await bytes(url);
  do await ask('warm', {body, settings: DEFAULTS}); while (waiting.size);
}

/** The answer for `body` (Blob, or 4,096 bytes with settings.pixels). waits(key, values) is told while the models load. */
export async function transfer(body, {pixels: _, ...settings}, signal, waits) {
  if (!ready) waits('engine-loading', {});
  await loaded;
  signal.throwIfAborted();
  const numbers = {...DEFAULTS};
  for (const [name, value] of Object.entries(settings)) numbers[name] = name === 'forms' || value === null ? value : Number(value);
  return ask('transfer', {body, settings: numbers}, signal);
}

/** What only a server can open. */
export async function picture() {
  throw new Refused('error-kind');
}

export const pageOfFile = picture;

/** How old hands wrote the characters of the text `of`; see ../api.js. */
export async function oldHands(body, of) {
  await loaded;
  return ask('oldHands', {body, of});
}

export async function bytes(url) {
  const response = await fetch(new URL(url, HOME)).catch(() => null);
  if (!response?.ok) throw new Refused('engine-missing', '', {file: url});
  return response.blob();
}

/** A picture's 64x64, as the models would take it: {image, note, box}. */
export function read(blob) {
  return ask('read', {blob});
}

function ask(ask, values, signal) {
  const id = ++last;
  return new Promise((resolve, reject) => {
    if (broken) return reject(broken);
    waiting.set(id, {resolve, reject});
    signal?.addEventListener('abort', () => {
      worker.postMessage({id, ask: 'cancel'});
      waiting.delete(id);
      reject(signal.reason);
    }, {once: true});
    worker.postMessage({id, ask, ...values});
  });
}

/** All files are kept by the browser, where it lets them be: the page then opens without a network. */
function keepOffline() {
  navigator.serviceWorker?.register(new URL('offline.js', HOME)).catch(() => {});
}
