// The page for whole pages: what the reader does, and what follows from it.
import {Refused} from '../api.js';
import {begin} from '../engine.js';
import {receive} from '../intake.js';
import {listen, preferred, say, speak} from '../language.js';
import {zip} from '../zip.js';
import {Elsewhere} from './elsewhere.js';
import {Framer} from './framer.js';
import {List} from './list.js';
import {Reader} from './reader.js';
import {NotSaved, TYPES, fromFile, toFile} from './saved.js';
import {canvas, drawCut, pageOf, toRead} from './source.js';
import {claim, forget, keep, kept} from './store.js';
import {Viewer} from './viewer.js';
import {Work, csvOf, frameKey, svgsOf, textOf, tsvOf} from './work.js';

const $ = (id) => document.getElementById(id);
const SAME = 0.6; // frames that cover each other by this much (intersection over union) are of one character
const PAUSE = 400; // milliseconds from a change until it is kept
const LARGEST_WORK = 400e6; // bytes of a saved file
const now = {page: null, chosen: null, size: 0, message: ['', {}], problem: null, keeping: true, unsaved: false};
let latest = 0;

const work = new Work();
const framer = new Framer();
const reader = new Reader({
  read(key, reading) {
    work.readings.set(key, reading);
    keepSoon();
  },
  failed: (key, error) => problem(error),
  begun: () => refreshSoon(),
});
const viewer = new Viewer({stage: $('stage'), canvas: $('view'), marks: $('marks'), cross: $('cross')}, {
  clicked: click, selected: choose, drawn: add, removed: remove,
  adjusted(id, frame) {
    work.edit(id, {frame});
    tellFrame('adjusted', id);
  },
});
const list = new List(work, {
  selected: (id) => choose(id, true), moved: move,
  edited: (id, fields) => {
    const item = work.find(id);
    if (item && Object.entries(fields).some(([name, value]) => item[name] !== value)) work.edit(id, fields);
  },
  picture: async (item) => [await toRead(now.page, item.frame, work.state.colour), {}],
  cut: (out, frame) => now.page && drawCut(now.page, out, frame),
  state: (item) => (work.reading(item) ? '' : reader.state(work.key(item))),
});

// ---- What is said to the reader

function tell(key, values = {}) {
  now.message = [key, values];
  $('status').textContent = key && say(key, values);
}

function tellFrame(key, id) {
  const item = work.find(id);
  if (!item) return;
  const {left, top, right, bottom} = item.frame;
  tell(key, {n: work.state.items.indexOf(item) + 1, left, top, width: right - left, height: bottom - top});
}

function problem(error) {
  now.problem = error;
  $('problem').replaceChildren();
  if (!error) return;
  $('problem').append(say(error.key ?? 'error-other', error.values ?? {}));
  if (!error.detail) return;
  const line = document.createElement('span');
  line.lang = 'en';
  line.textContent = ` ${error.detail}`;
  $('problem').append(line);
}

/** A question with two answers; whether the first was given. */
function ask(key, values, yes) {
  $('ask-text').textContent = say(key, values);
  $('ask-yes').textContent = say(yes);
  $('ask').returnValue = 'no';
  $('ask').showModal();
  return new Promise((resolve) => $('ask').addEventListener('close', () => resolve($('ask').returnValue === 'yes'), {once: true}));
}

// ---- All that is shown follows from the work

let waiting = 0;
function refreshSoon() {
  waiting ||= requestAnimationFrame(refresh);
}

function refresh() {
  cancelAnimationFrame(waiting);
  waiting = 0;
  const {items, colour, forms = 'as-read'} = work.state;
  if (!work.find(now.chosen)) now.chosen = null;
  const keys = new Set(items.map((item) => work.key(item)));
  reader.only(keys);
  if (now.page) {
    for (const item of items) {
      const key = work.key(item);
      if (!work.readings.has(key) && !reader.state(key)) reader.ask(key, now.page, item.frame, colour, forms);
    }
  }
  list.put(now.chosen);
  viewer.put(items.map((item, i) => ({id: item.id, frame: item.frame, label: list.label(item, i)})), now.chosen);
  $('undo').setAttribute('aria-disabled', !work.past.length);
  $('redo').setAttribute('aria-disabled', !work.future.length);
  $('colour').checked = colour;
  $('forms').value = forms;
  for (const button of $('exports').querySelectorAll('button')) {
    button.setAttribute('aria-disabled', button.id === 'save' || button.id === 'forget' ? !now.page : !items.length);
  }
}

