// What was read: the list in reading order, and everything about the chosen character.
import {say} from '../language.js';
import {OldHands} from '../old_hands.js';
import {Paper, element} from '../paper.js';
import {codePoints, drawingOf, svgOf, textOf} from './work.js';

const $ = (id) => document.getElementById(id);
const VERDICTS = {'sure': 'sure', 'not sure': 'not-sure', 'not a kanji': 'not-a-kanji', 'kana': 'kana'};

export class List {
  /** does: {selected(id), moved(id, places), edited(id, fields), cut(canvas, frame), picture(item) -> what is read of it, state(item) -> 'reading' | 'failed' | ''} */
  constructor(work, does) {
    Object.assign(this, {work, does});
    this.paper = new Paper({svg: $('paper'), play: $('play'), slider: $('stroke'), count: $('stroke-count'), numbers: $('numbers')});
    this.rows = new Map();
    this.hands = new OldHands((key) => this.chosen !== null && key === work.key(work.find(this.chosen) ?? {frame: {}}) && this.detail(false));
    $('typed').addEventListener('change', () => this.type($('typed').value));
    $('remark').addEventListener('change', () => this.does.edited(this.chosen, {note: $('remark').value}));
    $('list').addEventListener('keydown', (event) => {
      const row = event.target.closest('li');
      const places = {ArrowUp: -1, ArrowDown: 1}[event.key];
      if (!row || !places) return;
      event.preventDefault();
      if (event.altKey) this.does.moved(Number(row.dataset.id), places);
      else (places > 0 ? row.nextElementSibling : row.previousElementSibling)?.firstChild.focus();
    });
  }

  put(chosen) {
    const {items} = this.work.state;
    const before = this.chosen;
    this.chosen = chosen;
    $('list-empty').hidden = items.length > 0;
    $('list').hidden = $('list-tools').hidden = !items.length;
    const focused = document.activeElement?.closest?.('#list li')?.dataset.id;
    const rows = items.map((item, i) => this.row(item, i));
    $('list').replaceChildren(...rows);
    this.rows = new Map(items.map((item, i) => [item.id, rows[i]]));
    // A row that was moved keeps the keyboard's place.
    if (focused) this.rows.get(Number(focused))?.firstChild.focus({preventScroll: true});
    $('sort').hidden = !this.work.state.manual;
    $('text').textContent = textOf(this.work);
    this.detail(before !== chosen);
    if (before !== chosen) this.rows.get(chosen)?.scrollIntoView({block: 'nearest'});
  }

  row(item, i) {
    const old = this.rows.get(item.id);
    const row = document.createElement('li');
    row.dataset.id = item.id;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'entry';
    if (item.id === this.chosen) button.setAttribute('aria-current', 'true');
    const reading = this.work.reading(item), text = this.work.text(item), state = this.does.state(item);
    button.setAttribute('aria-label', this.label(item, i));
    const key = Object.values(item.frame).join(' ');
    const kept = old?.querySelector('canvas');
    const cut = kept?.dataset.key === key ? kept : Object.assign(document.createElement('canvas'), {width: 88, height: 88});
    if (cut !== kept) {
      cut.dataset.key = key;
      this.does.cut(cut, item.frame);
    }
    const part = (name, content, lang) => {
      const made = document.createElement('span');
      made.className = name;
      made.append(content);
      if (lang) made.lang = lang;
      return made;
    };
    const drawing = drawingOf(this.work, item);
    const strokes = element('svg', {'viewBox': '0 0 109 109', 'aria-hidden': 'true'}, ...(drawing?.strokes ?? []).map((d) => element('path', {d})));
    button.append(part('n', String(i + 1)), cut, part(item.chosen === null ? 'kanji' : 'kanji taken', reading || item.chosen !== null ? text : '', 'ja'),
      strokes, part('more', state ? say(`state-${state}`) : (reading?.candidates ?? []).slice(0, 5).map(({character}) => character).join(' '), state ? '' : 'ja'));
    if (reading) button.dataset.verdict = reading.verdict;
    if (item.note) button.append(part('noted', item.note));
    button.addEventListener('click', () => this.does.selected(item.id));
    row.append(button);
    return row;
  }

  label(item, i) {
    const state = this.does.state(item);
    if (state) return say('entry-state', {n: i + 1, state: say(`state-${state}`)});
    const name = VERDICTS[this.work.reading(item)?.verdict];
    return say('entry', {n: i + 1, kanji: this.work.text(item), verdict: item.chosen !== null ? say('by-reader') : name ? say(name) : ''});
  }

