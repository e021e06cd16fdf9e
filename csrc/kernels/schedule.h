/*
 * The message schedule with one hash in each lane of a vector. A kernel defines LANES, TARGET, the
 * type vec and SET, LOAD, STORE, ADD, AND, XOR, SHL, SHR before it includes this file. It may
 * define ROTR and XOR3 where it has better instructions.
 */
#ifndef ROTR
#define ROTR(x, n) XOR(SHR(x, n), SHL(x, 32 - (n)))
#endif
#ifndef XOR3
#define XOR3(x, y, z) XOR(XOR(x, y), z)
#endif
#define SMALL_SIGMA0(x) XOR3(ROTR(x, 7), ROTR(x, 18), SHR(x, 3))
#define SMALL_SIGMA1(x) XOR3(ROTR(x, 17), ROTR(x, 19), SHR(x, 10))

/* Schedule word t from the last sixteen, in place. */
#define EXPAND(t)                                                                                  \
    (w[(t) & 15] = ADD(ADD(w[(t) & 15], SMALL_SIGMA0(w[((t) + 1) & 15])),                          \
                       ADD(w[((t) + 9) & 15], SMALL_SIGMA1(w[((t) + 14) & 15]))))

/* Which words of a search depend on word 13; the others are one broadcast from the job, */
#define VARIES(t) ((t) == 13 || (t) == 20 || (t) == 22 || (t) == 24 || (t) >= 26)
/* and so are the constant terms of these. */
#define C(t) SET(job->constant[t])

/* The same in a search, t a constant >= 16; w[13] is word 13. */
TARGET static inline __attribute__((always_inline)) vec
search_word(vec w[16], int t, const struct powfast_job *job) {
    if (VARIES(t - 16) && VARIES(t - 15) && VARIES(t - 7))
        return EXPAND(t);
    vec sum = C(t);
    if (VARIES(t - 16))
        sum = ADD(sum, w[t & 15]);
    if (VARIES(t - 15))
        sum = ADD(sum, SMALL_SIGMA0(w[(t + 1) & 15]));
    if (VARIES(t - 7))
        sum = ADD(sum, w[(t + 9) & 15]);
    if (VARIES(t - 2))
        sum = ADD(sum, SMALL_SIGMA1(w[(t + 14) & 15]));
    return w[t & 15] = sum;
}

/* ---- blocks ---- */

TARGET static inline void fill(uint32_t lanes[LANES], uint32_t word) {
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = word;
}

/* The words that are the same in every block. */
TARGET static inline void fill_constants(uint32_t words[16][LANES]) {
    uint32_t tail[8];
    powfast_block_tail(tail, 0, 0);
    for (int t = 8; t < 16; t++)
        fill(words[t], tail[t - 8]);
}

/* What differs between the blocks of LANES candidates: word by word, for a store to another line
 * of the cache takes a cycle. */
TARGET static inline void spread(uint32_t words[16][LANES], const struct powfast_candidate *candidates) {
    const uint8_t *seed = candidates[0].seed;
    uint32_t tail[8];
    for (int t = 0; t < 8; t++)
        if (candidates[LANES - 1].seed == seed)
            fill(words[t], load_be32(seed + 4 * t));
        else
            for (int lane = 0; lane < LANES; lane++)
                words[t][lane] = load_be32(candidates[lane].seed + 4 * t);
    for (int lane = 0; lane < LANES; lane++) {
        powfast_block_tail(tail, candidates[lane].part, candidates[lane].nonce);
        words[11][lane] = tail[3], words[12][lane] = tail[4], words[13][lane] = tail[5];
    }
}
