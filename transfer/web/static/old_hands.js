// Old hands beside a candidate: how old hands wrote it, nearest to the picture first. Where the weights have none, nothing is shown.
import {oldHands} from './engine.js';
import {say} from './language.js';

const SHOWN = 4, KEPT = 300; // of a character; pictures whose old hands are kept

export class OldHands {
  /** came() is called when there is more to show. */
  constructor(came) {
    Object.assign(this, {came, known: new Map(), none: false});
  }

  /** Asks once for the characters of the text `of`. key: what names the picture; picture(): [body, settings], see `oldHands` in api.js. */
  async ask(key, of, picture) {
    const before = this.known.get(key);
    const missing = [...new Set(of)].filter((character) => !before?.asked.includes(character)).slice(0, 60).join('');
    if (this.none || !missing) return;
    const kept = before ?? {asked: '', hands: {}, source: null, attribution: ''};
    this.known.set(key, {...kept, asked: kept.asked + missing});
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    try {
      const [body, settings] = await picture();
      const {source, attribution, hands} = await oldHands(body, missing, settings);
      this.none = source === null;
      const now = this.known.get(key);
      if (!now || this.none) return;
      this.known.set(key, {...now, source, attribution, hands: {...now.hands, ...hands}});
      this.came(key);
    } catch {
      this.known.delete(key); // an aid only: asked for again when the character is looked at again
    }
  }

  /** Pictures of a character, null where there are none. */
  beside(key, character) {
    const {hands} = this.known.get(key) ?? {hands: {}};
    const shown = Object.hasOwn(hands, character) ? hands[character].slice(0, SHOWN) : [];
    if (!shown.length) return null;
    const row = document.createElement('span');
    row.className = 'hands';
    row.append(...shown.map((hand, i) => {
      const text = say(hand.painted ? 'hand-painted' : 'hand-image', {kanji: character, n: i + 1, name: hand.name});
      return Object.assign(document.createElement('img'), {src: hand.picture, alt: text, title: text, width: 64, height: 64});
    }));
    return row;
  }

  /** A sentence on what is shown of a picture, "" where nothing is. */
  about(key) {
    const {source, attribution = '', hands = {}} = this.known.get(key) ?? {};
    if (!source || !Object.keys(hands).length) return '';
    if (source !== 'painted') return say('hands-images', {attribution});
    const fonts = Object.values(hands).flat().some(({after}) => after === 'fonts');
    return say('hands-painted') + (fonts ? ` ${say('hands-fonts')}` : '');
  }
}
