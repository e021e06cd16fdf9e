// A fetch that pays: which response asks for work, and how the request is sent again.
import { PowError } from "./errors.js";
import { read } from "./token.js";

const CHALLENGE = /\bPoW +challenge="([A-Za-z0-9_-]+)"/i;
const PROBLEM = "urn:powfast:payment-required";
const MAX_PROBLEM_BYTES = 64 * 1024;
const MOST_CHALLENGES = 2; // of one call: before it runs, and what its answer costs beyond that

/**
 * The challenge that a response asks to be solved, or null. Its body stays readable. A page of
 * another origin sees the header only where the server exposes it, but always the document.
 */
export async function asked(response) {
  if (response.status < 400 || response.status >= 500) return null;
  const named = CHALLENGE.exec(response.headers.get("www-authenticate") ?? "");
  if (named) return named[1];
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("application/problem+json") || response.bodyUsed) return null;
  const problem = parsed(await start(response.clone()));
  return problem?.type === PROBLEM ? String(problem.challenge) : null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The body's text, of which no more is read than a problem document has. */
async function start(response) {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let text = "", size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += decoder.decode(value, { stream: true });
    if ((size += value.length) > MAX_PROBLEM_BYTES) {
      reader.cancel();
      return "";
    }
  }
}

/**
 * fetch, and where the answer asks for work, fetch once more with the solution, and once again where
 * the answer has come to more than that. The same bytes are sent each time. A solution goes to the URL that asked for it, and follows no redirect. What was
 * solved ahead goes along with the first request.
 */
export async function paidFetch(solve, prepaid, input, init = {}) {
  const { onProgress, onPaid, onAhead, maxWork, maxTotalWork, workers, prepay = true, ...rest } = init;
  if (isStream(rest.body)) {
    throw new PowError("body-not-replayable", "a body that is a stream cannot be sent twice");
  }
  const request = new Request(input, rest);
  const bodiless = request.method === "GET" || request.method === "HEAD";
  const body = bodiless ? undefined : await replayable(request, rest.body);
  const same = { ...rest, headers: request.headers, body };
  const send = (more) => fetch(new Request(request, { ...same, ...more }));
  const sendPaid = (solution) => {
    const headers = new Headers(request.headers);
    headers.set("PoW-Solution", solution);
    return send({ headers, redirect: request.redirect === "follow" ? "manual" : request.redirect });
  };
  const purse = prepaid.begin(request), limits = { maxWork, maxTotalWork };
  const ahead = { ...limits, onProgress: onAhead };
  const hear = (answer) => prepay && purse.hear(request, answer, ahead);

  const ready = prepay ? purse.take(request) : null;
  let response = await (ready ? sendPaid(ready) : send({}));
  hear(response);
  if (ready && leads(request, response)) {
    if (!bodiless) throw new PowError("redirected", REDIRECTED);
    response = await send({}); // asked once more, as if nothing had been solved ahead
  }
  let challenge = await asked(response);
  if (challenge !== null && response.redirected) {
    const to = new URL(response.url).origin;
    throw new PowError("redirected", `a redirect to ${to} asks for work: ask there yourself`);
  }
  const { signal } = request;
  for (let paid = 0; challenge !== null && paid < MOST_CHALLENGES; paid++) {
    response.body?.cancel();
    response = await sendPaid(await solve(challenge, { onProgress, workers, signal, ...limits }));
    purse.paid(challenge);
    onPaid?.(read(challenge).work);
    hear(response);
    if (leads(request, response)) throw new PowError("redirected", REDIRECTED);
    // a receipt beside a challenge: the answer has come to more than was asked for before it ran
    challenge = response.headers.has("pow-receipt") ? await asked(response) : null;
  }
  return response;
}

/** What is sent twice: text as it is, which Chromium sends sooner than what lies in a blob. */
function replayable(request, body) {
  return typeof body === "string" ? body : request.blob(); // Node.js redirects no ArrayBuffer
}

const REDIRECTED = "the paid request is redirected; a solution does not follow";

/** Whether an answer leads elsewhere, where its sender would have followed without a solution. */
function leads(request, answer) {
  return request.redirect === "follow" && isRedirect(answer);
}

/** In browsers, a redirect that is not followed says nothing; in Node.js it is there to read. */
function isRedirect({ type, status, headers }) {
  return type === "opaqueredirect" || (status >= 300 && status < 400 && headers.has("location"));
}

function isStream(body) {
  if (typeof body !== "object" || body === null) return false;
  return typeof body.getReader === "function" || typeof body[Symbol.asyncIterator] === "function";
}
