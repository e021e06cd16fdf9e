/** A token in base64url, or the problem document of a 402 response, which carries one. */
export type Challenge = string | { readonly challenge: string };

export interface Progress {
  /** Hashes, or walks, evaluated so far. */
  tried: number;
  /** Hashes that all is expected to take, by what is found so far: tried / expected grows to 1. */
  expected: number;
  /** Seconds since the start, and those that are expected to be left. */
  seconds: number;
  left: number;
}

export interface SolveOptions {
  /** Called some times a second, and at the end. */
  onProgress?: (progress: Progress) => void;
  /** Aborting rejects with the signal's reason, as fetch does. */
  signal?: AbortSignal | null;
  /**
   * Most hashes that one challenge may ask for, a walk of cachewalk counted as 512; beyond it nothing
   * is computed. By default what the
   * browser of a laptop solves in about a minute: 2 ** 30, at some 18 million hashes a second.
   */
  maxWork?: number | bigint;
  /**
   * The same of this challenge and of all that this page has solved before it, whatever limit they
   * had. Unbounded by default.
   */
  maxTotalWork?: number | bigint;
  /** Workers to search with; by default one for each core, fewer where the work is small. */
  workers?: number;
}

/**
 * Solve a challenge; the promise holds the value of the `PoW-Solution` header.
 *
 * @throws PowError malformed-token, unsupported-algorithm, no-webassembly, too-much-work, invalid-input, worker
 */
export function solve(challenge: Challenge, options?: SolveOptions): Promise<string>;

/** As `solve`, for the challenge in a response; null where the response asks for no work. */
export function answer(response: Response, options?: SolveOptions): Promise<string | null>;

export type PowRequestInit = RequestInit &
  SolveOptions & {
    /** Whether to solve ahead what the answer offers; true by default. */
    prepay?: boolean;
    /** Called with the work of each challenge that this call has paid: one, or two. */
    onPaid?: (work: bigint) => void;
    /** Called as `onProgress` is, while what the answer offers is solved ahead. */
    onAhead?: (progress: Progress) => void;
  };

/**
 * fetch, which answers a challenge by itself, and a second one where the answer came to more than the first.
 * What answers offer is solved ahead, on one worker, and goes along with the next request.
 *
 * @throws PowError as `solve`, and body-not-replayable, redirected
 */
export function powFetch(input: RequestInfo | URL, init?: PowRequestInit): Promise<Response>;

/** Credit at the URL's origin, in hashes, as its last answer said; null where none did. */
export function balance(url: string | URL): number | null;

/** Solve nothing ahead any more. What a request itself has to pay is still paid. */
export function close(): void;

export interface MeasureOptions {
  /** Seconds of each row; default 1. */
  seconds?: number;
  /** Hashes, or walks, of each row, in place of seconds. */
  evaluations?: number;
  /** Which puzzle's digests are counted: 1, SHA-256, or 2, cachewalk (experimental). Default 1. */
  algorithm?: 1 | 2;
  /** The larger of the two numbers of workers that are measured; by default one for each core. */
  workers?: number;
  signal?: AbortSignal | null;
  /** Called before each row. */
  onProgress?: (row: { kernel: Kernel; workers: number; done: number; of: number }) => void;
}

/** The C library as WebAssembly with SIMD, or plain JavaScript. */
export type Kernel = "wasm" | "js";

export interface Rate {
  kernel: Kernel;
  workers: number;
  evaluations: number;
  seconds: number;
  /** Hashes, or walks, a second, of all workers together. */
  rate: number;
}

/** Hash rates of every kernel that runs here, best kernel first, of one worker and of all. */
export function measure(options?: MeasureOptions): Promise<Rate[]>;

export type Code =
  | "malformed-token"
  | "unsupported-algorithm"
  | "too-much-work"
  | "invalid-input"
  | "no-webassembly"
  | "worker"
  | "body-not-replayable"
  | "redirected";

/** Every error that this package raises on purpose. */
export class PowError extends Error {
  constructor(code: Code, message: string);
  readonly code: Code;
}
