// What a worker runs: searches of any number of puzzles, each a slice at a time, in turn.
import { ALGORITHMS } from "./algorithms.js";
import { kernels } from "./kernels.js";

const SLICE = 8; // milliseconds between two looks at the messages
const REPORT = 100; // milliseconds between two reports of progress

/**
 * Return the function that takes a worker's messages, which answers through `post`:
 *
 *   {module}                         once, first; null without WebAssembly
 *   {id, puzzle, index, of, kernel}  search chunks index, index + of, ... of every part
 *   {id, solved: part}               somebody else has found it
 *   {id, stop: true}
 *
 * It posts {ready: kernels}, {id, tried, at} now and then, {id, part, nonce, tried, at} and
 * {id, error}.
 */
export function searcher(post) {
  const searches = new Map();
  let available, running = false;

  async function run() {
    running = true;
    while (searches.size > 0) {
      for (const [id, search] of searches) {
        try {
          search.slice();
        } catch (error) {
          searches.delete(id);
          post({ id, error: String(error) });
        }
        await turn();
      }
    }
    running = false;
  }

  return (message) => {
    if ("module" in message) {
      available = kernels(message.module);
      post({ ready: Object.keys(available) });
    } else if (message.puzzle) {
      const kernel = available[message.kernel] ?? Object.values(available)[0];
      searches.set(message.id, new Search(message, kernel(message.puzzle), post));
      if (!running) run();
    } else if (message.stop) {
      searches.delete(message.id);
    } else {
      searches.get(message.id)?.solved(message.solved);
    }
  };
}

class Search {
  constructor({ id, puzzle, index, of }, search, post) {
    const { parts, algorithm } = puzzle, { chunk } = ALGORITHMS[algorithm];
    Object.assign(this, { id, search, post, size: chunk, stride: of * chunk });
    this.open = Array.from({ length: parts }, (_, part) => part); // parts that nobody has solved
    this.next = new Float64Array(parts).fill(index * chunk); // of each part, where to go on
    this.turn = Math.floor((index * parts) / of); // far from each other; the last parts are shared
    this.tried = 0;
    this.reported = performance.now();
  }

  slice() {
    const end = performance.now() + SLICE;
    while (this.open.length > 0 && performance.now() < end) this.chunk();
    if (performance.now() - this.reported >= REPORT) this.report({});
  }

  chunk() {
    this.turn %= this.open.length;
    const part = this.open[this.turn], first = this.next[part];
    const nonce = this.search(part, first, this.size);
    this.next[part] += this.stride;
    this.tried += nonce < 0 ? this.size : nonce - first + 1;
    if (nonce < 0) return;
    this.open.splice(this.turn, 1);
    this.report({ part, nonce });
  }

  solved(part) {
    const at = this.open.indexOf(part);
    if (at < 0) return;
    this.open.splice(at, 1);
    if (at < this.turn) this.turn--;
  }

  report(found) {
    this.reported = performance.now();
    this.post({ id: this.id, tried: this.tried, at: this.reported, ...found });
    this.tried = 0;
  }
}

/** Let messages in. A timer would wait for milliseconds. */
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
