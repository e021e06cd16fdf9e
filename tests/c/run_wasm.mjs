// Solve the vectors' puzzles with the browser's module, a slice at a time: run_wasm.mjs MODULE VECTORS...
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const [, , modulePath, ...vectorsPaths] = process.argv;
const { instance } = await WebAssembly.instantiate(await readFile(modulePath), {}); // no imports
const { memory, kernel_name, seed, setup, search, nonce } = instance.exports;
const OK = 0, INVALID_ARGUMENT = 1, NOT_FOUND = 2, UNSUPPORTED_ALGORITHM = 21, SLICE = 1000n;

function text(at) {
  const bytes = new Uint8Array(memory.buffer);
  return Buffer.from(bytes.subarray(at, bytes.indexOf(0, at))).toString();
}

let passed = 0;
const puzzles = [];
for (const path of vectorsPaths) {
  const { algorithm = 1, solutions } = JSON.parse(await readFile(path));
  puzzles.push(...solutions.map((puzzle) => ({ algorithm, ...puzzle })));
}
for (const { algorithm, seed: hex, work, parts, first } of puzzles) {
  new Uint8Array(memory.buffer, seed(), 32).set(Buffer.from(hex, "hex"));
  assert.equal(setup(algorithm, BigInt(work), parts), OK);
  for (let part = 0; part < parts; part++) {
    let from = 0n, status;
    while ((status = search(part, from, SLICE)) === NOT_FOUND) from += SLICE;
    assert.equal(status, OK);
    assert.equal(BigInt.asUintN(64, nonce()), BigInt(first[part]));
    passed++;
  }
  assert.equal(search(parts, 0n, SLICE), INVALID_ARGUMENT);
}
for (const algorithm of [1, 2]) {
  assert.equal(setup(algorithm, 0n, 1), INVALID_ARGUMENT);
  assert.equal(setup(algorithm, 1n, 1025), INVALID_ARGUMENT);
  assert.equal(setup(algorithm, 1n, 1), OK);
}
for (const algorithm of [0, 3, 257]) assert.equal(setup(algorithm, 1n, 1), UNSUPPORTED_ALGORITHM);
assert.equal(setup(1, 1n, 1), OK);
assert.equal(search(0, 2n ** 64n - 1n, 1n), OK);
assert.equal(BigInt.asUintN(64, nonce()), 2n ** 64n - 1n);
console.log(`${text(kernel_name())}: ${passed} checks passed`);
