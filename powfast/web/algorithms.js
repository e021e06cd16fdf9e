// What a search has to know of each puzzle algorithm, by its number in the token.

/**
 * `chunk`: nonces between two looks at the clock, some milliseconds at most. `evaluations`: what one
 * of its digests counts as where work is limited. `kernels`: those that compute it.
 */
export const ALGORITHMS = {
  1: { chunk: 4096, evaluations: 1n, kernels: ["wasm", "js"] }, // SHA-256
  2: { chunk: 32, evaluations: 512n, kernels: ["wasm"] }, // cachewalk
};
