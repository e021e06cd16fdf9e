// The drawing area: mouse, pen, finger or keyboard; or a digit that somebody else wrote.
import { normalised } from "./strokes.js";

const STEP = 0.04; // of the side, for one press of an arrow key
const NEAR = 0.012; // of the side: points closer than this to the last one add nothing
const LINE = 0.055; // width of the line
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  #canvas;
  #onChange;
  #strokes = [];
  #sample = null;
  #pen = { at: [0.5, 0.3], down: false, shown: false };

  /** `onChange(grey)` is given the 64 values, or null; `say(text)` speaks of the keyboard's pen. */
  constructor(canvas, onChange, say) {
    this.#canvas = canvas;
    this.#onChange = onChange;
    const on = (name, handle) => canvas.addEventListener(name, handle);
    on("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#pen.down = this.#pen.shown = false;
      this.#begin(this.#place(event));
    });
    on("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.#lead(this.#place(one));
    });
    on("keydown", (event) => this.#key(event, say));
    on("focus", () => this.#showPen(canvas.matches(":focus-visible")));
    on("blur", () => {
      this.#pen.down = false;
      this.#showPen(false);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    this.#draw();
  }

  clear() {
    this.#strokes = [];
    this.#sample = null;
    this.#pen.down = false;
    this.#changed();
  }

  /** Show somebody else's digit, 64 grey values. */
  take(sample) {
    this.#strokes = [];
    this.#sample = sample;
    this.#pen.down = false;
    this.#changed();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(inside);
  }

  #begin(point) {
    this.#sample = null;
    this.#strokes.push([point]);
    this.#changed();
  }

  #lead(point) {
    const path = this.#strokes.at(-1);
    const [x, y] = path.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) < NEAR) return;
    path.push(point);
    this.#changed();
  }

  #key(event, say) {
    const pen = this.#pen;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in ARROWS) {
      pen.at = pen.at.map((at, axis) => inside(at + STEP * ARROWS[event.key][axis]));
      if (pen.down) this.#lead(pen.at);
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) this.#begin(pen.at);
      say(pen.down ? "Pen down." : "Pen lifted.");
    } else if (event.key === "Backspace" || event.key === "Delete") {
      pen.down = false;
      this.#sample = null;
      this.#strokes.pop();
      this.#changed();
      say(this.#strokes.length ? "Last stroke taken back." : "Nothing drawn.");
    } else return;
    event.preventDefault();
    this.#showPen(true);
  }

  #showPen(shown) {
    this.#pen.shown = shown;
    this.#draw();
  }

  #changed() {
    this.#draw();
    this.#onChange(this.#sample ?? (this.#strokes.length ? normalised(this.#strokes) : null));
  }

  #draw() {
    const { width } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    context.clearRect(0, 0, width, width);
    if (this.#sample) paint(context, this.#sample, width / 10, width / 10);
    Object.assign(context, { lineWidth: LINE * width, lineCap: "round", lineJoin: "round" });
    context.strokeStyle = style.color;
    for (const path of this.#strokes) {
      context.beginPath();
      for (const [x, y] of path) context.lineTo(x * width, y * width);
      context.lineTo(path.at(-1)[0] * width, path.at(-1)[1] * width);
      context.stroke();
    }
    if (this.#pen.shown) this.#drawPen(context, width, style.getPropertyValue("--accent"));
  }

  #drawPen(context, width, colour) {
    const [x, y] = this.#pen.at.map((at) => at * width);
    context.beginPath();
    context.arc(x, y, LINE * width, 0, 2 * Math.PI);
    Object.assign(context, { lineWidth: 4, strokeStyle: colour, fillStyle: colour });
    context.stroke();
    if (this.#pen.down) context.fill();
  }
}

const inside = (at) => Math.min(Math.max(at, 0), 1);

/** Paint 64 grey values in the ink of the page, `size` pixels each. */
export function paint(context, grey, size = 1, margin = 0) {
  context.fillStyle = getComputedStyle(document.body).color;
  grey.forEach((value, i) => {
    context.globalAlpha = value;
    context.fillRect(margin + (i % 8) * size, margin + (i >> 3) * size, Math.ceil(size), Math.ceil(size));
  });
  context.globalAlpha = 1;
}

/** Make a small canvas with 64 grey values. */
export function picture(grey) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  repaint(canvas, grey);
  return canvas;
}

/** Paint a small canvas anew; null leaves it empty. */
export function repaint(canvas, grey) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, 8, 8);
  if (grey) paint(context, grey);
}
