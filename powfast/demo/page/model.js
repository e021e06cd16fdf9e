// The guarded model, asked with powfast's own fetch.
import { PowError, powFetch } from "../web/powfast.js";

const MAX_WORK = 2 ** 40;

// What was answered and is asked again is another question. What was not paid for is still the same.
const answered = { visitor: 0, extractor: 0 };

/** Hashes a second in the latest search that was long enough to tell. */
export let rate;

/**
 * Credit by role, in hashes: what the last answer left, null where that is not known, and what is
 * being solved ahead, its share that is done. What is done counts with the next question.
 */
export const credit = { visitor: fund(null), extractor: fund(null) };

function fund(left) {
  return { left, ahead: 0, share: 0 };
}

/** The visitor's two accounts; their key stays over reloads. */
export const account = {
  key: stored() ?? fresh(),
  anew() {
    this.key = fresh();
    for (const role in credit) credit[role] = fund(0);
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
 * Resolves to {probabilities, tried, price, work, seconds}: hashes tried, hashes the answer was charged,
 * hashes that came with it, seconds in all. `onCredit()` is called when `credit` has changed.
 * Rejects with PowError "too-much-work" beyond `maxWork`, with what aborted the signal, or TypeError offline.
 */
export async function ask(image, { role = "visitor", maxWork = MAX_WORK, onProgress, onCredit, signal } = {}) {
  const started = performance.now();
  const mine = credit[role];
  let tried = 0, before = 0, work = 0, offered = 0;
  if (mine.share === 1) mine.share = mine.ahead = 0; // what is done goes along
  const response = await powFetch(`/v1/predict?question=${answered[role]}`, {
    ...request(image, account.as(role)),
    maxWork,
    prepay: role === "visitor",
    signal,
    onProgress(progress) {
      tried = before + progress.tried;
      if (progress.seconds > 0.2) rate = progress.tried / progress.seconds;
      onProgress?.(progress);
    },
    onPaid(paid) { // more than once where an answer costs more than the price of the moment
      before = tried;
      work += Number(paid);
    },
    onAhead(progress) {
      mine.ahead = offered;
      mine.share = progress.tried / progress.expected;
      onCredit?.();
    },
  });
  const receipt = response.headers.get("pow-receipt") ?? "";
  work ||= figure(/work=(\d+)/, receipt) ?? 0; // what was solved ahead, where nothing else was
  const left = figure(/balance=(\d+)/, receipt);
  offered = figure(/work="(\d+)"/, response.headers.get("pow-challenge") ?? "") ?? 0;
  const answer = await response.json();
  if (!response.ok) throw new PowError("refused", answer.detail ?? `status ${response.status}`);
  answered[role]++;
  const seconds = (performance.now() - started) / 1000;
  const price = (mine.left ?? 0) + work - left;
  mine.left = left;
  onCredit?.();
  return { probabilities: answer[0], tried, price, work, seconds };
}

function figure(pattern, text) {
  const found = pattern.exec(text);
  return found && Number(found[1]);
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
