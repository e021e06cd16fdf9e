// Workers: started when first needed, shared by all runs, let go when idle.
import { ALGORITHMS } from "./algorithms.js";
import { PowError } from "./errors.js";
import { searcher } from "./searcher.js";

const IDLE = 10_000; // milliseconds

function requireKernel(workers, algorithm) {
  const { kernels } = ALGORITHMS[algorithm];
  if (workers.every((worker) => worker.kernels.some((name) => kernels.includes(name)))) return;
  const why = `algorithm ${algorithm} is solved in WebAssembly with SIMD alone`;
  throw new PowError("no-webassembly", `${why}, which this engine or its policy does not allow`);
}

export class Pool {
  #platform;
  #workers = []; // promises of a worker that is ready, or of null
  #runs = new Map(); // by id: what takes its reports
  #awaited = 0; // runs that somebody waits for
  #last = 0;
  #module;
  #idle;

  constructor(platform) {
    this.#platform = platform;
  }

  /**
   * Search a puzzle with `count` workers. `take` sees every report, and ends the run by returning
   * something, which the promise then holds. Aborting rejects with the signal's reason. A run
   * that is `ahead` of need keeps no process alive, and no page busy.
   */
  async run(puzzle, { count, kernel, signal, ahead = false }, take) {
    const id = ++this.#last;
    const workers = [];
    const tell = (message) => workers.forEach((worker) => worker.postMessage({ id, ...message }));
    let abort;
    if (!ahead) this.#awaited++;
    try {
      return await new Promise((resolve, reject) => {
        abort = () => reject(signal.reason);
        if (signal?.aborted) return abort();
        signal?.addEventListener("abort", abort);
        this.#runs.set(id, (report) => {
          try {
            if (report.error) throw new PowError("worker", `a worker failed: ${report.error}`);
            if (report.part !== undefined) tell({ solved: report.part });
            const result = take({ of: workers.length, ...report });
            if (result !== undefined) resolve(result);
          } catch (error) {
            reject(error);
          }
        });
        this.#take(count).then((ready) => {
          if (!this.#runs.has(id)) return;
          requireKernel(ready, puzzle.algorithm);
          if (ahead && ready[0].isPage) throw new PowError("worker", "there are no workers here");
          workers.push(...ready);
          workers.forEach((worker, index) => {
            if (this.#awaited > 0) worker.ref?.();
            else worker.unref?.();
            worker.postMessage({ id, puzzle, kernel, index, of: workers.length });
          });
        }).catch(reject);
      });
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#runs.delete(id);
      if (!ahead) this.#awaited--;
      tell({ stop: true });
      if (this.#awaited === 0) this.#rest();
    }
  }

  /** The names of the kernels that run here, best first. */
  async kernels() {
    const [worker] = await this.#take(1);
    if (this.#awaited === 0) this.#rest();
    return worker.kernels;
  }

  async #take(count) {
    clearTimeout(this.#idle);
    while (this.#workers.length < count) this.#workers.push(this.#start());
    const ready = await Promise.all(this.#workers.slice(0, count));
    const started = ready.filter(Boolean);
    if (started.length > 0) return started;
    this.#workers = [this.#inPage()];
    return Promise.all(this.#workers);
  }

  /** A worker that is ready; null where a policy, or being offline, keeps it from starting. */
  async #start() {
    let worker;
    try {
      worker = this.#platform.worker();
    } catch {
      return null;
    }
    const ready = new Promise((resolve) => {
      this.#listen(worker, resolve);
      worker.onerror = (event) => {
        event.preventDefault?.();
        resolve(null);
        if (worker.kernels) this.#fail(event.message); // else it never began
      };
    });
    worker.postMessage({ module: await this.#compiled() });
    return ready;
  }

  /** The page itself, a few milliseconds at a time. */
  async #inPage() {
    const worker = { terminate() {}, isPage: true };
    worker.postMessage = searcher((data) => worker.onmessage({ data }));
    const ready = new Promise((resolve) => this.#listen(worker, resolve));
    worker.postMessage({ module: await this.#compiled() });
    return ready;
  }

  #listen(worker, ready) {
    worker.onmessage = ({ data }) => {
      if (!data.ready) return this.#runs.get(data.id)?.({ worker, ...data });
      worker.kernels = data.ready;
      ready(worker);
    };
  }

  /** The module, compiled once for all; null where there is no WebAssembly, or none with SIMD. */
  #compiled() {
    const compile = async () => WebAssembly.compile(await this.#platform.wasm());
    return (this.#module ??= compile().catch(() => null));
  }

  /** Every run has lost a part of its nonces. */
  #fail(error) {
    for (const take of [...this.#runs.values()]) take({ error });
    this.#dismiss();
  }

  async #dismiss() {
    const workers = this.#workers;
    this.#workers = [];
    for (const worker of await Promise.all(workers)) worker?.terminate();
  }

  async #rest() {
    const started = await Promise.all(this.#workers);
    if (this.#awaited > 0) return;
    for (const worker of started) worker?.unref?.(); // Node.js may exit
    if (this.#runs.size > 0) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#dismiss(), IDLE);
    this.#idle.unref?.();
  }
}
