// The work as one JSON file. A file may come from anywhere: every field is checked, none is taken over unread.
import {frameKey} from './work.js';

const FORMAT = 'kuzushiji-transfer page', VERSION = 1;
const FORMS = ['as-read', 'modern', 'old']; // a file without is as read
const ITEMS = 5000, CANDIDATES = 100, STROKES = 64, DRAWINGS = 50;
const LONGEST = {chosen: 16, note: 4000, name: 300, path: 6000};
export const TYPES = ['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/bmp', 'image/avif'];

/** Why a file is not taken: `key` names the text for readers, `values` what is put into it. */
export class NotSaved extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, {key, values});
  }
}

/** page: {name, type, width, height, data (base64)} */
export function toFile(work, page) {
  const {items, manual, colour, forms = 'as-read'} = work.state;
  return JSON.stringify({format: FORMAT, version: VERSION, page, manual, colour, forms,
    items: items.map((item) => ({frame: item.frame, chosen: item.chosen, note: item.note, reading: work.reading(item) ?? null}))});
}

/** {page, state, readings} of a file's text. Throws NotSaved. */
export function fromFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new NotSaved('saved-no-json');
  }
  if (!plain(file) || file.format !== FORMAT) throw new NotSaved('saved-other');
  if (file.version !== VERSION) throw new NotSaved('saved-version', {version: String(file.version).slice(0, 20), known: VERSION});
  const page = check('page', file.page, plain);
  const found = {
    name: check('page.name', page.name, string(LONGEST.name)), type: check('page.type', page.type, (v) => TYPES.includes(v)),
    width: check('page.width', page.width, whole(1, 1e5)), height: check('page.height', page.height, whole(1, 1e5)),
    data: check('page.data', page.data, (v) => typeof v === 'string' && v.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(v)),
  };
  const forms = check('forms', file.forms ?? FORMS[0], (v) => FORMS.includes(v));
  const colour = check('colour', file.colour, boolean), readings = new Map();
  const items = check('items', file.items, list(ITEMS)).map((item, i) => {
    const at = (name) => `items[${i}].${name}`;
    check(at(''), item, plain);
    const frame = frameOf(item.frame, found, at('frame'));
    if (item.reading !== null) readings.set(frameKey(frame, colour, forms), readingOf(item.reading, at('reading')));
    return {id: i + 1, frame, chosen: check(at('chosen'), item.chosen, (v) => v === null || string(LONGEST.chosen)(v) && v.length > 0),
      note: check(at('note'), item.note, string(LONGEST.note))};
  });
  return {page: found, state: {items, manual: check('manual', file.manual, boolean), colour, forms}, readings};
}

/** Of a server's answer, what is kept: {verdict, familiarity, note, candidates, drawings: the best of each kanji}. */
export function slim(answer) {
  const drawings = new Map();
  for (const {character, paths} of answer.drawings) if (!drawings.has(character)) drawings.set(character, {character, strokes: paths});
  return readingOf({verdict: answer.verdict, familiarity: answer.familiarity ?? null, note: answer.note ?? '',
    candidates: answer.candidates, drawings: [...drawings.values()]}, 'answer');
}

function readingOf(value, at) {
  check(at, value, plain);
  return {
    verdict: check(`${at}.verdict`, value.verdict, string(40)),
    familiarity: check(`${at}.familiarity`, value.familiarity, (v) => v === null || share(v)),
    note: check(`${at}.note`, value.note, string(1000)),
    candidates: check(`${at}.candidates`, value.candidates, list(CANDIDATES)).map((one, i) => {
      check(`${at}.candidates[${i}]`, one, plain);
      const forms = check(`${at}.candidates[${i}].forms`, one.forms ?? [], list(CANDIDATES)).map(formOf).filter(Boolean);
      return {character: check(`${at}.candidates[${i}].character`, one.character, character),
        probability: check(`${at}.candidates[${i}].probability`, one.probability, share),
        ...(forms.length ? {forms} : {})};
    }),
    drawings: check(`${at}.drawings`, value.drawings, list(DRAWINGS)).map((one, i) => {
      check(`${at}.drawings[${i}]`, one, plain);
      return {character: check(`${at}.drawings[${i}].character`, one.character, character),
        strokes: check(`${at}.drawings[${i}].strokes`, one.strokes, list(STROKES)).map((d) => check(`${at}.drawings[${i}].strokes`, d, path))};
    }),
  };
}

/** Another form of a candidate, as a character; whether it is given alone or with more beside it. null: nothing to show. */
function formOf(form) {
  const text = typeof form === 'string' ? form : form?.character;
  return character(text) ? text : null;
}

function frameOf(value, {width, height}, at) {
  const {left, top, right, bottom} = check(at, value, plain);
  check(at, [left, top, right, bottom].every(Number.isInteger) && left >= 0 && top >= 0 && right <= width && bottom <= height
    && left < right && top < bottom, Boolean);
  return {left, top, right, bottom};
}

function check(name, value, right) {
  if (!right(value)) throw new NotSaved('saved-field', {name: name.replace(/\.$/, '')});
  return value;
}

const plain = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);
const string = (most) => (v) => typeof v === 'string' && v.length <= most;
const whole = (low, high) => (v) => Number.isInteger(v) && v >= low && v <= high;
const boolean = (v) => typeof v === 'boolean';
const list = (most) => (v) => Array.isArray(v) && v.length <= most;
const share = (v) => typeof v === 'number' && v >= 0 && v <= 1;
const character = (v) => typeof v === 'string' && v.length > 0 && v.length <= 16;
// Nothing but the letters and numbers of path data: it is written into files as it is.
const path = (v) => typeof v === 'string' && v.length <= LONGEST.path && /^[Mm][MmLlCcSsQqTtHhVvZz0-9eE.,+\- ]*$/.test(v);