work.changed = () => {
  now.unsaved = work.state.items.length > 0;
  refreshSoon();
  keepSoon();
};

// ---- Frames

async function click(x, y) {
  const {page} = now, {colour} = work.state;
  if (!page) return;
  const found = await framer.frame(page, x, y, colour).catch((error) => {
    console.error(error);
    return null;
  });
  if (now.page !== page) return; // another page came meanwhile
  if (!found) return tell('bare');
  now.size = found.size;
  viewer.step = Math.max(2, Math.round(found.size / 3));
  add(found.frame);
}

function add(frame) {
  const same = work.state.items.find((item) => overlap(item.frame, frame) > SAME);
  if (same) return choose(same.id);
  now.chosen = work.add(frame);
  refresh();
  tellFrame('framed', now.chosen);
}

function choose(id, look = false) {
  now.chosen = id;
  const item = work.find(id);
  if (item && reader.state(work.key(item)) === 'failed') {
    problem(null);
    reader.ask(work.key(item), now.page, item.frame, work.state.colour, work.state.forms);
  }
  refresh();
  if (item && look) viewer.reveal(item.frame);
}

function remove(id) {
  if (!work.find(id)) return;
  const at = work.state.items.findIndex((item) => item.id === id);
  const marked = document.activeElement?.closest?.('.mark, #detail');
  work.remove(id);
  now.chosen = work.state.items[Math.min(at, work.state.items.length - 1)]?.id ?? null;
  refresh();
  if (marked) $('view').focus({preventScroll: true});
  tell('removed', {n: at + 1});
}

function move(id, places) {
  if (!work.move(id, places)) return;
  refresh();
  tell('moved', {n: work.state.items.findIndex((item) => item.id === id) + 1});
}

/** Frames what stands below the chosen character. */
async function below() {
  const item = work.find(now.chosen), {page} = now;
  if (!item) return;
  const {left, top, right, bottom} = item.frame, size = now.size || Math.max(right - left, bottom - top);
  for (const far of [0.5, 0.9, 1.4]) {
    const found = await framer.frame(page, (left + right) / 2, bottom + far * size, work.state.colour).catch(() => null);
    if (now.page !== page) return;
    if (!found || overlap(found.frame, item.frame) > 0.2 || found.frame.bottom <= bottom + 0.15 * size) continue;
    add(found.frame);
    viewer.reveal(work.find(now.chosen).frame);
    return;
  }
  tell('bare-below');
}

function overlap(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left), height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (width <= 0 || height <= 0) return 0;
  const area = ({left, top, right, bottom}) => (right - left) * (bottom - top);
  return width * height / (area(a) + area(b) - width * height);
}

function undo(step, key) {
  if (!work[step]()) return;
  problem(null);
  look();
  refresh();
  tell(key);
}

// ---- Pages and saved work come in

async function take(blob, name) {
  if (!blob) return;
  const mine = ++latest;
  problem(null);
  tell('opening');
  try {
    const saved = blob.type === 'application/json' || /\.json$/i.test(name ?? '');
    const found = saved ? await opened(blob) : {page: await pageOf(blob, name || '')};
    if (mine !== latest) return;
    tell('');
    if (now.unsaved && now.page && !(await ask('replace', {name: now.page.name || say('unnamed'), count: work.state.items.length}, 'replace-yes'))) return;
    await enter(found.page, found.state, found.readings);
    now.unsaved = false;
  } catch (error) {
    if (mine !== latest) return;
    tell('');
    if (!(error instanceof Refused || error instanceof NotSaved)) console.error(error);
    problem(error);
  }
}

