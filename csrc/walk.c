/* Cachewalk: dependent reads through 256 KiB that belong to one nonce (docs/cachewalk.md). No
 * branch depends on data, so every walk costs the same. */
#include "walk.h"

#define K POWFAST_WALK_K

static inline struct row times_k(struct row x) {
    return (struct row){x.a * K, x.b * K, x.c * K, x.d * K, x.e * K, x.f * K, x.g * K, x.h * K};
}

static void fill(struct powfast_walk *walk) {
    struct row x = walk->x;
    uint64_t *m = walk->memory;
    for (uint64_t r = 0; r < ROWS; r += FED) {
        if (r > 0)
            x = feed(x, feeder(m, x.a, r));
        for (uint64_t i = r; i < r + FED; i++) {
            x = stir(times_k(x));
            store_row(m + ROW * i, x);
        }
    }
    walk->x = x;
}

static void take_steps(struct powfast_walk *walk) {
    struct row x = walk->x;
    for (uint64_t s = 0; s < STEPS; s++)
        x = take_step(walk->memory, x, s);
    walk->x = x;
}

static void begin(struct powfast_walk *walk, const powfast_kernel *kernel, const uint8_t *seed,
                  uint32_t part, uint64_t nonce) {
    uint8_t message[55] = "", bytes[64];
    uint64_t words[ROW];
    memcpy(message, seed, 32);
    memcpy(message + 32, "powfast/v2:", 11);
    store_be32(message + 43, part);
    store_be64(message + 47, nonce);
    powfast_sha256(bytes, kernel, message, sizeof message);
    powfast_sha256(bytes + 32, kernel, bytes, 32);
    memcpy(walk->hash, bytes, sizeof walk->hash);
    for (int i = 0; i < ROW; i++)
        words[i] = load_be64(bytes + 8 * i);
    walk->x = feed((struct row){0}, words);
}

static uint64_t finish(const struct powfast_walk *walk, const powfast_kernel *kernel) {
    uint8_t bytes[96], digest[32];
    uint64_t words[ROW];
    store_row(words, walk->x);
    memcpy(bytes, walk->hash, sizeof walk->hash);
    for (int i = 0; i < ROW; i++)
        store_be64(bytes + 32 + 8 * i, words[i]);
    powfast_sha256(digest, kernel, bytes, sizeof bytes);
    return load_be64(digest);
}

/* Digests one after the other; while one walks, the next one's memory is filled if that helps. */
struct walks {
    struct powfast_walk current, next;
    const powfast_kernel *kernel;
    const uint8_t *seed;
    const uint64_t *nonces; /* of parts 0, 1, ...; null: successive ones of one part */
    uint64_t nonce, left;
    uint32_t part;
};

static void begin_next(struct walks *walks) {
    uint64_t nonce = walks->nonces ? walks->nonces[walks->part] : walks->nonce++;
    begin(&walks->next, walks->kernel, walks->seed, walks->part, nonce);
    walks->part += walks->nonces != NULL;
    walks->left--;
}

static void fill_next(struct walks *walks) {
    begin_next(walks);
    fill(&walks->next);
}

static void start(struct walks *walks, uint64_t *scratch) {
    walks->current.memory = scratch + MEMORY;
    walks->next.memory = scratch;
    if (walks->kernel->walk_and_fill)
        fill_next(walks);
}

/* The digest of the one after the last, of `left` in all. */
static uint64_t next_digest(struct walks *walks) {
    struct powfast_walk *current = &walks->current, *next = &walks->next, filled = *next;
    if (!walks->kernel->walk_and_fill) {
        fill_next(walks);
        take_steps(next);
        return finish(next, walks->kernel);
    }
    next->memory = current->memory;
    *current = filled;
    if (walks->left) {
        begin_next(walks);
        walks->kernel->walk_and_fill(current, next);
    } else {
        take_steps(current);
    }
    return finish(current, walks->kernel);
}

int powfast_is_scratch(const uint64_t *scratch) {
    return scratch && (uintptr_t)scratch % sizeof *scratch == 0;
}

