// The worker that frames, asked by promises.
import {part} from './source.js';

const COARSE = 44; // pixels of the reduced page: characters smaller than this are framed once more in full size
const FINE = 80; // pixels that a character is then large
const AROUND = 5; // characters around it that are looked at then

export class Framer {
  constructor() {
    this.worker = new Worker(new URL('./worker.js', import.meta.url), {type: 'module'});
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({data: {id, answer, error}}) => {
      const {resolve, reject} = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(answer);
    };
  }

  ask(ask, values, moved = []) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, {resolve, reject});
      this.worker.postMessage({id, ask, ...values}, moved);
    });
  }

  /** Looks at a page; resolves to {size, shown}: of characters in its pixels, and a raster of its ink. */
  async look(page, colour) {
    const {small} = page, raster = small.getContext('2d').getImageData(0, 0, small.width, small.height);
    const found = await this.ask('page', {raster, colour}, [raster.data.buffer]);
    return {...found, size: found.size * page.width / small.width};
  }

  /** The frame of the character at x, y in whole pixels of the page, and `size`; null on bare paper. */
  async frame(page, x, y, colour) {
    const scale = page.small.width / page.width;
    let found = await this.ask('frame', {x: x * scale, y: y * scale});
    if (!found) return null;
    let {size} = found, box = {left: found.left / scale, top: found.top / scale, right: found.right / scale, bottom: found.bottom / scale};
    size /= scale;
    if (scale < 1 && found.size < COARSE) {
      const finer = Math.min(1, FINE / size), reach = AROUND * size;
      const area = {left: Math.max(0, Math.floor(x - reach)), top: Math.max(0, Math.floor(y - reach)),
        right: Math.min(page.width, Math.ceil(x + reach)), bottom: Math.min(page.height, Math.ceil(y + reach))};
      const raster = part(page, area, finer);
      found = await this.ask('near', {raster, colour, x: (x - area.left) * finer, y: (y - area.top) * finer, size: size * finer}, [raster.data.buffer]);
      if (found) {
        box = {left: area.left + found.left / finer, top: area.top + found.top / finer,
          right: area.left + found.right / finer, bottom: area.top + found.bottom / finer};
      }
    }
    return {frame: {left: Math.max(0, Math.floor(box.left)), top: Math.max(0, Math.floor(box.top)),
      right: Math.min(page.width, Math.ceil(box.right)), bottom: Math.min(page.height, Math.ceil(box.bottom))}, size};
  }
}
