// The big drawing: strokes written one after another, a slider over them, their numbers.
import {say} from './language.js';

const SVG = 'http://www.w3.org/2000/svg';
const SPEED = 0.11; // box units a millisecond
const LIFT = 140; // milliseconds between strokes
const still = matchMedia('(prefers-reduced-motion: reduce)');

/** `d` of every stroke of an SVG in KanjiVG's structure. Not by DOMParser: it runs style attributes past the page's CSP, which objects. */
export function strokesOf(svg) {
  return [...svg.matchAll(/<path\s[^>]*>/g)].map(([tag]) => tag).filter((tag) => /\sid="[^"]*-s\d+"/.test(tag))
    .map((tag) => /\sd="([^"]*)"/.exec(tag)[1]);
}

export function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export class Paper {
  constructor({svg, play, slider, count, numbers}) {
    Object.assign(this, {svg, play, slider, count, numbers});
    this.paths = [];
    this.run = null;
    play.addEventListener('click', () => (this.run ? this.stop() : this.start(this.shown >= this.paths.length ? 0 : this.shown)));
    slider.addEventListener('input', () => this.show(Number(slider.value)));
    numbers.addEventListener('change', () => svg.classList.toggle('numbered', numbers.checked));
    this.words();
  }

  /** Puts a drawing on the paper and writes it, unless the reader wants no motion. */
  put(drawing) {
    this.stop();
    this.drawing = drawing;
    const data = strokesOf(drawing.svg);
    const ghosts = element('g', {class: 'ghosts'}, ...data.map((d) => element('path', {d})));
    this.paths = data.map((d) => element('path', {d}));
    const numbers = element('g', {class: 'numbers', 'aria-hidden': 'true'}, ...drawing.strokes.map(([[x, y]], i) => {
      const at = (v) => Math.min(Math.max(v, 5), 104);
      const number = element('text', {x: at(x - 4), y: at(y - 2)});
      number.textContent = i + 1;
      return number;
    }));
    const guide = element('path', {class: 'guide', d: 'M54.5 3v103M3 54.5h103'});
    this.svg.replaceChildren(guide, ghosts, element('g', {class: 'strokes'}, ...this.paths), numbers);
    this.texts = [...numbers.children];
    this.slider.max = data.length;
    this.words();
    if (still.matches) this.show(data.length);
    else this.start(0);
  }

  /** Texts again, in the language of now. */
  words() {
    this.play.textContent = say(this.run ? 'pause' : 'play');
    if (!this.drawing) return;
    this.svg.setAttribute('aria-label', say('paper', {kanji: this.drawing.character, strokes: this.paths.length}));
    this.tell();
  }

  tell() {
    this.count.textContent = `${this.shown ?? 0} / ${this.paths.length}`;
    this.slider.setAttribute('aria-valuetext', say('stroke-of', {n: this.shown ?? 0, of: this.paths.length}));
  }

  show(number) {
    this.stop();
    this.mark(number);
  }

  mark(number) {
    this.shown = number;
    this.slider.value = number;
    this.paths.forEach((path, i) => path.classList.toggle('unwritten', i >= number));
    this.texts.forEach((text, i) => text.classList.toggle('unwritten', i >= number));
    this.tell();
  }

  stop() {
    this.run?.abort();
    this.run = null;
    this.play.textContent = say('play');
  }

  async start(from) {
    this.stop();
    const run = this.run = new AbortController();
    this.play.textContent = say('pause');
    this.mark(from);
    for (let i = from; i < this.paths.length; i++) {
      await (still.matches ? wait(700, run.signal) : this.write(i, run.signal));
      if (run.signal.aborted) return;
      this.mark(i + 1);
      if (!still.matches) await wait(LIFT, run.signal);
      if (run.signal.aborted) return;
    }
    this.stop();
  }

  /** One stroke, from its start to its end. */
  async write(i, signal) {
    const path = this.paths[i];
    const length = path.getTotalLength();
    path.classList.remove('unwritten');
    path.classList.add('writing');
    // A dash a little longer than the stroke, or its round cap would show at the far end from the beginning.
    const animation = path.animate([{strokeDasharray: `0 ${length + 9}`}, {strokeDasharray: `${length} ${length + 9}`}],
      {duration: Math.max(160, length / SPEED), easing: 'cubic-bezier(.4, 0, .4, 1)', fill: 'both'});
    signal.addEventListener('abort', () => animation.cancel(), {once: true});
    await animation.finished.catch(() => {});
    animation.cancel();
    path.classList.remove('writing');
  }
}

function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, {once: true});
  });
}
