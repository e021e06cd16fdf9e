// For browsers, and whatever else has their Worker and fetch. Bundlers look for `new URL(...)`.
import { client } from "./client.js";

export const { solve, answer, powFetch, balance, close, measure } = client({
  worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
  wasm: async () => (await fetch(new URL("./powfast.wasm", import.meta.url))).arrayBuffer(),
  cores: () => navigator.hardwareConcurrency ?? 1,
});
export { PowError } from "./errors.js";