  detail(anew) {
    const {items} = this.work.state, i = items.findIndex(({id}) => id === this.chosen), item = items[i];
    $('detail').hidden = !item;
    if (!item) return this.paper.stop();
    const reading = this.work.reading(item), text = this.work.text(item);
    $('detail-heading').textContent = say('detail', {n: i + 1, of: items.length});
    this.does.cut($('cut'), item.frame);
    $('cut').setAttribute('aria-label', say('cut', {n: i + 1}));
    const drawing = drawingOf(this.work, item), shown = drawing && JSON.stringify(drawing);
    $('paper').toggleAttribute('hidden', !drawing);
    $('no-strokes').hidden = Boolean(drawing) && drawing.character === text;
    $('no-strokes').textContent = !drawing ? say('no-strokes') : say('strokes-of', {kanji: drawing.character});
    document.querySelector('#detail .player').hidden = $('numbers').parentElement.hidden = !drawing;
    if (shown !== this.shown || anew) {
      if (drawing) this.paper.put({character: drawing.character, svg: svgOf(drawing), strokes: drawing.strokes.map(start)});
      else this.paper.stop();
    }
    this.shown = shown;
    const verdict = reading?.verdict, name = VERDICTS[verdict];
    const state = this.does.state(item);
    $('verdict').textContent = state ? say(`state-${state}`) : !reading ? '' : name ? say('verdict-is', {verdict: say(name), text: say(`${name}-text`)}) : verdict;
    $('verdict').hidden = !reading && !state;
    $('verdict').dataset.verdict = name && !state ? name : '';
    $('verdict').lang = reading && !name && !state ? 'en' : '';
    this.choices(item, reading, text);
    if (document.activeElement !== $('typed')) $('typed').value = item.chosen ?? '';
    if (document.activeElement !== $('remark')) $('remark').value = item.note;
    $('earlier').setAttribute('aria-disabled', i === 0);
    $('later').setAttribute('aria-disabled', i === items.length - 1);
  }

  choices(item, reading, text) {
    const key = this.work.key(item);
    if (reading) {
      const all = reading.candidates.flatMap(({character, forms = []}) => [character, ...forms]);
      this.hands.ask(key, [...all, text].join(''), () => this.does.picture(item));
    }
    const focused = document.activeElement?.name === 'choice' ? document.activeElement.value : null;
    const groups = (reading?.candidates ?? []).map(({character, probability, forms = []}) => {
      const group = document.createElement('div');
      group.className = 'choice';
      // Forms of one kanji (国 and 國) stand side by side: the model says which kanji it is, the reader sees which form.
      group.append(...[character, ...forms.filter((form) => form !== character)]
        .flatMap((form) => [this.choice(item, form, text), this.hands.beside(key, form)].filter(Boolean)));
      const share = document.createElement('span');
      share.className = 'percent';
      share.textContent = `${percent(probability)} %`;
      share.title = codePoints(character);
      group.append(share);
      return group;
    });
    $('choices').replaceChildren(...groups);
    // What the reader typed, too.
    const typed = item.chosen && !groups.some((group) => group.querySelector('input:checked')) && this.hands.beside(key, item.chosen);
    if (typed) $('choices').append(typed);
    $('hands-about').textContent = this.hands.about(key);
    if (focused) $('choices').querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
  }

  choice(item, form, text) {
    const radio = Object.assign(document.createElement('input'), {type: 'radio', name: 'choice', value: form, checked: form === text, className: 'sr'});
    radio.addEventListener('change', () => this.does.edited(item.id, {chosen: form}));
    const label = document.createElement('label'), kanji = document.createElement('span');
    kanji.lang = 'ja';
    kanji.textContent = form;
    label.append(radio, kanji);
    return label;
  }

  type(value) {
    const text = value.normalize('NFC').trim();
    this.does.edited(this.chosen, {chosen: text || null});
  }
}

/** The first point of a path, as the numbers of strokes want it. */
function start(d) {
  const [x = 0, y = 0] = (d.match(/-?[\d.]+/g) ?? []).map(Number);
  return [[x, y]];
}

function percent(share) {
  const value = 100 * share;
  return value >= 9.95 ? value.toFixed(0) : value >= 0.05 ? value.toFixed(1) : '< 0.1';
}