powfast_status powfast_walk_digest(uint64_t *digest, uint64_t *scratch,
                                   const powfast_kernel *kernel, const uint8_t seed[32],
                                   uint32_t part, uint64_t nonce) {
    struct walks walks = {.kernel = kernel, .seed = seed, .nonce = nonce, .left = 1, .part = part};
    if (!powfast_is_scratch(scratch))
        return POWFAST_INVALID_ARGUMENT;
    start(&walks, scratch);
    *digest = next_digest(&walks);
    return POWFAST_OK;
}

powfast_status powfast_walk_search(uint64_t *nonce, uint64_t *scratch,
                                   const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                                   uint32_t part, uint64_t first, uint64_t count) {
    struct walks walks = {
        .kernel = kernel, .seed = puzzle->seed, .nonce = first, .left = count, .part = part};
    if (!powfast_is_scratch(scratch) || !is_range(puzzle, part, first, count))
        return POWFAST_INVALID_ARGUMENT;
    uint64_t limit = powfast_part_limit(puzzle);
    if (count)
        start(&walks, scratch);
    for (uint64_t i = 0; i < count; i++) {
        if (next_digest(&walks) <= limit) {
            *nonce = first + i;
            return POWFAST_OK;
        }
    }
    return POWFAST_NOT_FOUND;
}

/* Whether all parts are solved; stops at the first that is not. */
static int solved(uint64_t *scratch, const powfast_kernel *kernel, const uint8_t *seed,
                  uint64_t work, const uint64_t *nonces, uint32_t parts) {
    struct walks walks = {.kernel = kernel, .seed = seed, .nonces = nonces, .left = parts};
    if (work == 0)
        return 0;
    start(&walks, scratch);
    for (uint32_t part = 0; part < parts; part++)
        if (next_digest(&walks) > part_limit(work, parts))
            return 0;
    return 1;
}

powfast_status powfast_walk_verify_batch(uint8_t *ok, uint64_t *scratch,
                                         const powfast_kernel *kernel, const uint8_t *seeds,
                                         const uint64_t *works, const uint64_t *nonces,
                                         size_t count, uint32_t parts) {
    if (!powfast_is_scratch(scratch) || parts == 0 || parts > POWFAST_MAX_PARTS)
        return POWFAST_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++, seeds += 32, nonces += parts)
        ok[i] = (uint8_t)solved(scratch, kernel, seeds, works[i], nonces, parts);
    return POWFAST_OK;
}

powfast_status powfast_walk_verify(uint64_t *scratch, const powfast_kernel *kernel,
                                   const powfast_puzzle *puzzle, const uint64_t *nonces) {
    if (powfast_puzzle_check(puzzle) != POWFAST_OK || !powfast_is_scratch(scratch))
        return POWFAST_INVALID_ARGUMENT;
    int ok = solved(scratch, kernel, puzzle->seed, puzzle->work, nonces, puzzle->parts);
    return ok ? POWFAST_OK : POWFAST_WRONG_SOLUTION;
}

/* What the self-test's digests fold to, from Python's hashlib (tests/reference.py). */
static const uint64_t SELFTEST = 0xe4b2f46aea415ebc;

powfast_status powfast_walk_selftest(uint64_t *scratch, const powfast_kernel *kernel) {
    static const uint64_t nonces[4] = {0, POWFAST_WALK_K, 2 * POWFAST_WALK_K, 3 * POWFAST_WALK_K};
    uint8_t seed[32];
    uint64_t sum = 0;
    struct walks walks = {.kernel = kernel, .seed = seed, .nonces = nonces, .left = 4};
    if (!powfast_is_scratch(scratch))
        return POWFAST_INVALID_ARGUMENT;
    for (uint8_t i = 0; i < 32; i++)
        seed[i] = i;
    start(&walks, scratch);
    for (int i = 0; i < 4; i++)
        sum = (sum << 1 | sum >> 63) ^ next_digest(&walks);
    return sum == SELFTEST ? POWFAST_OK : POWFAST_SELFTEST_FAILED;
}
