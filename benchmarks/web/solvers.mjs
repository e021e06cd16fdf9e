// Solvers of one-block SHA-256 puzzles on one thread, in a browser or in Node.js. Each is loaded from
// `peers` or `powfast`, the URLs of a node_modules folder and of powfast/web, with `bytes` to read a
// file, and is then a function from a rough number of hashes to the number it did.

const text = "x".repeat(44); // and a counter: a message of one block

/** A loop of somebody's over 55 bytes, whose last four count. */
function loop(sha256) {
  const message = new Uint8Array(55), counter = new DataView(message.buffer, 51);
  return (count) => {
    let found = 0;
    for (let i = 0; i < count; i++) {
      counter.setUint32(0, i);
      if (sha256(message)[0] === 256) found++;
    }
    return count + found;
  };
}

async function powfast({ powfast, bytes }, name) {
  const { kernels } = await import(powfast + "kernels.js");
  const module = await WebAssembly.compile(await bytes(powfast + "powfast.wasm"));
  const search = kernels(module)[name]({ seed: new Uint8Array(32), work: 2n ** 64n - 1n, parts: 1 });
  return (count) => {
    for (let first = 0; first < count; first += 4096) search(0, first, 4096);
    return Math.ceil(count / 4096) * 4096;
  };
}

export const SOLVERS = {
  "powfast, WebAssembly": (places) => powfast(places, "wasm"),
  "powfast, JavaScript": (places) => powfast(places, "js"),

  "mCaptcha, WebAssembly": async ({ peers, bytes }) => {
    const glue = await import(peers + "@mcaptcha/pow-wasm/pow_wasm_bg.js");
    const module = await WebAssembly.compile(await bytes(peers + "@mcaptcha/pow-wasm/pow_wasm_bg.wasm"));
    const instance = new WebAssembly.Instance(module, { "./pow_wasm_bg.js": glue });
    glue.__wbg_set_wasm(instance.exports);
    let phrase = 0; // each phrase takes another number of hashes, 50 000 on average
    return (count) => {
      let done = 0;
      while (done < count) done += JSON.parse(glue.gen_pow("salt", `phrase ${phrase++}`, 50_000)).nonce;
      return done;
    };
  },
  "Cap, WebAssembly": async ({ peers, bytes }) => {
    const cap = await import(peers + "@cap.js/wasm/browser/cap_wasm.js");
    cap.initSync({ module: await bytes(peers + "@cap.js/wasm/browser/cap_wasm_bg.wasm") });
    let salt = 0;
    return (count) => {
      let done = 0;
      while (done < count) done += Number(cap.solve_pow(`${text.slice(10)}${salt++}`, "0000")) + 1;
      return done;
    };
  },
  "hash-wasm, a loop": async ({ peers }) => {
    const { createSHA256 } = await import(peers + "hash-wasm/dist/index.esm.js");
    const hasher = await createSHA256();
    return loop((message) => hasher.init().update(message).digest("binary"));
  },
  "noble-hashes, a loop": async ({ peers }) => {
    const { sha256 } = await import(peers + "@noble/hashes/sha2.js");
    return loop(sha256);
  },
  "js-sha256, a loop": async ({ peers }) => {
    const { sha256 } = await import(peers + "js-sha256/src/index.mjs");
    return loop(sha256.array);
  },
  "ALTCHA, crypto.subtle": async ({ peers }) => {
    const { solveChallenge } = await import(peers + "altcha-lib/dist/esm/v1/index.js");
    return async (count) => {
      await solveChallenge("never", text, "SHA-256", count - 1).promise;
      return count;
    };
  },
};

const ROUND = 150; // milliseconds

/** Hashes a second of every solver that loads, `rounds` times in turn: [{name: rate}]. */
export async function measure(places, rounds) {
  const loaded = [], failed = {};
  for (const [name, load] of Object.entries(SOLVERS)) {
    try {
      loaded.push([name, await load(places), 1000]);
    } catch (error) {
      failed[name] = error.message;
    }
  }
  const results = [];
  for (let round = -2; round < rounds; round++) { // two to warm up and to find how many fill a round
    const rates = {};
    for (const solver of loaded) {
      const [name, run, count] = solver, start = performance.now();
      const done = await run(count), elapsed = performance.now() - start;
      rates[name] = (1000 * done) / elapsed;
      solver[2] = Math.max(1000, Math.ceil((rates[name] * ROUND) / 1000));
    }
    if (round >= 0) results.push(rates);
  }
  return { results, failed };
}
