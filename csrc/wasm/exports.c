/*
 * The library for the browser: a module of WebAssembly that imports nothing and holds one puzzle.
 * csrc/wasm/build.sh builds it. From JavaScript, where 64-bit integers are BigInt:
 *
 *     new Uint8Array(memory.buffer, seed(), 32).set(bytes);
 *     if (setup(algorithm, work, parts) !== 0) throw new Error("no such puzzle");
 *     for (let first = 0n; search(part, first, slice) !== 0; first += slice) await turn();
 *     solution[part] = BigInt.asUintN(64, nonce());
 *
 * Workers take a module and some of the parts each. Whoever stops searching has cancelled.
 */
#include "powfast.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static powfast_puzzle puzzle;
static int walks;
static uint64_t found, scratch[POWFAST_WALK_WORDS];

/* The best kernel that is right here, null if none is. */
static const powfast_kernel *kernel(void) {
    static const powfast_kernel *chosen;
    for (size_t i = 0; !chosen && i < powfast_kernel_count(); i++)
        if (powfast_kernel_selftest(powfast_kernel_at(i)) == POWFAST_OK)
            chosen = powfast_kernel_at(i);
    return chosen;
}

EXPORT(kernel_name) const char *kernel_name(void) {
    return kernel() ? powfast_kernel_name(kernel()) : "";
}

/* Where JavaScript puts the 32 bytes. */
EXPORT(seed) uint8_t *seed(void) { return puzzle.seed; }

/* Whether walks are right here. */
static int can_walk(void) {
    static int known, right;
    if (!known)
        right = powfast_walk_selftest(scratch, kernel()) == POWFAST_OK;
    known = 1;
    return right;
}

EXPORT(setup) powfast_status setup(uint32_t algorithm, uint64_t work, uint32_t parts) {
    puzzle.work = work;
    puzzle.parts = parts;
    walks = algorithm == POWFAST_ALGORITHM_CACHEWALK;
    if (!walks && algorithm != POWFAST_ALGORITHM_SHA256)
        return POWFAST_UNSUPPORTED_ALGORITHM;
    if (!kernel() || (walks && !can_walk()))
        return POWFAST_SELFTEST_FAILED;
    return powfast_puzzle_check(&puzzle);
}

/* As powfast_search: POWFAST_OK and a nonce, or POWFAST_NOT_FOUND in first .. first + count - 1. */
EXPORT(search) powfast_status search(uint32_t part, uint64_t first, uint64_t count) {
    if (!kernel())
        return POWFAST_SELFTEST_FAILED;
    return walks ? powfast_walk_search(&found, scratch, kernel(), &puzzle, part, first, count)
                 : powfast_search(&found, kernel(), &puzzle, part, first, count);
}

EXPORT(nonce) uint64_t nonce(void) { return found; }
