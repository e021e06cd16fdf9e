/* The SHA-256 instructions of ARMv8. As on x86 a hash is one chain; STREAMS of them hide its
 * latency. */
#include "../powfast_impl.h"

#ifdef POWFAST_ARM64

#include <arm_neon.h>

#ifdef __clang__
#define TARGET __attribute__((target("sha2")))
#else
#define TARGET __attribute__((target("+crypto")))
#endif
#define INLINE TARGET static inline __attribute__((always_inline))
typedef uint32x4_t vec;

enum { STREAMS = 2 };
#define EACH for (int i = 0; i < STREAMS; i++)

struct chain {
    vec abcd, efgh;
};

INLINE vec big_endian(const uint8_t *bytes) {
    return vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(bytes)));
}

INLINE vec k(int t) { return vld1q_u32(powfast_k + t); }

/* Four rounds; kw holds their constants plus schedule words. */
INLINE void rounds(struct chain *s, vec kw) {
    vec abcd = s->abcd;
    s->abcd = vsha256hq_u32(abcd, s->efgh, kw);
    s->efgh = vsha256h2q_u32(s->efgh, abcd, kw);
}

INLINE vec expand(vec w0, vec w1, vec w2, vec w3) {
    return vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3);
}

/* ---- search ---- */

struct constants {
    struct chain after11;
    vec w12, w16, kw16; /* schedule words, word 13 less the nonce; rounds 16 .. 19 */
    vec sum20, sum24;   /* the first halves of words 20 .. 27: they do not depend on word 13 */
};

INLINE void prepare(struct constants *c, const struct powfast_job *job) {
    c->after11 = (struct chain){vld1q_u32(job->state), vld1q_u32(job->state + 4)};
    c->w12 = vld1q_u32(job->constant + 12);
    c->w16 = vld1q_u32(job->constant + 16);
    c->kw16 = vaddq_u32(c->w16, k(16));
    vec w8 = vld1q_u32(job->constant + 8);
    c->sum20 = vsha256su0q_u32(vld1q_u32(job->constant + 4), w8);
    c->sum24 = vsha256su0q_u32(w8, c->w12);
}

/* The first digest word of each candidate, less the initial value. */
INLINE void search_streams(uint32_t first[STREAMS], const struct constants *c,
                           const uint32_t w13[STREAMS]) {
    struct chain s[STREAMS];
    vec w[4][STREAMS];
    EACH {
        s[i] = c->after11;
        w[3][i] = vsetq_lane_u32(w13[i], c->w12, 1);
        w[0][i] = c->w16;
        w[1][i] = vsha256su1q_u32(c->sum20, w[3][i], w[0][i]);
        w[2][i] = vsha256su1q_u32(c->sum24, w[0][i], w[1][i]);
    }
    EACH rounds(&s[i], vaddq_u32(w[3][i], k(12)));
    EACH rounds(&s[i], c->kw16);
    EACH rounds(&s[i], vaddq_u32(w[1][i], k(20)));
    EACH rounds(&s[i], vaddq_u32(w[2][i], k(24)));
#pragma GCC unroll 9
    for (int t = 28; t < 64; t += 4) {
        vec *now = w[(t / 4) & 3], *w1 = w[(t / 4 + 1) & 3];
        vec *w2 = w[(t / 4 + 2) & 3], *w3 = w[(t / 4 + 3) & 3];
        EACH now[i] = expand(now[i], w1[i], w2[i], w3[i]);
        EACH rounds(&s[i], vaddq_u32(now[i], k(t)));
    }
    EACH first[i] = vgetq_lane_u32(s[i].abcd, 0);
}

TARGET static uint32_t search(const struct powfast_job *job, uint32_t low, uint32_t count) {
    struct constants c;
    prepare(&c, job);
    for (uint32_t n = 0; n < count; n += STREAMS) {
        uint32_t w13[STREAMS], first[STREAMS];
        EACH w13[i] = (low + n + (uint32_t)i) << 8 | 0x80;
        search_streams(first, &c, w13);
        EACH if (first[i] + powfast_h[0] <= job->limit) {
            n += (uint32_t)i;
            return n < count ? n : count;
        }
    }
    return count;
}

/* ---- digests of any block ---- */

INLINE void digest_streams(uint64_t *digests, const struct powfast_candidate *candidates[STREAMS]) {
    struct chain s[STREAMS];
    vec w[4][STREAMS];
    EACH {
        const uint8_t *seed = candidates[i]->seed;
        uint32_t tail[8];
        powfast_block_tail(tail, candidates[i]->part, candidates[i]->nonce);
        w[0][i] = big_endian(seed), w[1][i] = big_endian(seed + 16);
        w[2][i] = vld1q_u32(tail), w[3][i] = vld1q_u32(tail + 4);
        s[i] = (struct chain){vld1q_u32(powfast_h), vld1q_u32(powfast_h + 4)};
    }
#pragma GCC unroll 16
    for (int t = 0; t < 64; t += 4) {
        vec *now = w[(t / 4) & 3], *w1 = w[(t / 4 + 1) & 3];
        vec *w2 = w[(t / 4 + 2) & 3], *w3 = w[(t / 4 + 3) & 3];
        EACH now[i] = t < 16 ? now[i] : expand(now[i], w1[i], w2[i], w3[i]);
        EACH rounds(&s[i], vaddq_u32(now[i], k(t)));
    }
    EACH {
        vec sum = vaddq_u32(s[i].abcd, vld1q_u32(powfast_h));
        digests[i] = (uint64_t)vgetq_lane_u32(sum, 0) << 32 | vgetq_lane_u32(sum, 1);
    }
}

TARGET static void digest(uint64_t *digests, const struct powfast_candidate *candidates,
                          size_t count) {
    for (size_t n = 0; n < count; n += STREAMS) {
        const struct powfast_candidate *streams[STREAMS];
        uint64_t out[STREAMS];
        EACH streams[i] = &candidates[n + (size_t)i < count ? n + (size_t)i : count - 1];
        digest_streams(out, streams);
        EACH if (n + (size_t)i < count) digests[n + (size_t)i] = out[i];
    }
}

/* ---- any message ---- */

TARGET static void compress(uint32_t state[8], const uint8_t *blocks, size_t count) {
    struct chain s = {vld1q_u32(state), vld1q_u32(state + 4)};
    for (; count; count--, blocks += 64) {
        struct chain before = s;
        vec w[4];
#pragma GCC unroll 16
        for (int t = 0; t < 64; t += 4) {
            vec *now = &w[(t / 4) & 3];
            if (t < 16)
                *now = big_endian(blocks + 4 * t);
            else
                *now = expand(*now, w[(t / 4 + 1) & 3], w[(t / 4 + 2) & 3], w[(t / 4 + 3) & 3]);
            rounds(&s, vaddq_u32(*now, k(t)));
        }
        s.abcd = vaddq_u32(s.abcd, before.abcd);
        s.efgh = vaddq_u32(s.efgh, before.efgh);
    }
    vst1q_u32(state, s.abcd);
    vst1q_u32(state + 4, s.efgh);
}

const struct powfast_kernel powfast_kernel_armv8 = {
    "armv8", CPU_SHA2, search, digest, compress, NULL};

#endif
