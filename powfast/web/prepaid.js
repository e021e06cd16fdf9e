// What is solved ahead of need: which challenge, what is ready for whom, and when to stop.
import { ALGORITHMS } from "./algorithms.js";
import { binding, read } from "./token.js";

const REQUESTS_AHEAD = 64n; // work is done ahead for so many of the dearest so far, at most
const IDLE = 60_000; // milliseconds without a request after which nothing is solved for its origin
const LOOK = 500; // milliseconds between two looks at whether to go on
const REMEMBERED = 256; // purses, and paths of one

const CHALLENGE = /\bPoW +challenge="([A-Za-z0-9_-]+)"/i;
const BALANCE = /\bbalance=(\d{1,20})\b/;

/** One purse for each origin and Authorization: who is asked, and as whom. */
export class Prepaid {
  #purses = new Map();
  #search;
  #closed = false;

  /** `search(challenge, options)` solves on one worker and keeps no process alive. */
  constructor(search) {
    this.#search = search;
  }

  /** The purse of a request, which is noted. */
  begin({ url, headers }) {
    const { origin } = new URL(url), authorization = headers.get("authorization") ?? "";
    const key = `${origin} ${authorization}`, search = (...given) => this.#solved(...given);
    const purse = this.#purses.get(key) ?? new Purse(origin, search);
    this.#purses.delete(key);
    this.#purses.set(key, purse); // the last one again
    if (this.#purses.size > REMEMBERED) this.#purses.delete(first(this.#purses));
    purse.requests++;
    purse.asked = performance.now();
    return purse;
  }

  /** The credit that the last answer of an origin left; null where none said. */
  balance(origin) {
    const told = [...this.#purses.values()].filter((purse) => purse.origin === origin);
    return told.at(-1)?.balance ?? null;
  }

  /** Solve nothing ahead any more. */
  close() {
    this.#closed = true;
  }

  /** The header's value; null where a limit forbids it, or nobody wants it any more. */
  async #solved(offer, wanted, options) {
    const stop = new AbortController();
    const look = setInterval(() => (this.#closed || !wanted()) && stop.abort(), LOOK);
    look.unref?.(); // Node.js may exit
    try {
      return this.#closed ? null : await this.#search(offer, { ...options, signal: stop.signal });
    } catch {
      return null; // the answer that brought it is good
    } finally {
      clearInterval(look);
    }
  }
}

class Purse {
  asked = 0; // when something was asked or answered last
  requests = 0;
  balance = null;
  #dearest = 0n; // work of the dearest challenge that one of its requests was paid with
  #ahead = 0n; // work that was solved ahead
  #pending = null;
  #ready = null;
  #direct = new Set(); // what was last answered without a redirect
  #search;

  constructor(origin, search) {
    this.origin = origin;
    this.#search = search;
  }

  /**
   * The solution that goes along with a request, or null. A solution follows no redirect, and a
   * page cannot follow one itself: it goes to where there was none.
   */
  take(request) {
    if (!this.#direct.has(place(request))) return null;
    const ready = this.#ready;
    this.#ready = null;
    return ready?.expires > performance.now() ? ready.header : null;
  }

  /** Note what the challenge of a request itself has cost. */
  paid(challenge) {
    const work = worth(challenge);
    if (work > this.#dearest) this.#dearest = work;
  }

  /** Note what an answer says, and solve ahead what it offers. */
  hear(request, { status, headers, type, redirected }, options) {
    this.asked = performance.now();
    if (redirected || type === "opaqueredirect" || (status >= 300 && status < 400)) {
      this.#direct.delete(place(request));
      return;
    }
    this.#direct.add(place(request));
    if (this.#direct.size > REMEMBERED) this.#direct.delete(first(this.#direct));
    const receipt = BALANCE.exec(headers.get("pow-receipt") ?? "");
    if (receipt) this.balance = Number(receipt[1]);
    const named = CHALLENGE.exec(headers.get("pow-challenge") ?? "");
    const offer = named && offered(named[1]);
    if (offer && this.#takes(offer)) this.#solve(offer, options);
  }

  #takes({ work }) {
    const now = performance.now();
    if (this.#pending?.expires > now || this.#ready?.expires > now) return false;
    return this.#ahead + work <= (REQUESTS_AHEAD + BigInt(this.requests)) * this.#dearest;
  }

  async #solve(offer, options) {
    this.#pending = offer;
    this.#ahead += offer.work; // also of what is given up
    const wanted = () => performance.now() < Math.min(offer.expires, this.asked + IDLE);
    const header = await this.#search(offer.text, wanted, options);
    if (this.#pending !== offer) return;
    this.#pending = null;
    if (header !== null) this.#ready = { header, expires: offer.expires };
  }
}

/** A challenge for whatever its account asks next; null where it is none. */
function offered(text) {
  try {
    const work = worth(text), { lifetime, bound } = binding(text);
    return bound ? null : { text, work, expires: performance.now() + lifetime };
  } catch {
    return null;
  }
}

/** The work of a challenge in SHA-256 evaluations. */
function worth(challenge) {
  const { work, algorithm } = read(challenge);
  return work * ALGORITHMS[algorithm].evaluations;
}

function place({ method, url }) {
  return `${method} ${url.split(/[?#]/, 1)[0]}`;
}

function first(collection) {
  return collection.keys().next().value;
}
