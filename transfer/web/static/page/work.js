// The work on a page: what was framed, what the reader chose, the way back and forth. No DOM: runs under node as well.
//
// A state is never changed, only replaced: {items: [{id, frame, chosen, note}], manual, colour}. frame: {left, top, right, bottom} in
// the page's pixels; chosen: what the reader took or typed, null for the first candidate; manual: whether items stand in an order made
// by hand; colour: whether colour is taken out before reading; forms: which form of a kanji leads ('as-read', 'modern' or 'old'). Readings
// stand apart, by frame, as they are no doing of the reader.

const REMEMBERED = 500; // steps back

export class Work {
  /** changed() is called after every change. */
  constructor(changed = () => {}) {
    this.changed = changed;
    this.reset();
  }

  reset(state = {items: [], manual: false, colour: true, forms: 'as-read'}, readings = new Map()) {
    this.state = state;
    this.readings = readings;
    this.past = [];
    this.future = [];
    this.last = Math.max(0, ...state.items.map(({id}) => id));
    this.changed();
  }

  /** The next state; the one before can be come back to. */
  set(state) {
    this.past.push(this.state);
    if (this.past.length > REMEMBERED) this.past.shift();
    this.future = [];
    this.state = state;
    this.changed();
  }

  undo() {
    return this.step(this.past, this.future);
  }

  redo() {
    return this.step(this.future, this.past);
  }

  step(from, to) {
    if (!from.length) return false;
    to.push(this.state);
    this.state = from.pop();
    this.changed();
    return true;
  }

  find(id) {
    return this.state.items.find((item) => item.id === id);
  }

  /** Adds a frame in its place in reading order; returns its id. */
  add(frame) {
    const item = {id: ++this.last, frame, chosen: null, note: ''};
    const {items, manual} = this.state;
    let next = inOrder([...items, item]);
    if (manual) {
      // An order by hand stays; the new one comes after the one that it follows on the page.
      const before = next[next.indexOf(item) - 1];
      next = [...items];
      next.splice(before ? items.indexOf(before) + 1 : 0, 0, item);
    }
    this.set({...this.state, items: next});
    return item.id;
  }

  /** Changes fields of one item. */
  edit(id, fields) {
    const items = this.state.items.map((item) => (item.id === id ? {...item, ...fields} : item));
    this.set({...this.state, items: fields.frame && !this.state.manual ? inOrder(items) : items});
  }

  remove(id) {
    this.set({...this.state, items: this.state.items.filter((item) => item.id !== id)});
  }

  /** Moves an item by `places` in the list; the order is made by hand from then on. */
  move(id, places) {
    const items = [...this.state.items], at = items.findIndex((item) => item.id === id);
    const to = Math.min(Math.max(at + places, 0), items.length - 1);
    if (at < 0 || to === at) return false;
    items.splice(to, 0, ...items.splice(at, 1));
    this.set({...this.state, items, manual: true});
    return true;
  }

  /** The order of columns from right to left again. */
  sort() {
    this.set({...this.state, items: inOrder(this.state.items), manual: false});
  }

  reading(item) {
    return this.readings.get(this.key(item));
  }

  key({frame}) {
    return frameKey(frame, this.state.colour, this.state.forms);
  }

  /** What stands in the text for an item: the reader's choice, else the first candidate, else a geta mark. */
  text(item) {
    return item.chosen ?? this.reading(item)?.candidates?.[0]?.character ?? '〓';
  }
}

export function frameKey({left, top, right, bottom}, colour, forms = 'as-read') {
  return [left, top, right, bottom, colour ? 1 : 0, ...(forms === 'as-read' ? [] : [forms])].join(' ');
}

// ---- Reading order

