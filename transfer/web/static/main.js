// The page: what the reader does, what is asked of the engine, and the way back.
import {Refused} from './api.js';
import {Crop} from './crop.js';
import {begin, bytes, transfer} from './engine.js';
import {receive} from './intake.js';
import {listen, preferred, say, speak} from './language.js';
import {pack, unpack} from './link.js';
import {ResultView} from './result.js';

const $ = (id) => document.getElementById(id);
const REMEMBERED = 30; // steps back
const SETTINGS = ['seed', 'samples', 'temperature', 'forms'];
const past = [];
/** source: {name, blob, bitmap, raw}: raw is 4,096 bytes and only comes from a link, bitmap is null where the browser cannot show it. */
const now = {source: null, answer: null, number: 0, used: null, message: ['idle', {}], problem: null};
let limits = {bytes: Infinity};
let asking = null;
let latest = 0;

const crop = new Crop({stage: $('stage'), canvas: $('view'), box: $('box'), used: $('used'), status: $('crop-status')}, remember);
const view = new ResultView((i) => {
  now.number = i;
  forgetLink();
});

// ---- What is said to the reader

function tell(key, values = {}) {
  now.message = [key, values];
  $('status').textContent = key === 'done' ? view.sentence() : say(key, values);
}

function problem(error) {
  now.problem = error;
  const detail = $('problem');
  detail.replaceChildren();
  if (!error) return;
  detail.append(say(error.key ?? 'error-other', error.values ?? {}));
  if (!error.detail) return;
  const line = document.createElement('span');
  line.lang = 'en';
  line.textContent = ` ${error.detail}`;
  detail.append(line);
}

// ---- The way back

function snapshot(frame = crop.frame) {
  const {source, answer, number} = now;
  return {source, answer, number, frame, settings: SETTINGS.map((id) => $(id).value), used: now.used};
}

function remember(frame) {
  if (!now.source) return;
  past.push(snapshot(frame));
  if (past.length > REMEMBERED) past.shift();
  $('undo').setAttribute('aria-disabled', 'false');
}

function undo() {
  const back = past.pop();
  if (!back) return;
  asking?.abort();
  $('undo').setAttribute('aria-disabled', String(!past.length));
  SETTINGS.forEach((id, i) => put($(id), back.settings[i]));
  Object.assign(now, {source: back.source, answer: back.answer, number: back.number, used: back.used});
  problem(null);
  forgetLink();
  $('result').setAttribute('aria-busy', 'false');
  lookAt(back.source, back.frame);
  if (back.source.bitmap) crop.tell();
  crop.mark(now.used);
  if (back.answer) view.show(back.answer, back.number, back.source.name);
  else view.clear();
  tell('undone');
}

// ---- Pictures come in

async function take(blob, name) {
  if (!blob) return;
  const mine = ++latest;
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (mine !== latest) return; // another came while this one was decoded
  await enter({name: name || '', blob, bitmap, raw: null});
}

async function enter(source) {
  remember();
  now.source = source;
  lookAt(source);
  await draw();
}

function lookAt(source, frame = null) {
  $('empty').hidden = true;
  $('cropping').hidden = false;
  $('stage').hidden = $('crop-help').hidden = $('whole').hidden = !source.bitmap;
  $('no-view').hidden = Boolean(source.bitmap);
  if (source.bitmap) crop.show(source.bitmap, frame, source.name);
}

/** What is sent, and its settings: the file itself where all of it is framed and it is not too large, else what is framed, as PNG. */
async function body({blob, bitmap, raw}) {
  const all = !bitmap || crop.whole();
  if (all && raw) return [raw, {pixels: 1}];
  if (bitmap && (!all || blob.size > limits.bytes)) return [await crop.blob(), {}];
  if (blob.size > limits.bytes) throw new Refused('error-large');
  return [blob, {}];
}

async function draw() {
  const wrong = ['seed', 'temperature'].map($).find((field) => !field.checkValidity());
  if (wrong) {
    $('settings').open = true;
    wrong.focus();
    return problem({key: 'settings-wrong', values: {what: wrong.labels[0].textContent}});
  }
  asking?.abort();
  const {signal} = asking = new AbortController();
  problem(null);
  forgetLink();
  view.clear();
  Object.assign(now, {answer: null, used: null});
  crop.mark(null);
  $('result').setAttribute('aria-busy', 'true');
  tell('reading');
  try {
    const [sent, form] = await body(now.source);
    const cut = now.source.bitmap && !(sent === now.source.blob) ? crop.cut() : {left: 0, top: 0, scale: 1};
    const settings = {seed: $('seed').value, samples: $('samples').value, temperature: $('temperature').value, forms: $('forms').value, ...form};
    const answer = await transfer(sent, settings, signal, tell);
    if (signal.aborted) return;
    Object.assign(now, {answer, number: 0, used: answer.note && now.source.bitmap ? placed(answer.used, cut) : null});
    crop.mark(now.used);
    view.show(answer, 0, now.source.name);
    tell('done');
    comeIntoView();
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) console.error(error);
    problem(error);
    tell('idle');
  } finally {
    if (!signal.aborted) $('result').setAttribute('aria-busy', 'false');
  }
}

