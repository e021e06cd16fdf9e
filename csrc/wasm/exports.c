/*
 * The library for the browser: a module of WebAssembly that imports nothing and holds one puzzle.
 * csrc/wasm/build.sh builds it. From JavaScript, where 64-bit integers are BigInt:
 *
 *     new Uint8Array(memory.buffer, seed(), 32).set(bytes);
 *     if (setup(work, parts) !== 0) throw new Error("no such puzzle");
 *     for (let first = 0n; search(part, first, slice) !== 0; first += slice) await turn();
 *     solution[part] = BigInt.asUintN(64, nonce());
 *
 * Workers take a module and some of the parts each. Whoever stops searching has cancelled.
 */
#include "powfast.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static powfast_puzzle puzzle;
static uint64_t found;

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

EXPORT(setup) powfast_status setup(uint64_t work, uint32_t parts) {
    puzzle.work = work;
    puzzle.parts = parts;
    return kernel() ? powfast_puzzle_check(&puzzle) : POWFAST_SELFTEST_FAILED;
}

/* As powfast_search: POWFAST_OK and a nonce, or POWFAST_NOT_FOUND in first .. first + count - 1. */
EXPORT(search) powfast_status search(uint32_t part, uint64_t first, uint64_t count) {
    return kernel() ? powfast_search(&found, kernel(), &puzzle, part, first, count)
                    : POWFAST_SELFTEST_FAILED;
}

EXPORT(nonce) uint64_t nonce(void) { return found; }
