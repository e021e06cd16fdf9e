#include "powfast_impl.h"

enum {
    BATCH = 32, /* blocks handed to a kernel at once: a multiple of every lane count */
    FEW = 12    /* parts below which puzzles share a batch */
};

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
        kernel->digest(digests, (const uint32_t(*)[16])blocks, n, 10);
        for (uint32_t i = 0; i < n; i++)
            if (digests[i] > limit)
                return 0;
        done += n;
    }
    return 1;
}

/* Puzzles of few parts fill a batch together. */
static void verify_mixed(uint8_t *ok, const powfast_kernel *kernel, const uint8_t *seeds,
                         const uint64_t *works, const uint64_t *nonces, size_t count,
                         uint32_t parts) {
    uint32_t words[8], blocks[BATCH][16];
    uint64_t digests[BATCH], limits[BATCH];
    uint8_t *oks[BATCH];
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        powfast_puzzle shape = {.work = works[i], .parts = parts};
        uint64_t limit = works[i] ? powfast_part_limit(&shape) : 0;
        ok[i] = works[i] != 0;
        load_seed(words, seeds + 32 * i);
        for (uint32_t part = 0; part < parts; part++) {
            powfast_block(blocks[filled], words, part, nonces[i * parts + part]);
            limits[filled] = limit;
            oks[filled++] = &ok[i];
            if (filled < BATCH && !(i + 1 == count && part + 1 == parts))
                continue;
            kernel->digest(digests, (const uint32_t(*)[16])blocks, filled, 0);
            for (size_t k = 0; k < filled; k++)
                *oks[k] &= digests[k] <= limits[k];
            filled = 0;
        }
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
    if (parts < FEW) {
        verify_mixed(ok, kernel, seeds, works, nonces, count, parts);
        return POWFAST_OK;
    }
    for (size_t i = 0; i < count; i++) {
        powfast_puzzle shape = {.work = works[i], .parts = parts};
        ok[i] = works[i] && solved(kernel, seeds + 32 * i, powfast_part_limit(&shape),
                                   nonces + i * parts, parts);
    }
    return POWFAST_OK;
}