/** A saved file: its page, and the work on it. */
async function opened(blob) {
  if (blob.size > LARGEST_WORK) throw new NotSaved('saved-large');
  const {page, state, readings} = fromFile(await blob.text());
  const bytes = Uint8Array.from(atob(page.data), (c) => c.charCodeAt(0));
  const found = await pageOf(new Blob([bytes], {type: page.type}), page.name);
  if (found.width !== page.width || found.height !== page.height) throw new NotSaved('saved-field', {name: 'page.width'});
  return {page: found, state, readings};
}

async function enter(page, state, readings) {
  now.page?.bitmap.close();
  Object.assign(now, {page, chosen: null, size: 0});
  reader.clear();
  $('empty').hidden = Boolean(page);
  $('view').setAttribute('aria-label', page ? say('page-view', {name: page.name || say('unnamed')}) : say('page-none'));
  document.body.classList.toggle('has-page', Boolean(page));
  viewer.show(page);
  work.reset(state, readings);
  if (!page) return refresh();
  refresh();
  await Promise.all([look(), keepPage()]);
}

let looked = [];
/** The page's ink, anew where the page or the switch changed. */
async function look() {
  const {page} = now, {colour} = work.state;
  if (!page || looked[0] === page && looked[1] === colour) return;
  looked = [page, colour];
  const {size, shown} = await framer.look(page, colour);
  if (now.page !== page || work.state.colour !== colour) return;
  viewer.step = Math.max(2, Math.round((size || 60) / 3));
  page.ink = canvas(shown.width, shown.height);
  page.ink.getContext('2d').putImageData(new ImageData(shown.data, shown.width, shown.height), 0, 0);
  viewer.draw();
  document.documentElement.dataset.looked = String(Number(document.documentElement.dataset.looked ?? 0) + 1);
}

// ---- Kept in the browser

let timer = 0;
function keepSoon() {
  if (!now.keeping || !now.page) return;
  clearTimeout(timer);
  timer = setTimeout(keepWork, PAUSE);
}

async function keepWork() {
  clearTimeout(timer);
  timer = 0;
  if (!now.keeping || !now.page) return;
  await kindly(keep({work: {version: 1, state: work.state, readings: work.readings}}));
}

async function keepPage() {
  if (now.keeping) await kindly(keep({page: {blob: now.page.blob, name: now.page.name}, work: {version: 1, state: work.state, readings: work.readings}}));
}

/** Where the browser keeps nothing, that is said once, and the work goes on. */
async function kindly(promise) {
  try {
    await promise;
  } catch (error) {
    now.keeping = false;
    problem(new Refused(error?.name === 'QuotaExceededError' ? 'keep-full' : 'keep-forbidden'));
  }
}

async function restore() {
  if (!(await claim())) {
    now.keeping = false;
    return problem(new Refused('other-tab'));
  }
  let page, before;
  try {
    [page, before] = [await kept('page'), await kept('work')];
  } catch {
    now.keeping = false;
    return problem(new Refused('keep-forbidden'));
  }
  if (!page) return;
  try {
    const found = await pageOf(page.blob, page.name);
    await enter(found, before?.version === 1 ? before.state : undefined, before?.version === 1 ? before.readings : undefined);
    tell('restored', {count: work.state.items.length});
    now.unsaved = work.state.items.length > 0;
  } catch (error) {
    problem(error);
  }
}

async function forgetAll() {
  if (!now.page || !(await ask('forget-ask', {}, 'forget'))) return;
  clearTimeout(timer);
  await kindly(forget());
  await enter(null);
  now.unsaved = false;
  tell('forgotten');
}

// ---- Given out

