// SHA-256 in plain JavaScript: of whole messages, and of puzzle blocks that differ in one word.
// crypto.subtle is missing where the page has no secure context, and slow for one block.

import { search } from "./rounds.js";

const LOW = 2 ** 24; // nonces that differ below it share all but message word 13

const H = new Int32Array([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]);

const K = new Int32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);

const w = new Int32Array(64);

/** Rounds `first` .. `last` - 1 on `state`, whose schedule words stand in w. */
function rounds(state, first, last) {
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = first; t < last; t++) {
    const sigma1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
    const t1 = h + K[t] + w[t] + (g ^ (e & (f ^ g))) + sigma1 | 0;
    const sigma0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
    const t2 = sigma0 + (a & b | c & (a | b)) | 0;
    h = g; g = f; f = e; e = d + t1 | 0;
    d = c; c = b; b = a; a = t1 + t2 | 0;
  }
  state[0] = a; state[1] = b; state[2] = c; state[3] = d;
  state[4] = e; state[5] = f; state[6] = g; state[7] = h;
}

function expand() {
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15], y = w[t - 2];
    w[t] = w[t - 16] + w[t - 7] +
      ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3) +
      ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10) | 0;
  }
}

/** The digest of a Uint8Array. */
export function sha256(message) {
  const padded = new Uint8Array((message.length + 72) & ~63), view = new DataView(padded.buffer);
  padded.set(message);
  padded[message.length] = 0x80;
  view.setUint32(padded.length - 4, 8 * message.length);
  const hash = H.slice(), state = new Int32Array(8);
  for (let at = 0; at < padded.length; at += 64) {
    for (let t = 0; t < 16; t++) w[t] = view.getInt32(at + 4 * t);
    expand();
    state.set(hash);
    rounds(state, 0, 64);
    for (let i = 0; i < 8; i++) hash[i] += state[i];
  }
  const digest = new DataView(new ArrayBuffer(32));
  hash.forEach((word, i) => digest.setInt32(4 * i, word));
  return new Uint8Array(digest.buffer);
}

/** A kernel (kernels.js). */
export function javascript({ seed, work, parts }) {
  const limit = 2n ** 64n / ((work + BigInt(parts) - 1n) / BigInt(parts)) - 1n;
  const high = Number(limit >> 32n), below = Number(limit & 0xffffffffn);
  const words = new DataView(seed.buffer, seed.byteOffset), block = new Int32Array(16);
  const state = new Int32Array(8), fixed = new Int32Array(64), k = new Int32Array(64);

  /** Everything that nonces share which differ in the low 24 bits only. */
  function prepare(part, nonce) {
    for (let t = 0; t < 8; t++) block[t] = words.getInt32(4 * t);
    block[8] = 0x706f7766; // powf
    block[9] = 0x6173742f; // ast/
    block[10] = 0x76313a00; // v1:
    block[11] = part << 8; // nobody counts to 2^56 in JavaScript
    block[12] = nonce / LOW;
    block[15] = 55 * 8;
    fixed.set(block);
    w.set(block);
    state.set(H);
    rounds(state, 0, 14);
    const varies = new Array(64).fill(false);
    varies[13] = true;
    k.set(K);
    for (let t = 14; t < 64; t++) {
      if (t >= 16) fixed[t] = terms(t, fixed, varies);
      if (!varies[t]) k[t] += fixed[t];
    }
  }

  /** The search compares one word; this decides. */
  function solves(low) {
    w.set(block);
    w[13] = low << 8 | 0x80;
    expand();
    const hash = H.slice();
    rounds(hash, 0, 64);
    const first = (hash[0] + H[0]) >>> 0, second = (hash[1] + H[1]) >>> 0;
    return first < high || (first === high && second <= below);
  }

  return (part, first, count) => {
    const end = first + count;
    for (let nonce = first; nonce < end; ) {
      const low = nonce % LOW, last = Math.min(LOW, low + end - nonce);
      prepare(part, nonce);
      const found = search(state, fixed, k, low, last, high);
      nonce += found - low;
      if (found < last && solves(found)) return nonce;
      if (found < last) nonce++;
    }
    return -1;
  };
}

/** The sum of those terms of schedule word t that are the same for all; marks t if some are not. */
function terms(t, fixed, varies) {
  const x = fixed[t - 15], y = fixed[t - 2];
  const each = [
    [t - 16, fixed[t - 16]],
    [t - 15, (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3],
    [t - 7, fixed[t - 7]],
    [t - 2, (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10],
  ];
  varies[t] = each.some(([from]) => varies[from]);
  return each.reduce((sum, [from, term]) => (varies[from] ? sum : sum + term | 0), 0);
}
