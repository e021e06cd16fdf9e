// For Node.js: its worker threads in place of Web Workers, else the same files.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { client } from "./client.js";

/** A worker thread that looks like a Web Worker. */
class WebWorker extends Worker {
  constructor(file) {
    super(new URL(file, import.meta.url));
    this.on("message", (data) => this.onmessage({ data }));
    this.on("error", (error) => this.onerror(error));
  }
}

export const { solve, answer, powFetch, balance, close, measure } = client({
  worker: () => new WebWorker("./node-worker.js"),
  wasm: () => readFile(new URL("./powfast.wasm", import.meta.url)),
  cores: availableParallelism,
});
export { PowError } from "./errors.js";
