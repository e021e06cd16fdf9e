#include "powfast_impl.h"

/* The expected folds come from Python's hashlib (tests/reference.py makes them again). */
static const uint64_t DIGESTS = 0xd9309b861cb6c71e, SOLUTIONS = 0x280fffffaef13,
                      MESSAGE = 0x1901da1c9f699b48;

static uint64_t fold(uint64_t sum, uint64_t value) { return (sum << 1 | sum >> 63) ^ value; }

/* 67 digests: whole groups of every lane count, and a rest. */
static uint64_t fold_digests(const powfast_kernel *kernel) {
    struct powfast_candidate candidates[67];
    uint8_t seed[32];
    uint64_t digests[67], sum = 0;
    for (uint8_t i = 0; i < 32; i++)
        seed[i] = i;
    for (uint32_t i = 0; i < 67; i++)
        candidates[i] = (struct powfast_candidate){seed, i * 0x9e3779b97f4a7c15, i};
    kernel->digest(digests, candidates, 67);
    for (int i = 0; i < 67; i++)
        sum = fold(sum, digests[i]);
    return sum;
}

/* All solutions among 1000 nonces around an edge where the constant rounds change. */
static uint64_t fold_solutions(const powfast_kernel *kernel) {
    powfast_puzzle puzzle = {.work = 64 * 8, .parts = 8};
    uint64_t first = ((uint64_t)1 << 40) - 500, end = first + 1000, nonce, sum = 0;
    for (uint8_t i = 0; i < 32; i++)
        puzzle.seed[i] = i;
    while (powfast_search(&nonce, kernel, &puzzle, 7, first, end - first) == POWFAST_OK) {
        sum = fold(sum, nonce);
        first = nonce + 1;
    }
    return sum;
}

/* A message of three whole blocks and a rest. */
static uint64_t hash_message(const powfast_kernel *kernel) {
    uint8_t message[200], digest[32];
    for (uint8_t i = 0; i < 200; i++)
        message[i] = i;
    powfast_sha256(digest, kernel, message, sizeof message);
    return load_be64(digest);
}

powfast_status powfast_kernel_selftest(const powfast_kernel *kernel) {
    int right = fold_digests(kernel) == DIGESTS && fold_solutions(kernel) == SOLUTIONS &&
                hash_message(kernel) == MESSAGE;
    return right ? POWFAST_OK : POWFAST_SELFTEST_FAILED;
}
