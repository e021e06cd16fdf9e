/* Private: what a kernel is, and the pieces of SHA-256 that kernels share. */
#ifndef POWFAST_IMPL_H
#define POWFAST_IMPL_H

#include "powfast.h"

#include <string.h>

/* POWFAST_NO_SIMD leaves only the scalar kernel. */
#if !defined(POWFAST_NO_SIMD) && (defined(__x86_64__) || defined(__i386__))
#define POWFAST_X86
#endif
#if !defined(POWFAST_NO_SIMD) && defined(__aarch64__)
#define POWFAST_ARM64
#endif
#if !defined(POWFAST_NO_SIMD) &&                                                                   \
    (defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__))
#define POWFAST_VECTOR
#endif

/* Feature bits of powfast_cpu_features. */
enum {
    CPU_SHANI = 1,
    CPU_AVX2 = 2,
    CPU_AVX512 = 4, /* of its parts F alone */
    CPU_SHA2 = 8,
    CPU_AVX512VL = 16, /* and DQ, which came with it */
    CPU_ZEN4 = 32 /* starts a sha256rnds2 every cycle, and two cycles for 512 bits */
};

/* Candidates that share everything but the low 24 bits of the nonce: only message word 13
 * differs, as (low << 8) | 0x80. */
struct powfast_job {
    uint32_t state[8];     /* after rounds 0 .. 11 */
    uint32_t constant[64]; /* of each schedule word: its terms that do not depend on word 13 */
    uint32_t limit;        /* high half of the part's limit */
};

/* One block that is hashed. */
struct powfast_candidate {
    const uint8_t *seed; /* 32 bytes */
    uint64_t nonce;
    uint32_t part;
};

struct powfast_walk; /* walk.h */

struct powfast_kernel {
    const char *name;
    uint32_t needs; /* feature bits */

    /* The first i < count for which the first digest word of low + i is at most job->limit,
     * else count. low + count <= 2^24. */
    uint32_t (*search)(const struct powfast_job *job, uint32_t low, uint32_t count);

    /* The first 64 bits of the digests of `count` candidates; those of one seed stand together. */
    void (*digest)(uint64_t *digests, const struct powfast_candidate *candidates, size_t count);

    /* Absorb `count` blocks of 64 bytes into a hash state. */
    void (*compress)(uint32_t state[8], const uint8_t *blocks, size_t count);

    /* Walk through the memory of `current` while filling that of `next`; null where one after the
     * other is as fast, and half the memory. */
    void (*walk_and_fill)(struct powfast_walk *current, struct powfast_walk *next);
};

#define KERNEL(name) extern const struct powfast_kernel powfast_kernel_##name;
#include "kernels.def"
#undef KERNEL

/* Here rather than in one file, so that vector code gets them as constants. */
static const uint32_t powfast_h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint32_t powfast_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* puzzle.c */
void powfast_job_prepare(struct powfast_job *job, const uint32_t block[16], uint64_t limit);

/* walk.c */
int powfast_is_scratch(const uint64_t *scratch);

/* sha256.c */
void powfast_hmac_key(powfast_key *key, const powfast_kernel *kernel, const uint8_t *secret,
                      size_t length);
void powfast_hmac(uint8_t mac[32], const powfast_kernel *kernel, const powfast_key *key,
                  const uint8_t *bytes, size_t length);

/* kernels/scalar.c: for kernels that have nothing better */
void powfast_compress_scalar(uint32_t state[8], const uint8_t *blocks, size_t count);

static inline uint64_t part_work(uint64_t work, uint32_t parts) {
    return work / parts + (work % parts != 0);
}

/* floor(2^64 / w) - 1 in 64-bit arithmetic: the 2^64 less w, over w. */
static inline uint64_t part_limit(uint64_t work, uint32_t parts) {
    uint64_t w = part_work(work, parts);
    return (0 - w) / w;
}

