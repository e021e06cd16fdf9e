/*
 * SHA-256 with one hash in each lane of a vector. A kernel defines what schedule.h asks for and
 * AT_MOST, includes this file, and has `search` and `digest`. It may define CHOOSE and MAJORITY
 * where it has better instructions, and HIDE, which keeps the compiler from knowing the constants
 * behind a pointer.
 */
#include "schedule.h"

#ifndef HIDE
#define HIDE(pointer)
#endif
#ifndef CHOOSE
#define CHOOSE(e, f, g) XOR(g, AND(e, XOR(f, g)))
#endif
#ifndef MAJORITY /* b where a = b, else c; a ^ b is the next round's b ^ c */
#define MAJORITY(a, b, c) XOR(b, AND(XOR(a, b), XOR(b, c)))
#endif

#define BIG_SIGMA0(x) XOR3(ROTR(x, 2), ROTR(x, 13), ROTR(x, 22))
#define BIG_SIGMA1(x) XOR3(ROTR(x, 6), ROTR(x, 11), ROTR(x, 25))

/* The sum in the order in which its terms are ready: GCC keeps to it. */
#define ROUND(a, b, c, d, e, f, g, h, kw)                                                          \
    do {                                                                                           \
        h = ADD(ADD(ADD(h, kw), CHOOSE(e, f, g)), BIG_SIGMA1(e));                                  \
        d = ADD(d, h);                                                                             \
        h = ADD(h, ADD(BIG_SIGMA0(a), MAJORITY(a, b, c)));                                         \
    } while (0)

/* Eight rounds, after which the names are back in place; KW(t) is constant plus schedule word. */
#define EIGHT_ROUNDS(KW, t)                                                                        \
    ROUND(a, b, c, d, e, f, g, h, KW((t) + 0));                                                    \
    ROUND(h, a, b, c, d, e, f, g, KW((t) + 1));                                                    \
    ROUND(g, h, a, b, c, d, e, f, KW((t) + 2));                                                    \
    ROUND(f, g, h, a, b, c, d, e, KW((t) + 3));                                                    \
    ROUND(e, f, g, h, a, b, c, d, KW((t) + 4));                                                    \
    ROUND(d, e, f, g, h, a, b, c, KW((t) + 5));                                                    \
    ROUND(c, d, e, f, g, h, a, b, KW((t) + 6));                                                    \
    ROUND(b, c, d, e, f, g, h, a, KW((t) + 7))

#define GIVEN_KW(t) ADD(w[t], SET(k[t]))
#define EXPANDED_KW(t) ADD(EXPAND(t), SET(k[t]))

#define SIXTY_FOUR_ROUNDS                                                                          \
    EIGHT_ROUNDS(GIVEN_KW, 0);                                                                     \
    EIGHT_ROUNDS(GIVEN_KW, 8);                                                                     \
    EIGHT_ROUNDS(EXPANDED_KW, 16);                                                                 \
    EIGHT_ROUNDS(EXPANDED_KW, 24);                                                                 \
    EIGHT_ROUNDS(EXPANDED_KW, 32);                                                                 \
    EIGHT_ROUNDS(EXPANDED_KW, 40);                                                                 \
    EIGHT_ROUNDS(EXPANDED_KW, 48);                                                                 \
    EIGHT_ROUNDS(EXPANDED_KW, 56)

TARGET static void digest_lanes(uint32_t first[LANES], uint32_t second[LANES],
                                const uint32_t words[16][LANES]) {
    const uint32_t *k = powfast_k;
    HIDE(k);
    vec a = SET(powfast_h[0]), b = SET(powfast_h[1]), c = SET(powfast_h[2]), d = SET(powfast_h[3]);
    vec e = SET(powfast_h[4]), f = SET(powfast_h[5]), g = SET(powfast_h[6]), h = SET(powfast_h[7]);
    vec w[16];
    for (int t = 0; t < 16; t++)
        w[t] = LOAD(words[t]);
    SIXTY_FOUR_ROUNDS;
    STORE(first, ADD(a, SET(powfast_h[0])));
    STORE(second, ADD(b, SET(powfast_h[1])));
}

TARGET static void digest(uint64_t *digests, const struct powfast_candidate *candidates, size_t count) {
    struct powfast_candidate rest[LANES];
    uint32_t words[16][LANES], first[LANES], second[LANES];
    fill_constants(words);
    for (size_t i = 0; i < count; i += LANES) {
        size_t n = count - i < LANES ? count - i : LANES;
        for (size_t lane = 0; lane < LANES && n < LANES; lane++)
            rest[lane] = candidates[i + (lane < n ? lane : n - 1)];
        spread(words, n < LANES ? rest : candidates + i);
        digest_lanes(first, second, (const uint32_t(*)[LANES])words);
        for (size_t lane = 0; lane < n; lane++)
            digests[i + lane] = (uint64_t)first[lane] << 32 | second[lane];
    }
}

#define SEARCH_KW(t)                                                                               \
    (VARIES(t) ? ADD(search_word(w, t, job), SET(k[t])) : SET(k[t] + job->constant[t]))

/* One bit for each lane that reaches the limit; job->state is after round 13, less word 13. */
TARGET static uint32_t search_lanes(const struct powfast_job *job, vec w13) {
    const uint32_t *s = job->state, *k = powfast_k;
    HIDE(k);
    /* named so that two rounds later each name is its own again */
    vec c = ADD(SET(s[0]), w13), d = SET(s[1]), e = SET(s[2]), f = SET(s[3]);
    vec g = ADD(SET(s[4]), w13), h = SET(s[5]), a = SET(s[6]), b = SET(s[7]);
    vec w[16];
    w[13] = w13;

    ROUND(c, d, e, f, g, h, a, b, SEARCH_KW(14));
    ROUND(b, c, d, e, f, g, h, a, SEARCH_KW(15));
    EIGHT_ROUNDS(SEARCH_KW, 16);
    EIGHT_ROUNDS(SEARCH_KW, 24);
    EIGHT_ROUNDS(SEARCH_KW, 32);
    EIGHT_ROUNDS(SEARCH_KW, 40);
    EIGHT_ROUNDS(SEARCH_KW, 48);
    EIGHT_ROUNDS(SEARCH_KW, 56);
    return AT_MOST(ADD(a, SET(powfast_h[0])), SET(job->limit));
}

TARGET static uint32_t search(const struct powfast_job *start, uint32_t low, uint32_t count) {
    struct powfast_job advanced = *start, *job = &advanced;
    uint32_t first[LANES];
    for (int t = 12; t < 14; t++)
        sha256_round(job->state, powfast_k[t] + job->constant[t]);
    for (uint32_t lane = 0; lane < LANES; lane++)
        first[lane] = (low + lane) << 8 | 0x80;
    vec w13 = LOAD(first);
    for (uint32_t i = 0; i < count; i += LANES, w13 = ADD(w13, SET(LANES << 8))) {
        uint32_t hits = search_lanes(job, w13);
        if (hits) {
            i += (uint32_t)__builtin_ctz(hits);
            return i < count ? i : count;
        }
    }
    return count;
}
