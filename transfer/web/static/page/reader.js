// Readings in the background: one frame after another is sent to the engine, the newest last, each only once.
import {Refused} from '../api.js';
import {transfer} from '../engine.js';
import {strokesOf} from '../paper.js';
import {slim} from './saved.js';
import {toRead} from './source.js';

const AT_ONCE = 2; // requests: one is worked on, the next is there when it is done
const SETTINGS = {seed: 0, samples: 10, top: 10};

export class Reader {
  /** read(key, reading) and failed(key, error) are called as answers come; begun() as anything changes. */
  constructor({read, failed, begun}) {
    Object.assign(this, {read, failed, begun});
    this.clear();
  }

  clear() {
    this.stop?.abort();
    this.stop = new AbortController();
    this.queue = [];
    this.running = new Map();
    this.broken = new Map();
  }

  state(key) {
    return this.broken.has(key) ? 'failed' : this.running.has(key) || this.queue.some((job) => job.key === key) ? 'reading' : '';
  }

  /** Asks for the reading of a frame of a page. */
  ask(key, page, frame, colour, forms = 'as-read') {
    if (this.state(key) === 'reading') return;
    this.broken.delete(key);
    this.queue.push({key, page, frame, colour, forms});
    this.next();
  }

  /** Frames that are gone are not read. */
  only(keys) {
    this.queue = this.queue.filter((job) => keys.has(job.key));
  }

  next() {
    while (this.running.size < AT_ONCE && this.queue.length) this.work(this.queue.shift());
    this.begun();
  }

  async work({key, page, frame, colour, forms}) {
    const {signal} = this.stop;
    this.running.set(key, true);
    try {
      const answer = await transfer(await toRead(page, frame, colour), {...SETTINGS, forms}, signal, () => {});
      if (signal.aborted) return;
      for (const drawing of answer.drawings) drawing.paths = strokesOf(drawing.svg);
      this.read(key, slim(answer));
    } catch (error) {
      if (signal.aborted) return;
      this.broken.set(key, error);
      this.failed(key, error instanceof Refused ? error : new Refused('error-other'));
      if (!(error instanceof Refused)) console.error(error);
    } finally {
      if (!signal.aborted) {
        this.running.delete(key);
        this.next();
      }
    }
  }
}
