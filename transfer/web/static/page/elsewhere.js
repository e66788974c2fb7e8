// Pages from elsewhere: a IIIF address that the reader enters, which this browser fetches, and files of several pages (PDF, TIFF), of which
// this machine's server shows one. Nothing is fetched unless an address is entered.
import {Refused} from '../api.js';
import {pageOfFile} from '../engine.js';
import {language, say} from '../language.js';
import {NoPage, addressOf, describedAt, imageAddress, kindOf, readManifest} from './iiif.js';

const $ = (id) => document.getElementById(id);
const MOST = 10_000; // pixels a side that are asked for
const BYTES = {json: 60e6, image: 300e6};
const PATIENCE = 90; // seconds of one request
const SEVERAL = /^(application\/pdf|image\/tiff)$/, ENDINGS = /\.(pdf|tiff?)$/i;

export class Elsewhere {
  /** take(blob, name) gets each page; tell(key, values) and problem(error) are shown to the reader. */
  constructor({take, tell, problem}) {
    Object.assign(this, {take, tell, problem, book: null, at: 1});
    $('address-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.enter($('address').value);
    });
    $('book').addEventListener('submit', (event) => {
      event.preventDefault();
      this.turn(Number($('book-number').value));
    });
    $('book-before').addEventListener('click', () => this.turn(this.at - 1));
    $('book-after').addEventListener('click', () => this.turn(this.at + 1));
  }

  /** A file: of one that may have several pages the first is taken, and the reader may turn them. */
  open(file, name) {
    this.stop?.abort();
    this.put(null);
    if (!file || !(SEVERAL.test(file.type) || ENDINGS.test(name ?? ''))) return this.take(file, name);
    return this.begun(async () => {
      const first = await pageOfFile(file, 1);
      const page = async (n) => (n === 1 ? first : await pageOfFile(file, n)).blob;
      return {title: name ?? '', rights: '', count: first.pages, label: String, page};
    });
  }

  /** An address. */
  enter(text) {
    return this.begun(async (signal) => {
      const found = await lookedUp(addressOf(text), signal);
      if (found.blob) return {title: named(found.address), rights: '', count: 1, label: String, page: async () => found.blob};
      const kind = kindOf(found.json);
      if (kind === 'collection') throw new NoPage('iiif-collection');
      if (kind === 'image') return {title: named(found.address), rights: '', count: 1, label: String, page: (n, stop) => imageOf(found.json, stop)};
      if (kind !== 'manifest') throw new NoPage('iiif-other', {host: host(found.address)});
      const {title, rights, pages} = readManifest(found.json, language());
      return {title, rights, count: pages.length, label: (n) => pages[n - 1].label, page: (n, stop) => pageOf(pages[n - 1], stop)};
    });
  }

  async begun(find) {
    await this.work(async (signal) => {
      const book = await find(signal);
      if (signal.aborted) return;
      this.put(book.count > 1 ? book : null);
      await this.fetch(book, 1, signal);
    });
  }

  /** Another page of the book that is open. */
  async turn(n) {
    const {book} = this;
    if (!book) return;
    if (!Number.isInteger(n) || n < 1 || n > book.count) return this.problem(new NoPage('book-number', {count: book.count}));
    await this.work((signal) => this.fetch(book, n, signal));
  }

  async fetch(book, n, signal) {
    const blob = await book.page(n, signal);
    if (signal.aborted) return;
    this.at = n;
    this.words();
    const name = [book.title, book.count > 1 ? book.label(n) : ''].filter(Boolean).join(', ').slice(0, 200);
    await this.take(blob, /\.json$/i.test(name) ? `${name} ` : name);
  }

  /** Does what may take a while; the last that was asked for counts. */
  async work(act) {
    this.stop?.abort();
    const {signal} = this.stop = new AbortController();
    this.problem(null);
    this.tell('fetching');
    try {
      await act(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.tell('');
      if (!(error instanceof Refused || error instanceof NoPage)) console.error(error);
      this.problem(error);
    }
  }

  put(book) {
    Object.assign(this, {book, at: 1});
    this.words();
  }

  words() {
    const {book, at} = this;
    $('book').hidden = !book;
    if (!book) return;
    $('book-title').textContent = book.title || say('unnamed');
    $('book-number').value = at;
    $('book-number').max = book.count;
    const label = book.label(at);
    $('book-of').textContent = say('book-of', {count: book.count}) + (label === String(at) ? '' : ` (${label})`);
    $('book-rights').textContent = book.rights;
    $('book-before').setAttribute('aria-disabled', String(at <= 1));
    $('book-after').setAttribute('aria-disabled', String(at >= book.count));
  }
}