/** The frame in the picture of a box in what was cut out of it. */
function placed([left, top, right, bottom], cut) {
  return {left: cut.left + left / cut.scale, top: cut.top + top / cut.scale,
    right: cut.left + right / cut.scale, bottom: cut.top + bottom / cut.scale};
}

/** On a phone the drawing is below the picture. */
function comeIntoView() {
  const {top} = $('result').getBoundingClientRect();
  if (top < innerHeight - 160) return;
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  $('result').scrollIntoView({behavior: calm ? 'auto' : 'smooth', block: 'start'});
}

// ---- Links

function forgetLink() {
  $('link-shown').hidden = true;
  if (location.hash) history.replaceState(null, '', location.pathname + location.search);
}

async function share() {
  const fragment = await pack(Uint8Array.from(now.answer.image.flat()), {...now.answer, drawing: now.number});
  history.replaceState(null, '', fragment);
  $('link').value = location.href;
  $('link-shown').hidden = false;
  try {
    await navigator.clipboard.writeText(location.href);
    tell('shared');
  } catch { // no permission, or no https: the link can still be copied by hand
    $('link').select();
  }
}

async function openLink() {
  let found;
  try {
    found = await unpack(location.hash);
  } catch {
    return problem({key: 'link-wrong'});
  }
  if (!found) return;
  const fragment = location.hash, {image, settings} = found;
  remember();
  for (const id of SETTINGS) put($(id), settings[id]);
  const source = now.source = {name: '', blob: null, raw: image, bitmap: picture(image)};
  lookAt(source);
  await draw();
  if (now.source !== source || !now.answer) return;
  history.replaceState(null, '', fragment);
  if (!now.answer.drawings[settings.drawing]) return;
  now.number = settings.drawing;
  view.choose(now.number);
  tell('done');
}

/** Sets a field; a list gets the value as a new entry where it lacks it. */
function put(field, value) {
  if (field.options && ![...field.options].some((option) => option.value === String(value))) field.add(new Option(value));
  field.value = value;
}

/** 4,096 bytes, ink 255, as black on white. */
function picture(image) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 64;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(64, 64);
  image.forEach((ink, at) => pixels.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * at));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// ---- Wiring

receive($('drop'), take, (key) => problem({key}));
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files].find(({type}) => type.startsWith('image/'));
  if (file) {
    event.preventDefault();
    take(file, file.name);
  } else if (!event.target.matches('input')) problem({key: 'paste-nothing'});
});
$('paste').hidden = !navigator.clipboard?.read;
$('paste').addEventListener('click', async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith('image/'));
      if (type) return await take(await item.getType(type), '');
    }
    problem({key: 'paste-nothing'});
  } catch {
    problem({key: 'paste-refused'});
  }
});
$('read').addEventListener('click', draw);
$('whole').addEventListener('click', () => {
  if (crop.whole()) return;
  remember();
  crop.set(crop.all());
  crop.tell();
});
$('undo').addEventListener('click', undo);
document.addEventListener('keydown', (event) => {
  if (event.key === 'z' && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.target.matches('input[type=number]')) undo();
});
$('fields').addEventListener('submit', (event) => {
  event.preventDefault();
  if (!now.source) return;
  remember();
  draw();
});
$('forms').addEventListener('change', () => {
  if (!now.source) return;
  draw();
});
$('reseed').addEventListener('click', () => {
  if (now.source) remember();
  $('seed').value = Math.floor(Math.random() * 2 ** 31);
  if (now.source) draw();
});
$('share').addEventListener('click', share);
$('link').addEventListener('focus', ({target}) => target.select());
addEventListener('hashchange', openLink);
listen(words);
for (const media of ['(prefers-color-scheme: dark)', 'print']) matchMedia(media).addEventListener('change', () => view.fill());

function words() {
  view.fill();
  view.paper.words();
  tell(...now.message);
  problem(now.problem);
  if (now.source?.bitmap) crop.name(now.source.name);
  for (const picture of $('examples').querySelectorAll('img')) picture.alt = say('example', picture.dataset);
}

async function start() {
  speak(preferred());
  words();
  try {
    const found = await begin(problem);
    limits = found.limits;
    $('temperature').value = found.temperature;
    $('examples').replaceChildren(...found.examples.map(example));
    words();
  } catch (error) {
    return problem(error);
  }
  await openLink();
  document.documentElement.dataset.ready = 'true';
}

function example({kanji, name, url}) {
  const picture = document.createElement('img');
  Object.assign(picture, {src: url, width: 64, height: 64});
  Object.assign(picture.dataset, {kanji, name});
  const button = document.createElement('button');
  button.type = 'button';
  button.append(picture);
  button.addEventListener('click', async () => {
    try {
      await take(await bytes(url), name);
    } catch (error) {
      problem(error);
    }
  });
  const row = document.createElement('li');
  row.append(button);
  return row;
}

start();
