// The picture with a frame over it: dragged by its corners or as a whole, drawn anew, or moved by keys.
import {say} from './language.js';

const SMALLEST = 8; // picture pixels a side
const LARGEST_SENT = 2048; // picture pixels a side of a crop that is sent
const SIDES = {nw: ['left', 'top'], ne: ['right', 'top'], sw: ['left', 'bottom'], se: ['right', 'bottom']};

export class Crop {
  /** changed(before) is called after each finished change by the reader, with the frame from before it. */
  constructor({stage, canvas, box, used, status}, changed) {
    Object.assign(this, {stage, canvas, box, used, status, changed});
    stage.addEventListener('pointerdown', (event) => this.grab(event));
    box.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.place()).observe(canvas);
  }

  /** bitmap: ImageBitmap or canvas; frame: {left, top, right, bottom} in its pixels, null for all of it. */
  show(bitmap, frame = null, name = '') {
    this.bitmap = bitmap;
    const scale = Math.min(1, 1200 / Math.max(bitmap.width, bitmap.height));
    this.canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    this.canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    this.canvas.classList.toggle('sharp', bitmap.width <= 64);
    // Large enough to work on, small enough to see at once.
    this.stage.style.setProperty('--shape', bitmap.width / bitmap.height);
    this.canvas.getContext('2d').drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    this.name(name);
    this.frame = frame ?? this.all();
    this.place();
  }

  /** What the picture is called by a screen reader. */
  name(name) {
    this.canvas.setAttribute('aria-label', say('view', {name}));
  }

  all() {
    return {left: 0, top: 0, right: this.bitmap.width, bottom: this.bitmap.height};
  }

  whole() {
    const {left, top, right, bottom} = this.frame;
    return left === 0 && top === 0 && right === this.bitmap.width && bottom === this.bitmap.height;
  }

  /** Where `blob` lies in the picture, and its size to the picture's. */
  cut() {
    const {left, top, right, bottom} = this.frame;
    return {left, top, scale: Math.min(1, LARGEST_SENT / Math.max(right - left, bottom - top))};
  }

  /** Shows what was read, a frame in picture pixels; null for nothing to show. */
  mark(frame) {
    this.used.hidden = !frame;
    if (frame) this.lay(this.used, frame);
  }

  /** The framed part as a PNG. */
  blob() {
    const {left, top, right, bottom} = this.frame;
    const [width, height] = [right - left, bottom - top];
    const {scale} = this.cut();
    const part = document.createElement('canvas');
    part.width = Math.max(1, Math.round(width * scale));
    part.height = Math.max(1, Math.round(height * scale));
    const context = part.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.bitmap, left, top, width, height, 0, 0, part.width, part.height);
    return new Promise((resolve) => part.toBlob(resolve, 'image/png'));
  }

  place() {
    if (!this.bitmap) return;
    this.lay(this.box, this.frame);
    this.stage.classList.toggle('full', this.whole());
  }

  lay({style}, {left, top, right, bottom}) {
    const {width, height} = this.bitmap;
    style.left = `${100 * left / width}%`;
    style.top = `${100 * top / height}%`;
    style.width = `${100 * (right - left) / width}%`;
    style.height = `${100 * (bottom - top) / height}%`;
  }

  tell() {
    const {left, top, right, bottom} = this.frame;
    this.status.textContent = say('crop-now', {left, top, width: right - left, height: bottom - top,
      'full-width': this.bitmap.width, 'full-height': this.bitmap.height});
  }

  set(frame) {
    const {width, height} = this.bitmap;
    this.frame = {left: clamp(frame.left, 0, width), top: clamp(frame.top, 0, height),
      right: clamp(frame.right, 0, width), bottom: clamp(frame.bottom, 0, height)};
    this.place();
  }

  /** Picture pixels under the pointer. */
  at(event) {
    const area = this.canvas.getBoundingClientRect();
    return {x: Math.round(clamp((event.clientX - area.left) / area.width, 0, 1) * this.bitmap.width),
      y: Math.round(clamp((event.clientY - area.top) / area.height, 0, 1) * this.bitmap.height)};
  }

  grab(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const corner = event.target.dataset.corner;
    const inside = event.target === this.box && !this.whole();
    // On a phone the page is scrolled by the picture while nothing is framed; a frame is then made from the corners.
    if (!corner && !inside && event.pointerType === 'touch') return;
    const start = this.at(event), from = {...this.frame};
    const move = (now) => {
      const {x, y} = this.at(now);
      if (corner) this.pull(from, corner, x - start.x, y - start.y);
      else if (inside) this.shift(from, x - start.x, y - start.y);
      else if (Math.min(Math.abs(x - start.x), Math.abs(y - start.y)) >= this.smallest()) {
        this.set({left: Math.min(x, start.x), right: Math.max(x, start.x), top: Math.min(y, start.y), bottom: Math.max(y, start.y)});
      }
    };
    const done = () => {
      this.stage.removeEventListener('pointermove', move);
      this.stage.removeEventListener('pointerup', done);
      this.stage.removeEventListener('pointercancel', done);
      if (same(from, this.frame)) return;
      this.tell();
      this.changed(from);
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener('pointermove', move);
    this.stage.addEventListener('pointerup', done);
    this.stage.addEventListener('pointercancel', done);
    event.preventDefault();
    (corner ? event.target : this.box).focus({preventScroll: true, focusVisible: false});
  }

  smallest() {
    return Math.min(SMALLEST, this.bitmap.width, this.bitmap.height);
  }

  shift(from, x, y) {
    const {width, height} = this.bitmap;
    x = clamp(x, -from.left, width - from.right);
    y = clamp(y, -from.top, height - from.bottom);
    this.set({left: from.left + x, right: from.right + x, top: from.top + y, bottom: from.bottom + y});
  }

  pull(from, corner, x, y) {
    const [side, edge] = SIDES[corner], least = this.smallest(), frame = {...from};
    frame[side] = side === 'left' ? Math.min(from.left + x, from.right - least) : Math.max(from.right + x, from.left + least);
    frame[edge] = edge === 'top' ? Math.min(from.top + y, from.bottom - least) : Math.max(from.bottom + y, from.top + least);
    this.set(frame);
  }

  key(event) {
    const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(Math.max(this.bitmap.width, this.bitmap.height) / 50));
    const from = {...this.frame}, [x, y] = way.map((v) => v * step);
    const corner = event.target.dataset.corner;
    if (corner) this.pull(from, corner, x, y);
    else if (event.shiftKey) this.pull(from, 'se', x, y);
    else this.shift(from, x, y);
    if (same(from, this.frame)) return;
    this.tell();
    this.changed(from);
  }
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const same = (a, b) => ['left', 'top', 'right', 'bottom'].every((side) => a[side] === b[side]);
