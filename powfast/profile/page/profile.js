// The measurement of powfast/profile/measure.py in a browser: the same rounds, seeds and document.
import { Pool } from "../web/pool.js";
import { sha256 } from "../web/sha256.js";

const WEB = new URL("../web/", import.meta.url);
const KERNELS = { wasm: "wasm-simd128", js: "javascript" }; // as profiles name them
const WORKS = [1e4, 1e5, 1e6, 1e7, 1e8], PARTS = [1, 16, 64];
const FULL = { rounds: 7, evaluations: 2 ** 22, slices: 60, sliceSeconds: 1, puzzles: 100, rungSeconds: 15, walks: 2 ** 17 };
const QUICK = { rounds: 3, evaluations: 2 ** 19, slices: 4, sliceSeconds: 0.5, puzzles: 20, rungSeconds: 0.5, walks: 2 ** 12 };
const ENDLESS = { seed: new Uint8Array(32), work: 2n ** 64n - 1n, parts: 1, algorithm: 1 };
const REPORTS = 3; // of a worker, at least: the first only starts its clock
const UNEVEN = 0.05; // spread, or slowing down, that is worth a warning
const WORDS = 120; // characters of what a browser says of itself

/** Measure this device; `onStatus(text, share)` hears of every step. Returns a client profile. */
export async function profile({ name, quick = false, signal, onStatus = () => {} } = {}) {
  const plan = quick ? QUICK : FULL, cores = navigator.hardwareConcurrency ?? 1;
  const pool = new Pool({
    worker: () => new Worker(new URL("worker.js", WEB), { type: "module" }),
    wasm: async () => (await fetch(new URL("powfast.wasm", WEB))).arrayBuffer(),
  });
  const bench = { pool, plan, signal, counts: [...new Set([1, cores])], onStatus };
  const kernels = await pool.kernels();
  const rates = await ratesOf(bench, kernels);
  const slices = await sustained(bench, cores);
  const single = rates.find((rate) => rate.kernel === KERNELS[kernels[0]] && rate.threads === 1);
  const solving = await ladder(bench, new Map([[1, single.hashes_per_second], [cores, median(slices)]]));
  const { device, title } = await thisDevice(kernels, cores);
  return {
    format: "powfast-client-profile",
    version: 1,
    name: name || title,
    device,
    powfast: (await (await fetch(new URL("package.json", WEB))).json()).version,
    measured: new Date().toISOString().replace(/\.\d+Z/, "Z"),
    quick,
    kernel: KERNELS[kernels[0]],
    solver: { threads: cores, alone: 0, start_seconds: await startSeconds(bench) },
    rates,
    sustained: { slice_seconds: plan.sliceSeconds, hashes_per_second: slices },
    solving,
    walks: kernels.includes("wasm") ? await walksOf(bench, cores) : null,
    server: null,
    warnings: [...uneven(rates), ...slower(slices)],
  };
}

/** Every kernel on one worker and on all, in interleaved rounds. */
async function ratesOf({ pool, plan, signal, counts, onStatus }, kernels) {
  const wanted = kernels.flatMap((kernel) => counts.map((count) => ({ kernel, count, found: [] })));
  for (let round = 0; round < plan.rounds; round++) {
    onStatus("hash rate of every kernel", (0.4 * round) / plan.rounds);
    for (const { kernel, count, found } of wanted) {
      found.push(await pool.run(ENDLESS, { count, kernel, signal }, rateOver(count, plan.evaluations)));
    }
  }
  return wanted.map(({ kernel, count, found }) => ({
    kernel: KERNELS[kernel],
    threads: count,
    hashes_per_second: median(found),
    quartiles: [quantile(found, 0.25), quantile(found, 0.75)],
  }));
}

/** Take reports until every worker has made so many evaluations; then hashes a second of all. */
function rateOver(count, evaluations) {
  const workers = new Map();
  return ({ worker, tried, at }) => {
    const mine = workers.get(worker);
    if (!mine) return void workers.set(worker, { from: at, at, tried: 0, reports: 1 });
    Object.assign(mine, { at, tried: mine.tried + tried, reports: mine.reports + 1 });
    const all = [...workers.values()];
    if (all.length < count || all.some((one) => one.tried < evaluations || one.reports < REPORTS)) return undefined;
    return all.reduce((sum, one) => sum + (1000 * one.tried) / (one.at - one.from), 0);
  };
}

/** Hashes a second of the best kernel on all workers, slice after slice of one search. */
function sustained({ pool, plan, signal, onStatus }, count) {
  const slices = [];
  let tried = 0, from;
  return pool.run(ENDLESS, { count, signal }, (report) => {
    if (from === undefined) return void (from = report.at);
    tried += report.tried;
    const seconds = (report.at - from) / 1000;
    if (seconds < plan.sliceSeconds) return undefined;
    slices.push(tried / seconds);
    [tried, from] = [0, report.at];
    onStatus("sustained hash rate", 0.4 + (0.3 * slices.length) / plan.slices);
    return slices.length === plan.slices ? slices : undefined;
  });
}