function offer(content, type, ending) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], {type}));
  link.download = `${(now.page.name || 'page').replace(/\.[^.]*$/, '').replace(/[\\/:*?"<>|]/g, '_')}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function save() {
  const {page} = now;
  let {blob} = page;
  if (!TYPES.includes(blob.type)) blob = new Blob([blob], {type: kindOf(new Uint8Array(await blob.slice(0, 16).arrayBuffer()))});
  const data = await new Promise((resolve, reject) => {
    const file = new FileReader();
    file.onload = () => resolve(file.result.slice(file.result.indexOf(',') + 1));
    file.onerror = () => reject(file.error);
    file.readAsDataURL(blob);
  });
  offer(toFile(work, {name: page.name, type: blob.type, width: page.width, height: page.height, data}), 'application/json', '.json');
  now.unsaved = false;
  tell('saved');
}

/** The kind of a picture that came without one, by its first bytes. */
function kindOf(head) {
  const text = String.fromCharCode(...head);
  return text.startsWith('\x89PNG') ? 'image/png' : text.startsWith('GIF8') ? 'image/gif' : text.startsWith('BM') ? 'image/bmp'
    : text.slice(8, 12) === 'WEBP' ? 'image/webp' : text.slice(4, 12) === 'ftypavif' ? 'image/avif' : 'image/jpeg';
}

const EXPORTS = {
  'save': save,
  'save-text': () => offer(textOf(work), 'text/plain;charset=utf-8', '.txt'),
  'save-tsv': () => offer(tsvOf(work), 'text/tab-separated-values;charset=utf-8', '.tsv'),
  'save-csv': () => offer(csvOf(work), 'text/csv;charset=utf-8', '.csv'),
  'save-zip': () => offer(zip(svgsOf(work)), 'application/zip', '-svg.zip'),
  'print': () => window.print(),
  'forget': forgetAll,
};

// ---- Wiring

for (const [id, act] of Object.entries({
  'undo': () => undo('undo', 'undone-work'), 'redo': () => undo('redo', 'redone'), 'sort': () => work.sort(),
  'below': below, 'earlier': () => move(now.chosen, -1), 'later': () => move(now.chosen, 1), 'remove': () => remove(now.chosen),
  'zoom-in': () => viewer.zoom(1.5), 'zoom-out': () => viewer.zoom(1 / 1.5), 'zoom-fit': () => viewer.fit(), ...EXPORTS,
})) $(id).addEventListener('click', () => $(id).getAttribute('aria-disabled') !== 'true' && act());
$('by-hand').addEventListener('change', () => {
  viewer.byHand = $('by-hand').checked;
  $('stage').classList.toggle('by-hand', viewer.byHand);
});
$('as-ink').addEventListener('change', () => {
  viewer.asInk = $('as-ink').checked;
  viewer.draw();
});
$('colour').addEventListener('change', () => {
  work.set({...work.state, colour: $('colour').checked});
  look();
});
$('forms').addEventListener('change', () => work.set({...work.state, forms: $('forms').value}));
const elsewhere = new Elsewhere({take, tell, problem});
receive($('stage'), (file, name) => elsewhere.open(file, name), (key) => problem(new Refused(key)));
document.addEventListener('paste', (event) => {
  const [file] = event.clipboardData.files;
  if (file) {
    event.preventDefault();
    elsewhere.open(file, file.name);
  } else if (!event.target.matches('input, textarea')) problem(new Refused('paste-nothing'));
});
document.addEventListener('keydown', (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.matches('#typed, #remark')) return;
  const key = event.key.toLowerCase();
  if (key !== 'z' && key !== 'y') return;
  event.preventDefault();
  if (key === 'y' || event.shiftKey) undo('redo', 'redone');
  else undo('undo', 'undone-work');
});
listen(words);
addEventListener('pagehide', () => {
  if (timer) keepWork();
});

function words() {
  $('view').setAttribute('aria-label', now.page ? say('page-view', {name: now.page.name || say('unnamed')}) : say('page-none'));
  list.paper.words();
  elsewhere.words();
  tell(...now.message);
  problem(now.problem);
  refresh();
}

async function start() {
  speak(preferred());
  words();
  begin(problem).catch(problem);
  await restore();
  document.documentElement.dataset.ready = 'true';
}

start();
