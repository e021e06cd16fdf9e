// What travels: tokens in, solutions out (docs/protocol.md). A token is hostile until it is read.
import { ALGORITHMS } from "./algorithms.js";
import { PowError } from "./errors.js";
import {
  ALGORITHM_AT, FIELDS_AT, MAC_BYTES, MAX_PARTS, MAX_TOKEN_BYTES, PARTS_AT, WORK_AT,
} from "./layout.js";
import { sha256 } from "./sha256.js";

const TAG = "powfast/c1";
const FIELD_COUNT = 4;

/** The puzzle in a challenge, which is a token's text or the problem document that carries one. */
export function read(challenge) {
  const text = typeof challenge === "string" ? challenge : challenge?.challenge;
  const token = typeof text === "string" ? fromBase64url(text) : null;
  if (!token || !wellFormed(token)) {
    throw new PowError("malformed-token", "the challenge is not one powfast/c1 token in base64url");
  }
  const algorithm = token[ALGORITHM_AT];
  if (!(algorithm in ALGORITHMS)) {
    const known = Object.keys(ALGORITHMS).join(" and ");
    const said = `the challenge is a puzzle of algorithm ${algorithm}, and this client knows ${known}`;
    throw new PowError("unsupported-algorithm", `${said}: a later version of powfast is needed`);
  }
  const view = new DataView(token.buffer);
  const work = view.getBigUint64(WORK_AT), parts = view.getUint16(PARTS_AT);
  return { text, seed: sha256(token), work, parts, algorithm };
}

/** The value of the PoW-Solution header. */
export function format(puzzle, nonces) {
  const view = new DataView(new ArrayBuffer(8 * nonces.length));
  nonces.forEach((nonce, i) => view.setBigUint64(8 * i, BigInt(nonce)));
  return `${puzzle.text}.${toBase64url(new Uint8Array(view.buffer))}`;
}

function wellFormed(token) {
  const view = new DataView(token.buffer), end = token.length - MAC_BYTES;
  if (end < FIELDS_AT + FIELD_COUNT || token.length > MAX_TOKEN_BYTES) return false;
  if (String.fromCharCode(...token.subarray(0, TAG.length)) !== TAG) return false;
  const parts = view.getUint16(PARTS_AT);
  if (view.getBigUint64(WORK_AT) === 0n || parts === 0 || parts > MAX_PARTS) return false;
  const fields = [];
  let at = FIELDS_AT;
  for (; fields.length < FIELD_COUNT && at < end; at += 1 + token[at]) {
    fields.push(token.subarray(at + 1, at + 1 + token[at]));
  }
  if (at !== end || fields.length < FIELD_COUNT || fields[0].length === 0) return false;
  return fields.slice(0, 3).every(isText); // key id, account, group; the request is bytes
}

function isText(bytes) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function toBase64url(bytes) {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The bytes, or null where `text` is not the one unpadded text that encodes them. */
function fromBase64url(text) {
  if (text.length > (MAX_TOKEN_BYTES * 4) / 3 + 4 || !/^[\w-]+$/.test(text)) return null;
  try {
    const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const decoded = Uint8Array.from(bytes, (character) => character.charCodeAt(0));
    return toBase64url(decoded) === text ? decoded : null;
  } catch {
    return null;
  }
}

/** How long a challenge that was read lives, in milliseconds; whether it is for one request. */
export function binding(text) {
  const token = fromBase64url(text), view = new DataView(token.buffer);
  let at = FIELDS_AT;
  for (let field = 1; field < FIELD_COUNT; field++) at += 1 + token[at];
  const [issued, expires] = [16, 8].map((before) => view.getBigUint64(FIELDS_AT - before));
  return { lifetime: Number(expires - issued), bound: token[at] > 0 };
}
