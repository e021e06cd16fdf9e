// The two ways to search: the C library as WebAssembly with SIMD, and plain JavaScript.
// A kernel takes a puzzle, of an algorithm that is its own, and returns search(part, first, count): a
// nonce, or -1.
import { javascript } from "./sha256.js";

const OK = 0;

/** The kernels that run here, best first, by name. */
export function kernels(module) {
  const found = { js: javascript };
  const exports = module && instantiate(module);
  return exports ? { wasm: (puzzle) => webassembly(exports, puzzle), ...found } : found;
}

/** Null where the engine, its policy or the self-test says no. */
function instantiate(module) {
  try {
    const { exports } = new WebAssembly.Instance(module);
    return exports.setup(1, 1n, 1) === OK ? exports : null;
  } catch {
    return null;
  }
}

function webassembly({ memory, seed, setup, search, nonce }, puzzle) {
  const { algorithm, work, parts } = puzzle;
  if (setup(algorithm, work, parts) !== OK) throw new Error("wrong answers in this engine");
  return (part, first, count) => {
    // the instance holds one puzzle, and other searches have had their turns since
    new Uint8Array(memory.buffer, seed(), 32).set(puzzle.seed);
    setup(algorithm, work, parts);
    return search(part, BigInt(first), BigInt(count)) === OK ? Number(nonce()) : -1;
  };
}
