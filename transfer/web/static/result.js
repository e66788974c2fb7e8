// The right-hand side: everything about one answer of the server.
import {language, say} from './language.js';
import {OldHands} from './old_hands.js';
import {Paper, element, strokesOf} from './paper.js';
import {heat, ink, summary} from './pictures.js';

const $ = (id) => document.getElementById(id);
const VERDICTS = {'sure': 'sure', 'not sure': 'not-sure', 'not a kanji': 'not-a-kanji', 'kana': 'kana'};

export class ResultView {
  /** chosen(i) is called when the reader picks drawing i. */
  constructor(chosen) {
    this.chosen = chosen;
    this.paper = new Paper({svg: $('paper'), play: $('play'), slider: $('stroke'), count: $('stroke-count'), numbers: $('numbers')});
    this.urls = [];
    this.hands = new OldHands((answer) => answer === this.answer && this.candidates());
  }

  /** source: name of the picture's file, "" where it has none. */
  show(answer, number = 0, source = '') {
    Object.assign(this, {answer, source});
    $('answer').hidden = false;
    $('waiting').hidden = true;
    this.fill();
    this.choose(number);
    this.hands.ask(answer, answer.candidates.map(({character}) => character).join(''),
      () => [Uint8Array.from(answer.image.flat()), {pixels: 1}]);
  }

  clear() {
    this.paper.stop();
    this.answer = null;
    $('answer').hidden = true;
    $('waiting').hidden = false;
  }

  choose(number) {
    const {answer} = this;
    this.number = number;
    const drawing = answer.drawings[number];
    const radio = $('drawings').querySelectorAll('input')[number];
    radio.checked = true;
    this.paper.put(drawing);
    this.urls.forEach(URL.revokeObjectURL);
    const stem = this.source.replace(/\.[^.]*$/, '') || 'kuzushiji';
    const name = `${stem}-${code(drawing.character)}-seed${answer.seed}`;
    this.urls = [this.offer($('svg'), drawing.svg, 'image/svg+xml', `${name}-${number + 1}.svg`),
      this.offer($('json'), JSON.stringify(answer), 'application/json', `${name}.json`)];
  }

  offer(anchor, text, type, name) {
    anchor.href = URL.createObjectURL(new Blob([text], {type}));
    anchor.download = name;
    return anchor.href;
  }

  /** One sentence for the status line. */
  sentence() {
    const {answer} = this;
    const [best] = answer.candidates, strokes = answer.drawings[this.number].strokes.length;
    const name = VERDICTS[answer.verdict];
    const told = say(strokes === 1 ? 'done-one' : 'done', {kanji: best.character, percent: percent(best.probability), strokes});
    return name && name !== 'sure' ? say('judged', {verdict: say(name), told}) : told;
  }

  /** All but the big drawing; called again when the language or the colour scheme changes. */
  fill() {
    const {answer} = this;
    if (!answer) return;
    const name = VERDICTS[answer.verdict];
    $('verdict').hidden = !name;
    $('verdict').dataset.verdict = name ?? '';
    $('verdict-name').textContent = name ? say(name) : '';
    $('verdict-text').textContent = name ? say(`${name}-text`) : '';
    note($('note'), answer.note);
    this.candidates();
    this.drawings();
    ink($('as-read'), answer.image, 255);
    ink($('predicted'), answer.pixels);
    heat($('uncertain'), answer.pixels, answer.uncertainty);
    const {most, where} = summary(answer.uncertainty);
    $('as-read').setAttribute('aria-label', say('as-read-label'));
    $('predicted').setAttribute('aria-label', say('predicted-label'));
    $('uncertain').setAttribute('aria-label', answer.samples > 1 ? say('uncertain-label', {percent: most, where: say(where)})
      : say('uncertain-none'));
    this.paper.words();
  }

  candidates() {
    const {answer} = this;
    $('candidates').replaceChildren(...answer.candidates.map((one) => candidate(one, this.hands.beside(answer, one.character))));
    $('hands-about').textContent = this.hands.about(answer);
  }

  drawings() {
    const kept = this.number ?? 0;
    $('drawings').replaceChildren(...this.answer.drawings.map((drawing, i) => {
      const radio = document.createElement('input');
      Object.assign(radio, {type: 'radio', name: 'drawing', value: i, checked: i === kept, className: 'sr'});
      radio.setAttribute('aria-label', say('drawing', {n: i + 1, kanji: drawing.character, strokes: drawing.strokes.length}));
      radio.addEventListener('change', () => {
        this.choose(i);
        this.chosen(i);
      });
      const kanji = document.createElement('span');
      kanji.lang = 'ja';
      kanji.textContent = drawing.character;
      const label = document.createElement('label');
      label.append(radio, element('svg', {'viewBox': '0 0 109 109', 'aria-hidden': 'true'},
        ...strokesOf(drawing.svg).map((d) => element('path', {d}))), kanji);
      return label;
    }));
  }
}

/** hands: what old hands wrote of it, or null. */
function candidate({character, code_point, probability, forms = []}, hands) {
  const row = document.createElement('li');
  const part = (name, text) => {
    const made = document.createElement('span');
    made.className = name;
    made.textContent = text;
    row.append(made);
    return made;
  };
  part('kanji', character).lang = 'ja';
  const bar = part('bar', '');
  bar.setAttribute('aria-hidden', 'true');
  const filled = document.createElement('span');
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  part('percent', `${percent(probability)} %`);
  part('code', code_point);
  if (forms.length) {
    const others = part('others', '');
    others.append(say('other-forms'), ' ', ...forms.flatMap((form) => {
      const kanji = Object.assign(document.createElement('span'), {lang: 'ja', textContent: form.character});
      return [kanji, ` ${percent(form.probability)} % `];
    }));
  }
  if (hands) row.append(hands);
  return row;
}

/** The server's notes are English; the ones that are known are told in the page's language. */
function note(line, text) {
  const several = /^used the largest of (\d+) pieces of ink/.exec(text);
  const ended = text.endsWith('the file lacks its end; all of the picture is there');
  const told = [several && say('note-several', {count: several[1]}), ended && say('note-ended')]
    .filter(Boolean);
  line.textContent = told.length ? told.join(' ') : text;
  line.lang = told.length ? language() : 'en';
}

function code(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}

function percent(share) {
  const value = 100 * share;
  return value >= 9.95 ? value.toFixed(0) : value >= 0.05 ? value.toFixed(1) : '< 0.1';
}