/* Whether first .. first + count - 1 are nonces of a part of a puzzle. */
static inline int is_range(const powfast_puzzle *puzzle, uint32_t part, uint64_t first,
                           uint64_t count) {
    return powfast_puzzle_check(puzzle) == POWFAST_OK && part < puzzle->parts &&
           (!count || first + (count - 1) >= first);
}

static inline uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }
static inline uint32_t big_sigma0(uint32_t x) { return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22); }
static inline uint32_t big_sigma1(uint32_t x) { return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25); }
static inline uint32_t small_sigma0(uint32_t x) { return rotr(x, 7) ^ rotr(x, 18) ^ x >> 3; }
static inline uint32_t small_sigma1(uint32_t x) { return rotr(x, 17) ^ rotr(x, 19) ^ x >> 10; }
static inline uint32_t choose(uint32_t e, uint32_t f, uint32_t g) { return g ^ (e & (f ^ g)); }
static inline uint32_t majority(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | (c & (a | b)); }

/* One round on s = a .. h; kw is the round constant plus the schedule word. */
static inline void sha256_round(uint32_t s[8], uint32_t kw) {
    uint32_t t1 = s[7] + big_sigma1(s[4]) + choose(s[4], s[5], s[6]) + kw;
    uint32_t t2 = big_sigma0(s[0]) + majority(s[0], s[1], s[2]);
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += t1;
    s[0] = t1 + t2;
}

static inline uint32_t load_be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Words 8 .. 15 of a block: "powfast/v1:", part, nonce, padding, bit length. */
static inline void powfast_block_tail(uint32_t tail[8], uint32_t part, uint64_t nonce) {
    tail[0] = 0x706f7766;              /* powf */
    tail[1] = 0x6173742f;              /* ast/ */
    tail[2] = 0x76313a00 | part >> 24; /* v1: */
    tail[3] = part << 8 | (uint32_t)(nonce >> 56);
    tail[4] = (uint32_t)(nonce >> 24);
    tail[5] = (uint32_t)(nonce << 8) | 0x80;
    tail[6] = 0;
    tail[7] = 55 * 8;
}

/* Words 0 .. 7. */
static inline void powfast_block_seed(uint32_t words[8], const uint8_t seed[32]) {
    for (int t = 0; t < 8; t++)
        words[t] = load_be32(seed + 4 * t);
}

static inline uint64_t load_be64(const uint8_t *p) {
    return (uint64_t)load_be32(p) << 32 | load_be32(p + 4);
}

static inline void store_be32(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24), p[1] = (uint8_t)(x >> 16); // a loop would be four stores
    p[2] = (uint8_t)(x >> 8), p[3] = (uint8_t)x;
}

static inline void store_be64(uint8_t *p, uint64_t x) {
    store_be32(p, (uint32_t)(x >> 32));
    store_be32(p + 4, (uint32_t)x);
}

/* What an account's query costs at this wealth, counted from 1. */
double powfast_price_at(const powfast_tariff *tariff, double wealth, double query);

/* The wealth that prices, of two e-processes as of powfast_price_both. */
double powfast_wealth(const double *state, const double *second, size_t bets);

/* Begin a second e-process anew, with no more than it has. */
void powfast_begin_anew(double *second, size_t bets);

/* sketch.c: an account's e-processes while a request is priced, and what drives the second one. */
typedef struct powfast_bettor {
    double state[1 + POWFAST_BETS], second[2 + POWFAST_BETS];
    const powfast_advance *advance; /* or null */
} powfast_bettor;

int powfast_may_advance(const powfast_account *account, const powfast_advance *advance);
powfast_bettor powfast_bettor_of(const powfast_account *account, const powfast_advance *advance);

/* Price queries from the one of such an index on. */
powfast_status powfast_bet_on(double *price, powfast_bettor *one, const powfast_tariff *tariff,
                              const double *evidence, size_t index, size_t count);

/* Write back where the e-processes stand, and advance the sketch. */
void powfast_advance_to(powfast_account *account, const powfast_bettor *one);

#endif
