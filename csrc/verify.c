#include "powfast_impl.h"

enum { BATCH = 192 }; /* a multiple of every kernel's group, and many times the longest pipeline */

/* Clear `ok` of each candidate whose digest is above its limit. */
static void judge(const powfast_kernel *kernel, const struct powfast_candidate *candidates,
                  const uint64_t *limits, uint8_t *const *ok, size_t count) {
    uint64_t digests[BATCH];
    kernel->digest(digests, candidates, count);
    for (size_t i = 0; i < count; i++)
        if (digests[i] > limits[i])
            *ok[i] = 0;
}

powfast_status powfast_verify_batch(uint8_t *ok, const powfast_kernel *kernel,
                                    const uint8_t *seeds, const uint64_t *works,
                                    const uint64_t *nonces, size_t count, uint32_t parts) {
    struct powfast_candidate candidates[BATCH];
    uint64_t limits[BATCH];
    uint8_t *owners[BATCH];
    uint64_t work = 0, limit = 0;
    size_t filled = 0;
    if (parts == 0 || parts > POWFAST_MAX_PARTS)
        return POWFAST_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++, seeds += 32, nonces += parts) {
        if (works[i] != work) { /* divisions cost a sixth of a hash, and prices are coarse */
            work = works[i];
            limit = work ? part_limit(work, parts) : 0;
        }
        ok[i] = works[i] != 0;
        /* until a part is known to be wrong */
        for (uint32_t part = 0; part < parts && ok[i]; part++) {
            candidates[filled] = (struct powfast_candidate){seeds, nonces[part], part};
            limits[filled] = limit;
            owners[filled++] = &ok[i];
            if (filled == BATCH) {
                judge(kernel, candidates, limits, owners, filled);
                filled = 0;
            }
        }
    }
    if (filled)
        judge(kernel, candidates, limits, owners, filled);
    return POWFAST_OK;
}

powfast_status powfast_verify(const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                              const uint64_t *nonces) {
    uint8_t ok;
    if (powfast_puzzle_check(puzzle) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    powfast_verify_batch(&ok, kernel, puzzle->seed, &puzzle->work, nonces, 1, puzzle->parts);
    return ok ? POWFAST_OK : POWFAST_WRONG_SOLUTION;
}
