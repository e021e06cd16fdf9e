#include "powfast_impl.h"

enum { BATCH = 32 }; /* blocks handed to a kernel at once: a multiple of every lane count */

static void load_seed(uint32_t words[8], const uint8_t seed[32]) {
    for (int i = 0; i < 8; i++)
        words[i] = load_be32(seed + 4 * i);
}

/* 1 if every part of one puzzle is solved. */
static int solved(const powfast_kernel *kernel, const uint8_t seed[32], uint64_t limit,
                  const uint64_t *nonces, uint32_t parts) {
    uint32_t words[8], blocks[BATCH][16];
    uint64_t digests[BATCH];
    load_seed(words, seed);
    for (uint32_t done = 0; done < parts;) {
        uint32_t n = parts - done < BATCH ? parts - done : BATCH;
        for (uint32_t i = 0; i < n; i++)
            powfast_block(blocks[i], words, done + i, nonces[done + i]);
        kernel->digest(digests, (const uint32_t(*)[16])blocks, n);
        for (uint32_t i = 0; i < n; i++)
            if (digests[i] > limit)
                return 0;
        done += n;
    }
    return 1;
}

/* Puzzles of one part are batched across puzzles. */
static void verify_singles(uint8_t *ok, const powfast_kernel *kernel, const uint8_t *seeds,
                           const uint64_t *works, const uint64_t *nonces, size_t count) {
    uint32_t words[8], blocks[BATCH][16];
    uint64_t digests[BATCH];
    for (size_t done = 0; done < count;) {
        size_t n = count - done < BATCH ? count - done : BATCH;
        for (size_t i = 0; i < n; i++) {
            load_seed(words, seeds + 32 * (done + i));
            powfast_block(blocks[i], words, 0, nonces[done + i]);
        }
        kernel->digest(digests, (const uint32_t(*)[16])blocks, n);
        for (size_t i = 0; i < n; i++)
            ok[done + i] = works[done + i] && digests[i] <= powfast_limit(works[done + i]);
        done += n;
    }
}

powfast_status powfast_verify(const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                              const uint64_t *nonces) {
    if (powfast_puzzle_check(puzzle) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    return solved(kernel, puzzle->seed, powfast_part_limit(puzzle), nonces, puzzle->parts)
               ? POWFAST_OK
               : POWFAST_WRONG_SOLUTION;
}

powfast_status powfast_verify_batch(uint8_t *ok, const powfast_kernel *kernel,
                                    const uint8_t *seeds, const uint64_t *works,
                                    const uint64_t *nonces, size_t count, uint32_t parts) {
    if (parts == 0 || parts > POWFAST_MAX_PARTS)
        return POWFAST_INVALID_ARGUMENT;
    if (parts == 1) {
        verify_singles(ok, kernel, seeds, works, nonces, count);
        return POWFAST_OK;
    }
    for (size_t i = 0; i < count; i++) {
        powfast_puzzle shape = {.work = works[i], .parts = parts};
        ok[i] = works[i] && solved(kernel, seeds + 32 * i, powfast_part_limit(&shape),
                                   nonces + i * parts, parts);
    }
    return POWFAST_OK;
}
