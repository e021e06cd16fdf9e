// The guarded model, asked with powfast's own fetch.
import { PowError, powFetch } from "../web/powfast.js";

const MAX_WORK = 2 ** 40;

// What was answered and is asked again is another question. What was not paid for is still the same.
const answered = { visitor: 0, extractor: 0 };

/** Hashes a second in the latest search that was long enough to tell. */
export let rate;

/** The visitor's two accounts; their key stays over reloads. */
export const account = {
  key: stored() ?? fresh(),
  anew() {
    this.key = fresh();
  },
  as(role) {
    return { authorization: `Bearer ${role}.${this.key}` };
  },
};

function fresh() {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    localStorage.setItem("key", key);
  } catch {} // where nothing may be stored, a reload is a new account
  return key;
}

function stored() {
  try {
    return localStorage.getItem("key");
  } catch {
    return null;
  }
}

function request(image, headers) {
  const body = JSON.stringify({ images: [image] });
  return { method: "POST", headers: { "content-type": "application/json", ...headers }, body, cache: "no-store" };
}

/**
 * Ask what an image shows, and pay for the answer.
 *
 * Resolves to {probabilities, tried, work, seconds}: hashes tried, hashes expected, seconds in all.
 * Rejects with PowError "too-much-work" beyond `maxWork`, with what aborted the signal, or TypeError offline.
 */
export async function ask(image, { role = "visitor", maxWork = MAX_WORK, onProgress, signal } = {}) {
  const started = performance.now();
  let tried = 0, work = 0, response;
  do { // again where a first question costs more than the opening has paid
    const before = tried;
    response = await powFetch(`/v1/predict?question=${answered[role]}`, {
      ...request(image, account.as(role)),
      maxWork,
      prepay: false, // each answer shows its own price
      signal,
      onProgress(progress) {
        tried = before + progress.tried;
        if (progress.seconds > 0.2) rate = progress.tried / progress.seconds;
        onProgress?.(progress);
      },
    });
    work += Number(/work=(\d+)/.exec(response.headers.get("pow-receipt") ?? "")?.[1] ?? 0);
  } while (response.status === 402 && response.headers.has("pow-receipt"));
  const answer = await response.json();
  if (!response.ok) throw new PowError("refused", answer.detail ?? `status ${response.status}`);
  answered[role]++;
  return { probabilities: answer[0], tried, work, seconds: (performance.now() - started) / 1000 };
}

/** Seconds of the same call without the gate: the median of three. */
export async function bareSeconds(image) {
  const seconds = [];
  for (let i = 0; i < 3; i++) {
    const started = performance.now();
    await (await fetch("/bare/predict", request(image))).json();
    seconds.push((performance.now() - started) / 1000);
  }
  return seconds.sort((a, b) => a - b)[1];
}

export async function get(path) {
  const response = await fetch(path, { headers: account.as("visitor"), cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.json();
}
