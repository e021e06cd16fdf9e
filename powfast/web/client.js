// The functions of this package over a platform: how to start a worker, read a file, count cores.
import { ALGORITHMS } from "./algorithms.js";
import { PowError } from "./errors.js";
import { asked, paidFetch } from "./exchange.js";
import { Pool } from "./pool.js";
import { Prepaid } from "./prepaid.js";
import { format, read } from "./token.js";

const MAX_WORK = 2 ** 30; // a minute of a laptop's browser that makes 18 million hashes a second
const WORTH_A_WORKER = 50_000; // evaluations: about what starting one costs

export function client(platform) {
  const pool = new Pool(platform);
  const prepaid = new Prepaid((challenge, options) => search(challenge, options, true));
  let spent = 0n; // work of all challenges; of those that were given up, what was computed of it

  function solve(challenge, options) {
    return search(challenge, options, false);
  }

  async function search(challenge, options = {}, ahead) {
    const { onProgress, signal, maxWork = MAX_WORK, maxTotalWork = Infinity, workers } = options;
    const puzzle = read(challenge);
    positive({ maxWork, maxTotalWork });
    const { evaluations } = ALGORITHMS[puzzle.algorithm];
    const all = Number(puzzle.work * evaluations);
    const useful = ahead ? 1 : Math.ceil(all / WORTH_A_WORKER);
    const count = crew(workers ?? Math.min(platform.cores(), useful));
    const found = new Found(puzzle, onProgress);
    spend(puzzle.work * evaluations, maxWork, maxTotalWork);
    try {
      const nonces = await pool.run(puzzle, { count, signal, ahead }, (report) => found.take(report));
      return format(puzzle, nonces);
    } catch (error) {
      if (found.tried < puzzle.work) {
        spent -= (puzzle.work - BigInt(found.tried)) * evaluations;
      }
      throw error;
    }
  }

  function spend(work, maxWork, maxTotalWork) {
    if (work > maxWork) {
      throw new PowError("too-much-work", `${work} evaluations; maxWork is ${maxWork}`);
    }
    if (spent + work > maxTotalWork) {
      const left = Math.max(0, Number(maxTotalWork) - Number(spent));
      const budget = `of maxTotalWork, ${maxTotalWork}, ${spent} are spent and ${left} are left`;
      throw new PowError("too-much-work", `${work} evaluations; ${budget}`);
    }
    spent += work;
  }

  async function answer(response, options) {
    const challenge = await asked(response);
    return challenge === null ? null : solve(challenge, options);
  }

  function powFetch(input, init) {
    return paidFetch(solve, prepaid, input, init);
  }

  function balance(url) {
    return prepaid.balance(new URL(url, globalThis.location?.href).origin);
  }

  function close() {
    prepaid.close();
  }

  async function measure(options = {}) {
    const { seconds = 1, evaluations, workers, signal, onProgress, algorithm = 1 } = options;
    positive({ seconds, evaluations: evaluations ?? 1 });
    if (!(algorithm in ALGORITHMS)) {
      throw new PowError("invalid-input", "algorithm must be 1 or 2");
    }
    const most = crew(workers ?? platform.cores());
    const { kernels: able } = ALGORITHMS[algorithm];
    const kernels = (await pool.kernels()).filter((kernel) => able.includes(kernel));
    const counts = [...new Set([1, most])];
    const plan = kernels.flatMap((kernel) => counts.map((count) => [kernel, count]));
    const rows = [];
    for (const [kernel, count] of plan) {
      onProgress?.({ kernel, workers: count, done: rows.length, of: plan.length });
      const meter = new Meter(seconds, evaluations);
      const run = { count, kernel, signal };
      const measured = await pool.run({ ...ENDLESS, algorithm }, run, (report) => meter.take(report));
      rows.push({ kernel, ...measured });
    }
    return rows;
  }

  return { solve, answer, powFetch, balance, close, measure };
}

const ENDLESS = { seed: new Uint8Array(32), work: 2n ** 64n - 1n, parts: 1 };

function positive(numbers) {
  for (const [name, value] of Object.entries(numbers)) {
    if (!(value > 0)) throw new PowError("invalid-input", `${name} must be a positive number`);
  }
}

function crew(workers) {
  if (Number.isInteger(workers) && workers >= 1 && workers <= 1024) return workers;
  throw new PowError("invalid-input", "workers must be an integer in 1 .. 1024");
}

/** The nonces found so far, and how far along that is. */
class Found {
  constructor({ work, parts }, onProgress) {
    this.nonces = new Array(parts);
    this.open = parts;
    this.partWork = Math.ceil(Number(work) / parts);
    this.onProgress = onProgress;
    this.tried = 0;
    this.started = performance.now();
    this.told = 0;
  }

  take({ tried, part, nonce }) {
    this.tried += tried;
    if (part !== undefined && this.nonces[part] === undefined) {
      this.nonces[part] = nonce;
      this.open--;
    }
    this.tell();
    return this.open === 0 ? this.nonces : undefined;
  }

  tell() {
    const now = performance.now();
    if (!this.onProgress || (now - this.told < 100 && this.open > 0)) return;
    this.told = now;
    const seconds = (now - this.started) / 1000, remaining = this.open * this.partWork;
    const left = (remaining * seconds) / this.tried;
    this.onProgress({ tried: this.tried, expected: this.tried + remaining, seconds, left });
  }
}

/** Evaluations a second of every worker, from its second report on. */
class Meter {
  constructor(seconds, evaluations) {
    Object.assign(this, { seconds, evaluations });
    this.workers = new Map();
  }

  take({ worker, of, tried, at }) {
    const mine = this.workers.get(worker);
    if (!mine) {
      this.workers.set(worker, { from: at, at, tried: 0 });
      return undefined;
    }
    mine.at = at;
    mine.tried += tried;
    return this.result(of);
  }

  result(of) {
    const all = [...this.workers.values()];
    const tried = all.reduce((sum, one) => sum + one.tried, 0);
    const seconds = Math.max(...all.map((one) => (one.at - one.from) / 1000));
    const done = this.evaluations ? tried >= this.evaluations : seconds >= this.seconds;
    if (!done || all.length < of || all.some((one) => one.tried === 0)) return undefined;
    const rate = all.reduce((sum, one) => sum + (1000 * one.tried) / (one.at - one.from), 0);
    return { workers: all.length, evaluations: tried, seconds, rate };
  }
}
