// Which language the page speaks, and every text in it.
import {place} from './engine.js';
import en from './strings/en.js';
import glossary from './strings/glossary.js';
import ja from './strings/ja.js';

const LANGUAGES = {en, ja};
const KEPT = 'kuzushiji-language';
let current = 'en';

export function language() {
  return current;
}

/** The text named `key`, or the one that this engine has in its place (foot-browser for foot), with {names} filled in from `values`. */
export function say(key, values = {}) {
  const texts = LANGUAGES[current];
  return (texts[`${key}-${place}`] ?? texts[key]).replace(/\{([a-z-]+)\}/g, (_, name) => values[name]);
}

/** The language chosen here before, else the first of the browser's that there is. */
export function preferred() {
  const chosen = kept();
  const wanted = [chosen, ...navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase())];
  return wanted.find((tag) => tag in LANGUAGES) ?? 'en';
}

export function speak(tag, keep = false) {
  current = tag;
  document.documentElement.lang = tag;
  document.title = say(document.body.dataset.title ?? 'title');
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = say(element.dataset.t);
  for (const element of document.querySelectorAll('[data-t-label]')) element.setAttribute('aria-label', say(element.dataset.tLabel));
  for (const list of document.querySelectorAll('[data-glossary]')) list.replaceChildren(...glossary.map(entry));
  for (const button of document.querySelectorAll('[data-language]')) button.setAttribute('aria-pressed', button.dataset.language === tag);
  try {
    if (keep) localStorage.setItem(KEPT, tag);
  } catch { /* private windows refuse; the choice then lasts as long as the page */ }
}

/** A word of the glossary: the term, the same in the other language, and its meaning. */
function entry(word) {
  const other = current === 'en' ? 'ja' : 'en';
  const made = (name, text) => Object.assign(document.createElement(name), {textContent: text});
  const group = document.createElement('div');
  const term = made('dt', `${word[current].term} `);
  term.append(Object.assign(made('span', word[other].term), {lang: other}));
  group.append(term, made('dd', word[current].meaning));
  return group;
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/** The languages' buttons; changed() puts the words that a page sets itself. */
export function listen(changed) {
  for (const button of document.querySelectorAll('[data-language]')) {
    button.addEventListener('click', () => {
      speak(button.dataset.language, true);
      changed();
    });
  }
}
