// For browsers, and whatever else has their Worker and fetch.
import { client } from "./client.js";

const url = (file) => new URL(file, import.meta.url);

export const { solve, answer, powFetch, measure } = client({
  worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
  wasm: async () => (await fetch(url("./powfast.wasm"))).arrayBuffer(),
  cores: () => navigator.hardwareConcurrency ?? 1,
});
export { PowError } from "./errors.js";
