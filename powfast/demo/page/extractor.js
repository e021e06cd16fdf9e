// Plays somebody who trains a copy: asks about photographs, and pays while it is worth it.
import { ask } from "./model.js";

const QUERIES = 24;
const PAUSE = 350; // milliseconds between queries, so that one can watch

/**
 * Ask about the photographs, from `start` on. `onQuery({image, index, paid})` hears of every query.
 * It gives up before an answer that costs more than `maxWork`.
 */
export async function extract(photographs, { start, maxWork, onQuery, signal }) {
  for (let index = start; index < start + QUERIES; index++) {
    const image = photographs[index % photographs.length];
    let paid = true;
    try {
      await ask(image, { role: "extractor", maxWork, signal });
    } catch (error) {
      if (error.code !== "too-much-work") throw error;
      paid = false;
    }
    onQuery({ image, index: index - start, paid });
    if (!paid) return;
    await pause(signal);
  }
}

function pause(signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, PAUSE);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