/** Walks (algorithm 2) a second, on one worker and on all. */
async function walksOf({ pool, plan, signal, onStatus }, cores) {
  onStatus("walks", 0.95);
  const rate = (count) => pool.run({ ...ENDLESS, algorithm: 2 }, { count, signal }, rateOver(count, plan.walks));
  return { one_thread: await rate(1), all_threads: await rate(cores) };
}

/** Time the puzzles of the rungs that this device can climb, given its hash rates. */
async function ladder({ pool, plan, signal, onStatus }, rates) {
  const rungs = WORKS.flatMap((work) => PARTS.flatMap((parts) => [...rates]
    .filter(([, rate]) => work * plan.puzzles <= plan.rungSeconds * rate)
    .map(([threads]) => ({ work, parts, threads, seconds: [], evaluations: 0 }))));
  for (let index = 0; index < plan.puzzles; index++) {
    onStatus("solve times", 0.7 + (0.3 * index) / plan.puzzles);
    for (const rung of rungs) {
      const puzzle = { seed: seed(rung, index), work: BigInt(rung.work), parts: rung.parts, algorithm: 1 };
      const started = performance.now();
      rung.evaluations += await pool.run(puzzle, { count: rung.threads, signal }, solved(rung.parts));
      rung.seconds.push((performance.now() - started) / 1000);
    }
  }
  return rungs.map(({ work, parts, threads, seconds, evaluations }) => ({
    work, parts, threads, puzzles: seconds.length, evaluations,
    p50: quantile(seconds, 0.5), p90: quantile(seconds, 0.9), p99: quantile(seconds, 0.99),
  }));
}

function seed({ work, parts }, index) {
  return sha256(new TextEncoder().encode(`powfast/profile/v1:${work}:${parts}:${index}`));
}

/** Take reports until every part is solved; then the evaluations they took. */
function solved(parts) {
  const found = new Set();
  let evaluations = 0;
  return ({ tried, part }) => {
    evaluations += tried;
    if (part !== undefined) found.add(part);
    return found.size === parts ? evaluations : undefined;
  };
}

async function startSeconds({ pool, signal }) {
  const seconds = [];
  for (let i = 0; i < 100; i++) {
    const started = performance.now();
    await pool.run({ ...ENDLESS, work: 1n }, { count: 1, signal }, solved(1));
    seconds.push((performance.now() - started) / 1000);
  }
  return median(seconds);
}

/** What the browser tells; most of it only in a secure context, and only Chromium's. */
async function thisDevice(kernels, cores) {
  const told = navigator.userAgentData;
  const more = await told?.getHighEntropyValues?.(["architecture", "bitness", "model", "platformVersion"]).catch(() => null);
  const brand = told?.brands?.filter(({ brand }) => !/not.*brand/i.test(brand)).at(-1);
  const agent = text(brand ? `${brand.brand} ${brand.version}` : navigator.userAgent);
  const system = text([told?.platform, more?.platformVersion].filter(Boolean).join(" "));
  const architecture = { x86: "x86_64", arm: "aarch64" }[more?.bitness === "64" && more.architecture];
  const device = {
    cpu: text(more?.model),
    architecture: architecture ?? "unknown",
    features: kernels.includes("wasm") ? ["simd128"] : [],
    cores,
    system,
    agent,
  };
  return { device, title: system === "unknown" ? agent : `${agent} on ${system}` };
}

const text = (said) => (said ?? "").replace(/[^\x20-\x7e]/g, "").trim().slice(0, WORDS) || "unknown";

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b), at = share * (sorted.length - 1), below = Math.floor(at);
  return sorted[below] + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

const median = (values) => quantile(values, 0.5);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function uneven(rates) {
  const spread = ({ quartiles, hashes_per_second: rate }) => (quartiles[1] - quartiles[0]) / rate;
  const [worst] = [...rates].sort((a, b) => spread(b) - spread(a));
  if (spread(worst) <= UNEVEN) return [];
  const apart = Math.round(100 * spread(worst));
  return [`the rounds differ: the quartiles of ${worst.kernel} on ${worst.threads} threads lie ${apart}% apart`];
}

function slower(slices) {
  const quarter = Math.max(1, Math.floor(slices.length / 4));
  const kept = mean(slices.slice(-quarter)) / mean(slices.slice(0, quarter));
  return kept >= 1 - UNEVEN ? [] : [`it slowed down under load, to ${Math.round(100 * kept)}% of its first rate`];
}
