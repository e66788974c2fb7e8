// The page on a canvas: zoomed and moved by mouse, fingers and keys, with the frames as buttons over it.
import {say} from '../language.js';

const NEAREST = 12; // screen pixels of a page's pixel, at most
const STILL = 5; // screen pixels that a click may move
const LEAST = 6; // page pixels a side of a frame
const SIDES = {nw: ['left', 'top'], ne: ['right', 'top'], sw: ['left', 'bottom'], se: ['right', 'bottom']};
const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const within = ({left, top, right, bottom}, {px, py}) => px >= left && px < right && py >= top && py < bottom;

export class Viewer {
  /** clicked(x, y), drawn(frame), selected(id), adjusted(id, frame), removed(id) are called for what the reader does, in page pixels. */
  constructor({stage, canvas, marks, cross}, does) {
    Object.assign(this, {stage, canvas, marks, cross, does});
    this.page = null;
    this.items = [];
    this.chosen = null;
    this.byHand = false;
    this.step = 20;
    this.fingers = new Map();
    new ResizeObserver(() => this.resize()).observe(stage);
    stage.addEventListener('pointerdown', (event) => this.down(event));
    stage.addEventListener('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) stage.addEventListener(name, (event) => this.up(event));
    stage.addEventListener('wheel', (event) => this.wheel(event), {passive: false});
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => this.aim());
    canvas.addEventListener('blur', () => this.aim());
    marks.addEventListener('keydown', (event) => this.markKey(event));
    marks.addEventListener('click', (event) => {
      // Clicks of the keyboard and of screen readers; the pointer's are seen by `up`.
      const mark = event.target.closest('.mark');
      if (mark && event.detail === 0 && !event.target.dataset.corner) this.does.selected(Number(mark.dataset.id));
    });
  }

  /** page: {bitmap, small, ink: canvas or null, width, height}; null for none. */
  show(page) {
    this.page = page;
    this.cursor = page && {x: page.width / 2, y: page.height / 2};
    this.fit();
  }

  fit() {
    if (!this.page) return this.draw();
    const {clientWidth: w, clientHeight: h} = this.stage;
    this.scale = this.least = Math.min(w / this.page.width, h / this.page.height) || 1;
    this.x = (w - this.scale * this.page.width) / 2;
    this.y = (h - this.scale * this.page.height) / 2;
    this.draw();
  }

  resize() {
    const ratio = devicePixelRatio || 1, {clientWidth: w, clientHeight: h} = this.stage;
    if (!w || !h) return;
    const whole = this.page && this.scale <= this.least * 1.001;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    if (!this.page) return;
    this.least = Math.min(w / this.page.width, h / this.page.height);
    if (whole) this.fit();
    else this.draw();
  }

  /** Frames to show: [{id, frame, label, text}], and which is chosen. */
  put(items, chosen) {
    this.items = items;
    this.chosen = chosen;
    const old = new Map([...this.marks.children].map((mark) => [Number(mark.dataset.id), mark]));
    const wanted = items.map((item, i) => {
      const mark = old.get(item.id) ?? this.mark(item.id);
      old.delete(item.id);
      mark.dataset.n = i + 1;
      mark.firstChild.setAttribute('aria-label', item.label);
      mark.firstChild.setAttribute('aria-pressed', item.id === chosen);
      mark.classList.toggle('chosen', item.id === chosen);
      for (const corner of mark.querySelectorAll('.corner')) corner.hidden = item.id !== chosen;
      return mark;
    });
    for (const mark of old.values()) mark.remove();
    wanted.forEach((mark, i) => {
      if (this.marks.children[i] !== mark) this.marks.insertBefore(mark, this.marks.children[i] ?? null);
    });
    this.place();
  }