/** Columns of items, from right to left, each from top to bottom. */
export function columnsOf(items) {
  const columns = [];
  // Wide frames first: narrow ones, as of one dot, then find their column.
  for (const item of [...items].sort((a, b) => wide(b) - wide(a))) {
    const {left, right} = item.frame, middle = (left + right) / 2;
    const home = columns.filter((column) => Math.abs(middle - column.middle) < 0.5 * column.width)
      .sort((a, b) => Math.abs(middle - a.middle) - Math.abs(middle - b.middle))[0];
    if (!home) columns.push({items: [item], middle, width: right - left, left, right});
    else {
      home.items.push(item);
      // Columns lean; their middle is that of all that stands in them.
      home.middle += (middle - home.middle) / home.items.length;
    }
  }
  columns.sort((a, b) => b.middle - a.middle);
  for (const column of columns) column.items.sort((a, b) => a.frame.top + a.frame.bottom - b.frame.top - b.frame.bottom);
  return columns.map((column) => column.items);
}

const wide = ({frame}) => frame.right - frame.left;

export function inOrder(items) {
  return columnsOf(items).flat();
}

// ---- What is given out

/** The text in reading order, a line for each column. */
export function textOf(work) {
  const column = new Map(columnsOf(work.state.items).flatMap((items, n) => items.map((item) => [item.id, n])));
  let text = '', last = null;
  for (const item of work.state.items) {
    const here = column.get(item.id);
    if (last !== null && here !== last) text += '\n';
    text += work.text(item);
    last = here;
  }
  return text && `${text}\n`;
}

/** Rows of a table: names first. */
function rows(work) {
  const names = ['number', 'reading', 'code_point', 'by', 'probability', 'verdict', 'candidates', 'left', 'top', 'right', 'bottom', 'note'];
  return [names, ...work.state.items.map((item, i) => {
    const reading = work.reading(item), text = work.text(item), {left, top, right, bottom} = item.frame;
    const found = reading?.candidates?.find(({character}) => character === text);
    return [i + 1, text, codePoints(text), item.chosen === null ? 'model' : 'reader', found?.probability ?? '', reading?.verdict ?? '',
      (reading?.candidates ?? []).map(({character}) => character).join(' '), left, top, right, bottom, item.note];
  })];
}

// A spreadsheet runs what begins like a formula.
const harmless = (cell) => (typeof cell === 'string' && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell));

export function tsvOf(work) {
  return rows(work).map((row) => row.map((cell) => harmless(cell).replace(/[\t\r\n]+/g, ' ')).join('\t')).join('\n') + '\n';
}

export function csvOf(work) {
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return '\ufeff' + rows(work).map((row) => row.map((cell) => quoted(harmless(cell))).join(',')).join('\r\n') + '\r\n';
}

/** [[name, text]] of an SVG for each character that was drawn. */
export function svgsOf(work) {
  const files = [];
  work.state.items.forEach((item, i) => {
    const drawing = drawingOf(work, item);
    if (drawing) files.push([`${String(i + 1).padStart(3, '0')}_${codePoints(drawing.character)}.svg`, svgOf(drawing)]);
  });
  return files;
}

/** The drawing to show for an item: of what was chosen where there is one, else the best. */
export function drawingOf(work, item) {
  const drawings = work.reading(item)?.drawings ?? [];
  return drawings.find(({character}) => character === work.text(item)) ?? drawings[0] ?? null;
}

/** A drawing {character, strokes: [path data]} in KanjiVG's structure. */
export function svgOf({character, strokes}) {
  const code = character.codePointAt(0).toString(16).padStart(5, '0');
  const paths = strokes.map((d, i) => `   <path id="kvg:${code}-s${i + 1}" d="${d}"/>\n`).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:kvg="http://kanjivg.tagaini.net" width="109" height="109" viewBox="0 0 109 109">
 <g id="kvg:StrokePaths_${code}" style="fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round;">
  <g id="kvg:${code}" kvg:element="${character.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)}">
${paths}  </g>
 </g>
</svg>
`;
}

export function codePoints(text) {
  return [...text].map((c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`).join(' ').slice(0, 80);
}