/** {address, json} or {address, blob} of what an address answers with. */
async function lookedUp(address, signal) {
  try {
    return await fetched(address, signal);
  } catch (error) {
    const beside = describedAt(address);
    if (!(error instanceof NoPage) || !beside || signal.aborted) throw error;
    return fetched(beside, signal).catch(() => {
      throw error; // what the reader entered is told of, not what was tried after it
    });
  }
}

async function pageOf({picture, service}, signal) {
  if (!service) return blobOf(picture, signal);
  try {
    return await imageOf((await fetched(`${service}/info.json`, signal)).json, signal);
  } catch (error) {
    if (!picture || signal.aborted) throw error;
    return blobOf(picture, signal);
  }
}

async function imageOf(info, signal) {
  if (!info || typeof info !== 'object') throw new NoPage('iiif-damaged');
  return blobOf(imageAddress(info, MOST), signal);
}

async function blobOf(address, signal) {
  const {blob} = await fetched(address, signal);
  if (!blob) throw new NoPage('iiif-no-image', {host: host(address)});
  return blob;
}

/** Asks an address without cookies, and without telling it where the reader is. Throws NoPage. */
async function fetched(address, signal) {
  const values = {host: host(address)};
  const stop = AbortSignal.any([signal, AbortSignal.timeout(1000 * PATIENCE)]);
  let response, parts;
  try {
    response = await fetch(address, {signal: stop, credentials: 'omit', referrerPolicy: 'no-referrer', cache: 'no-store',
      headers: {Accept: 'application/ld+json, application/json, image/*'}});
  } catch (error) {
    throw error.name === 'TimeoutError' ? new NoPage('iiif-slow', values) : new NoPage('iiif-unreachable', values);
  }
  if (!response.ok) throw new NoPage('iiif-status', {...values, status: response.status});
  const type = (response.headers.get('Content-Type') ?? '').split(';')[0].trim().toLowerCase();
  if (type === 'text/html' || type === 'application/xhtml+xml') throw new NoPage('iiif-html', values);
  const image = /^image\/(?!svg)/.test(type), most = image ? BYTES.image : BYTES.json;
  try {
    parts = await bounded(response, most);
  } catch (error) {
    if (error instanceof NoPage) throw error;
    throw new NoPage(error.name === 'TimeoutError' ? 'iiif-slow' : 'iiif-cut', values);
  }
  const blob = new Blob(parts, {type});
  if (image) return {address, blob};
  const text = await blob.text();
  if (/^\s*</.test(text)) throw new NoPage('iiif-html', values);
  try {
    return {address, json: JSON.parse(text)};
  } catch {
    throw new NoPage('iiif-other', values);
  }
}

async function bounded(response, most) {
  const reader = response.body.getReader(), parts = [];
  for (let size = 0, part; !(part = await reader.read()).done;) {
    size += part.value.length;
    if (size > most) {
      reader.cancel();
      throw new NoPage('iiif-large', {host: host(response.url), most: most / 1e6});
    }
    parts.push(part.value);
  }
  return parts;
}

const host = (address) => new URL(address).host;

/** A name for what an address leads to: its last part that says something. */
function named(address) {
  const url = new URL(address);
  const parts = url.pathname.split('/').filter((part) => part && !/^(info|manifest)(\.json)?$|^(full|max|0|default\.\w+)$/.test(part));
  try {
    return decodeURIComponent(parts.at(-1) ?? url.host);
  } catch {
    return parts.at(-1);
  }
}