  mark(id) {
    const mark = document.createElement('div');
    mark.className = 'mark';
    mark.dataset.id = id;
    const body = document.createElement('button');
    body.type = 'button';
    body.className = 'body';
    mark.append(body, ...Object.keys(SIDES).map((name) => {
      const corner = document.createElement('button');
      corner.type = 'button';
      corner.className = `corner ${name}`;
      corner.dataset.corner = name;
      corner.dataset.tLabel = `corner-${name}`;
      corner.setAttribute('aria-label', say(`corner-${name}`));
      return corner;
    }));
    return mark;
  }

  // ---- Drawing

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.paint();
      this.place();
      this.aim();
    });
  }

  paint() {
    const context = this.canvas.getContext('2d'), ratio = this.canvas.width / Math.max(1, this.stage.clientWidth);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.page) return;
    const {bitmap, small, ink, width, height} = this.page, {scale} = this;
    context.imageSmoothingEnabled = scale * ratio < 3;
    context.imageSmoothingQuality = 'high';
    const source = ink && this.asInk ? ink : scale * ratio <= small.width / width ? small : bitmap;
    // Only what is seen is drawn: a page of 100 million pixels moves as fast as a small one.
    const left = clamp(-this.x / scale, 0, width), top = clamp(-this.y / scale, 0, height);
    const right = clamp((this.stage.clientWidth - this.x) / scale, 0, width);
    const bottom = clamp((this.stage.clientHeight - this.y) / scale, 0, height);
    if (right <= left || bottom <= top) return;
    const k = source.width / width, l = source.height / height;
    context.drawImage(source, left * k, top * l, (right - left) * k, (bottom - top) * l,
      (this.x + left * scale) * ratio, (this.y + top * scale) * ratio, (right - left) * scale * ratio, (bottom - top) * scale * ratio);
  }

  place() {
    if (!this.page) return;
    this.items.forEach(({frame}, i) => {
      const {style} = this.marks.children[i];
      style.left = `${this.x + frame.left * this.scale}px`;
      style.top = `${this.y + frame.top * this.scale}px`;
      style.width = `${(frame.right - frame.left) * this.scale}px`;
      style.height = `${(frame.bottom - frame.top) * this.scale}px`;
    });
  }

  /** The cross that keys move, while the page has the focus from the keyboard. */
  aim() {
    this.cross.hidden = !this.page || !this.canvas.matches(':focus-visible');
    if (this.cross.hidden) return;
    this.cross.style.left = `${this.x + this.cursor.x * this.scale}px`;
    this.cross.style.top = `${this.y + this.cursor.y * this.scale}px`;
  }

  // ---- Zoom and way

  /** Zooms by `factor`; what is at screen x, y of the stage stays there. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.page) return;
    const scale = clamp(this.scale * factor, this.least * 0.8, NEAREST);
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.hold();
  }

  shift(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.hold();
  }

  /** Some of the page stays in sight. */
  hold() {
    const {clientWidth: w, clientHeight: h} = this.stage;
    this.x = clamp(this.x, 60 - this.scale * this.page.width, w - 60);
    this.y = clamp(this.y, 60 - this.scale * this.page.height, h - 60);
    this.draw();
  }

  /** Brings a frame into sight. */
  reveal({left, top, right, bottom}, margin = 30) {
    const {clientWidth: w, clientHeight: h} = this.stage, {scale} = this;
    const dx = Math.max(0, margin - (this.x + left * scale)) || Math.min(0, w - margin - (this.x + right * scale));
    const dy = Math.max(0, margin - (this.y + top * scale)) || Math.min(0, h - margin - (this.y + bottom * scale));
    if (dx || dy) this.shift(dx, dy);
  }

  at(event) {
    const area = this.stage.getBoundingClientRect();
    const x = event.clientX - area.left - this.stage.clientLeft, y = event.clientY - area.top - this.stage.clientTop;
    return {x, y, px: (x - this.x) / this.scale, py: (y - this.y) / this.scale};
  }

  wheel(event) {
    if (!this.page) return;
    event.preventDefault();
    const {x, y} = this.at(event);
    this.zoom(Math.exp(-clamp(event.deltaY * (event.deltaMode ? 20 : 1), -240, 240) / 300), x, y);
  }

  // ---- Pointers

  down(event) {
    if (!this.page || event.button > 1 || event.target.closest('#zooms')) return;
    const at = this.at(event);
    this.fingers.set(event.pointerId, at);
    this.stage.setPointerCapture(event.pointerId);
    if (this.fingers.size > 1) {
      // The second finger: no click, no frame, but zoom.
      this.restore();
      this.doing = {kind: 'pinch'};
      return;
    }
    const mark = event.target.closest('.mark'), id = mark && Number(mark.dataset.id), item = this.items.find((one) => one.id === id);
    const {corner} = event.target.dataset;
    const kind = corner ? 'pull' : this.byHand || event.shiftKey ? 'draw' : item && id === this.chosen ? 'carry' : 'pan';
    this.doing = {kind, corner, item, from: at, last: at, frame: item?.frame, moved: false};
    event.preventDefault();
    (corner ? event.target : this.canvas).focus({preventScroll: true, focusVisible: false});
  }

  move(event) {
    if (!this.fingers.has(event.pointerId) || !this.doing) return;
    const at = this.at(event), {doing} = this;
    if (doing.kind === 'pinch') {
      const before = [...this.fingers.values()].slice(0, 2);
      this.fingers.set(event.pointerId, at);
      const after = [...this.fingers.values()].slice(0, 2);
      if (after.length < 2) return;
      const spread = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y) || 1, middle = ([a, b]) => ({x: (a.x + b.x) / 2, y: (a.y + b.y) / 2});
      const to = middle(after), from = middle(before);
      this.shift(to.x - from.x, to.y - from.y);
      this.zoom(spread(after) / spread(before), to.x, to.y);
      return;
    }
    this.fingers.set(event.pointerId, at);
    if (!doing.moved && Math.hypot(at.x - doing.from.x, at.y - doing.from.y) < STILL) return;
    doing.moved = true;
    if (doing.kind === 'pan') this.shift(at.x - doing.last.x, at.y - doing.last.y);
    else if (doing.kind === 'pull') this.preview(doing.item, this.pulled(doing.frame, doing.corner, this.way(doing, at)));
    else if (doing.kind === 'carry') this.preview(doing.item, this.carried(doing.frame, this.way(doing, at)));
    else this.rubber(doing, at);
    doing.last = at;
  }

  /** From the start of a movement, in page pixels; where the page was moved meanwhile, with it. */
  way(doing, at) {
    return [Math.round((at.x - doing.from.x) / this.scale), Math.round((at.y - doing.from.y) / this.scale)];
  }

  up(event) {
    if (!this.fingers.delete(event.pointerId) || !this.doing) return;
    const {doing} = this, at = this.at(event);
    if (doing.kind === 'pinch') {
      if (!this.fingers.size) this.doing = null;
      return;
    }
    this.doing = null;
    this.stage.querySelector('.rubber')?.remove();
    if (event.type === 'pointercancel') return this.restore(doing);
    if (!doing.moved) {
      // The corners of a small frame reach over its neighbours: a click beside the frame is meant for those.
      const mine = doing.item && (!doing.corner || within(doing.item.frame, at));
      if (mine) this.does.selected(doing.item.id);
      else if (doing.kind !== 'draw' && this.inside(at)) {
        this.cursor = {x: at.px, y: at.py};
        this.does.clicked(at.px, at.py);
      }
    } else if (doing.kind === 'draw') {
      const frame = this.between(doing.from, at);
      if (frame) this.does.drawn(frame);
    } else if (doing.kind !== 'pan' && doing.now) this.does.adjusted(doing.item.id, doing.now);
  }

  inside({px, py}) {
    return px >= 0 && py >= 0 && px < this.page.width && py < this.page.height;
  }

  /** Takes back what is not finished. */
  restore(doing = this.doing) {
    this.stage.querySelector('.rubber')?.remove();
    if (doing?.item) doing.item.frame = doing.frame;
    this.place();
  }

  preview(item, frame) {
    this.doing.now = item.frame = frame;
    this.place();
  }

  rubber(doing, at) {
    const box = this.stage.querySelector('.rubber') ?? this.stage.appendChild(Object.assign(document.createElement('div'), {className: 'rubber'}));
    box.style.left = `${Math.min(doing.from.x, at.x)}px`;
    box.style.top = `${Math.min(doing.from.y, at.y)}px`;
    box.style.width = `${Math.abs(doing.from.x - at.x)}px`;
    box.style.height = `${Math.abs(doing.from.y - at.y)}px`;
  }

  between(a, b) {
    const {width, height} = this.page;
    const frame = {left: clamp(Math.round(Math.min(a.px, b.px)), 0, width), right: clamp(Math.round(Math.max(a.px, b.px)), 0, width),
      top: clamp(Math.round(Math.min(a.py, b.py)), 0, height), bottom: clamp(Math.round(Math.max(a.py, b.py)), 0, height)};
    return frame.right - frame.left >= LEAST && frame.bottom - frame.top >= LEAST ? frame : null;
  }

  carried({left, top, right, bottom}, [dx, dy]) {
    const x = clamp(dx, -left, this.page.width - right), y = clamp(dy, -top, this.page.height - bottom);
    return {left: left + x, top: top + y, right: right + x, bottom: bottom + y};
  }

  pulled(frame, corner, [dx, dy]) {
    const [side, edge] = SIDES[corner], out = {...frame}, {width, height} = this.page;
    out[side] = side === 'left' ? clamp(frame.left + dx, 0, frame.right - LEAST) : clamp(frame.right + dx, frame.left + LEAST, width);
    out[edge] = edge === 'top' ? clamp(frame.top + dy, 0, frame.bottom - LEAST) : clamp(frame.bottom + dy, frame.top + LEAST, height);
    return out;
  }

  // ---- Keys

  key(event) {
    if (!this.page || event.ctrlKey || event.altKey || event.metaKey) return;
    const way = WAYS[event.key], {clientWidth: w, clientHeight: h} = this.stage;
    if (way) {
      const step = event.shiftKey ? 1 : this.step;
      this.cursor = {x: clamp(this.cursor.x + step * way[0], 0, this.page.width - 1), y: clamp(this.cursor.y + step * way[1], 0, this.page.height - 1)};
      this.reveal({left: this.cursor.x, right: this.cursor.x, top: this.cursor.y, bottom: this.cursor.y}, 48);
      this.draw();
    } else if (event.key === 'Enter' || event.key === ' ') this.does.clicked(this.cursor.x, this.cursor.y);
    else if (event.key === '+' || event.key === '=') this.zoom(1.4, this.x + this.cursor.x * this.scale, this.y + this.cursor.y * this.scale);
    else if (event.key === '-') this.zoom(1 / 1.4, this.x + this.cursor.x * this.scale, this.y + this.cursor.y * this.scale);
    else if (event.key === '0') this.fit();
    else if (event.key === 'PageUp') this.shift(0, 0.8 * h);
    else if (event.key === 'PageDown') this.shift(0, -0.8 * h);
    else if (event.key === 'Home') this.shift(0.8 * w, 0);
    else if (event.key === 'End') this.shift(-0.8 * w, 0);
    else return;
    event.preventDefault();
  }

  markKey(event) {
    const mark = event.target.closest('.mark'), id = Number(mark?.dataset.id), item = this.items.find((one) => one.id === id);
    if (!item || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'Delete' || event.key === 'Backspace') {
      event.preventDefault();
      return this.does.removed(id);
    }
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(this.step / 8)), by = way.map((v) => v * step), {corner} = event.target.dataset;
    const frame = corner ? this.pulled(item.frame, corner, by) : event.shiftKey ? this.pulled(item.frame, 'se', by) : this.carried(item.frame, by);
    this.does.adjusted(id, frame);
  }
}
