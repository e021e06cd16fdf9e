/* The SHA extensions of x86. A hash is one chain of sha256rnds2; three of them interleaved hide
 * its latency, and more would spill. */
#include "../powfast_impl.h"

#ifdef POWFAST_X86

#define TARGET __attribute__((target("sha,ssse3,sse4.1")))
#include "shani.h"

typedef xmm vec;

INLINE vec big_endian(const uint8_t *bytes) {
    const vec swap = _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    return _mm_shuffle_epi8(_mm_loadu_si128((const vec *)bytes), swap);
}

INLINE vec k(int t) { return four(powfast_k + t); }

/* Four rounds; kw holds their constants plus schedule words. */
INLINE void rounds(struct chain *s, vec kw) {
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, kw);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(kw, 0x0e));
}

/* The next four schedule words from the sixteen before. */
INLINE vec expand(vec w0, vec w1, vec w2, vec w3) {
    vec sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(sum, w3);
}

enum { STREAMS = 3 };
#define EACH for (int i = 0; i < STREAMS; i++)

/* ---- search ---- */

struct constants {
    struct chain after13;    /* less word 13, which adds to a and e */
    vec kw14, kw16;          /* rounds 14, 15 (in the low half) and 16 .. 19 */
    vec w12, w16;            /* schedule words, less word 13 */
    vec sum20, sum24;       /* what goes into sha256msg2, less what depends on word 13 */
};

INLINE void prepare(struct constants *c, const struct powfast_job *job) {
    c->after13 = after_round13(job);
    vec w4 = four(job->constant + 4), w8 = four(job->constant + 8);
    c->w12 = four(job->constant + 12);
    c->w16 = four(job->constant + 16);
    c->kw14 = _mm_srli_si128(_mm_add_epi32(c->w12, k(12)), 8);
    c->kw16 = _mm_add_epi32(c->w16, k(16));
    c->sum20 = _mm_add_epi32(_mm_sha256msg1_epu32(w4, w8), _mm_alignr_epi8(c->w16, c->w12, 4));
    c->sum24 = _mm_sha256msg1_epu32(w8, c->w12);
}

/* The first digest words of three candidates, less the initial value; the last one twice. */
INLINE vec search_streams(const struct constants *c, const vec w13[STREAMS]) {
    struct chain s[STREAMS];
    vec w[4][STREAMS];
    EACH {
        s[i] = c->after13;
        s[i].abef = _mm_add_epi32(s[i].abef, _mm_shuffle_epi32(w13[i], 0x11));
        s[i].cdgh = _mm_sha256rnds2_epu32(s[i].cdgh, s[i].abef, c->kw14);
    }
    /* After an odd number of pairs the two halves have changed places. */
    EACH s[i] = (struct chain){s[i].cdgh, s[i].abef};
    EACH rounds(&s[i], c->kw16);
    EACH {
        w[3][i] = _mm_add_epi32(c->w12, _mm_shuffle_epi32(w13[i], 0x51));
        w[0][i] = c->w16;
        w[1][i] = _mm_sha256msg2_epu32(_mm_add_epi32(c->sum20, w13[i]), w[0][i]);
        vec sum24 = _mm_add_epi32(c->sum24, _mm_alignr_epi8(w[1][i], w[0][i], 4));
        w[2][i] = _mm_sha256msg2_epu32(sum24, w[1][i]);
    }
    EACH rounds(&s[i], _mm_add_epi32(w[1][i], k(20)));
    EACH rounds(&s[i], _mm_add_epi32(w[2][i], k(24)));
#pragma GCC unroll 9
    for (int t = 28; t < 64; t += 4) {
        vec *now = w[(t / 4) & 3], *w1 = w[(t / 4 + 1) & 3];
        vec *w2 = w[(t / 4 + 2) & 3], *w3 = w[(t / 4 + 3) & 3];
        EACH now[i] = expand(now[i], w1[i], w2[i], w3[i]);
        EACH rounds(&s[i], _mm_add_epi32(now[i], k(t)));
    }
    return tops(s[0].abef, s[1].abef, s[2].abef, s[2].abef);
}

TARGET static uint32_t search(const struct powfast_job *job, uint32_t low, uint32_t count) {
    struct constants c;
    prepare(&c, job);
    vec limit = _mm_set1_epi32((int)job->limit), initial = _mm_set1_epi32((int)powfast_h[0]);
    vec w13[STREAMS];
    EACH w13[i] = _mm_cvtsi32_si128((int)((low + (uint32_t)i) << 8 | 0x80));
    for (uint32_t n = 0; n < count; n += STREAMS) {
        vec first = _mm_add_epi32(search_streams(&c, w13), initial);
        uint32_t hits = at_most(first, limit);
        if (hits) {
            n += (uint32_t)__builtin_ctz(hits);
            return n < count ? n : count;
        }
        EACH w13[i] = _mm_add_epi32(w13[i], _mm_cvtsi32_si128(STREAMS << 8));
    }
    return count;
}

/* ---- digests of any block ---- */

/* streams: a constant, STREAMS at most. */
INLINE void digest_streams(uint64_t *digests, const struct powfast_candidate *candidates,
                           int streams) {
    struct chain start = pack(powfast_h), s[STREAMS];
    vec w[4][STREAMS];
    for (int i = 0; i < streams; i++) {
        const uint8_t *seed = candidates[i].seed;
        uint32_t tail[8];
        powfast_block_tail(tail, candidates[i].part, candidates[i].nonce);
        w[0][i] = big_endian(seed), w[1][i] = big_endian(seed + 16);
        w[2][i] = _mm_set_epi32((int)tail[3], (int)tail[2], (int)tail[1], (int)tail[0]);
        w[3][i] = _mm_set_epi32((int)tail[7], (int)tail[6], (int)tail[5], (int)tail[4]);
        s[i] = start;
    }
#pragma GCC unroll 16
    for (int t = 0; t < 64; t += 4) {
        vec *now = w[(t / 4) & 3], *w1 = w[(t / 4 + 1) & 3];
        vec *w2 = w[(t / 4 + 2) & 3], *w3 = w[(t / 4 + 3) & 3];
        for (int i = 0; i < streams && t >= 16; i++)
            now[i] = expand(now[i], w1[i], w2[i], w3[i]);
        for (int i = 0; i < streams; i++)
            rounds(&s[i], _mm_add_epi32(now[i], k(t)));
    }
    for (int i = 0; i < streams; i++) {
        vec sum = _mm_add_epi32(s[i].abef, start.abef); /* a, b on top: already in order */
        _mm_storeh_pd((double *)&digests[i], _mm_castsi128_pd(sum));
    }
}

TARGET static void digest(uint64_t *digests, const struct powfast_candidate *candidates,
                          size_t count) {
    size_t n = 0;
    for (; n + STREAMS <= count; n += STREAMS)
        digest_streams(digests + n, candidates + n, STREAMS);
    for (; n < count; n++)
        digest_streams(digests + n, candidates + n, 1);
}

/* ---- any message ---- */

TARGET static void compress(uint32_t state[8], const uint8_t *blocks, size_t count) {
    struct chain s = pack(state);
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
            rounds(&s, _mm_add_epi32(*now, k(t)));
        }
        s.abef = _mm_add_epi32(s.abef, before.abef);
        s.cdgh = _mm_add_epi32(s.cdgh, before.cdgh);
    }
    vec feba = _mm_shuffle_epi32(s.abef, 0x1b), dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
    _mm_storeu_si128((vec *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((vec *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

const struct powfast_kernel powfast_kernel_shani = {"shani", CPU_SHANI, search, digest, compress};

#endif
