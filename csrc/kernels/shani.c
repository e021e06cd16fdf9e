/* The SHA extensions of x86. A hash is one chain of sha256rnds2; three of them interleaved hide
 * its latency. */
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

/* Schedules are made for a group of candidates ahead, two at a time, between the rounds of the
 * group before, and go through memory: a chain of latency and what fills it then stand side by side
 * in the instructions, and twelve fewer shuffles are needed. */
enum { GROUP = 6, AHEAD = 2, QUADS = 11 };

/* Constants plus words 20 .. 63 of each candidate, four at a time. */
typedef uint32_t schedules[QUADS][GROUP][4];

struct constants {
    struct chain after13; /* less word 13, which adds to a and e */
    vec kw14, kw16, kw18; /* two rounds each, in the low half */
    vec w12, w16;         /* schedule words, less word 13 */
    vec sum20, sum24;     /* what goes into sha256msg2, less what depends on word 13 */
    vec limit;
};

/* One group's rounds, and the schedules of the next one. */
struct pass {
    uint32_t (*now)[GROUP][4], (*ahead)[GROUP][4];
    struct chain s[STREAMS];
    vec w[AHEAD][4];  /* the last sixteen schedule words */
    vec w13, ahead13; /* word 13 of the candidate that is next, here and there */
    uint32_t hits;
};

INLINE void prepare(struct constants *c, const struct powfast_job *job) {
    vec w4 = four(job->constant + 4), w8 = four(job->constant + 8);
    c->after13 = after_round13(job);
    c->w12 = four(job->constant + 12);
    c->w16 = four(job->constant + 16);
    c->kw14 = _mm_srli_si128(_mm_add_epi32(c->w12, k(12)), 8);
    c->kw16 = _mm_add_epi32(c->w16, k(16));
    c->kw18 = _mm_srli_si128(c->kw16, 8);
    c->sum20 = _mm_add_epi32(_mm_sha256msg1_epu32(w4, w8), _mm_alignr_epi8(c->w16, c->w12, 4));
    c->sum24 = _mm_sha256msg1_epu32(w8, c->w12);
    c->limit = _mm_set1_epi32((int)job->limit);
}

INLINE vec word13(uint32_t low) { return _mm_cvtsi32_si128((int)(low << 8 | 0x80)); }
INLINE vec next(vec w13) { return _mm_add_epi32(w13, _mm_cvtsi32_si128(1 << 8)); }

/* Rounds 14 .. 19. */
INLINE void start(struct pass *p, const struct constants *c) {
    struct chain *s = p->s;
    EACH {
        vec abef = _mm_add_epi32(c->after13.abef, _mm_shuffle_epi32(p->w13, 0x11));
        /* after an odd number of pairs the two halves have changed places */
        s[i] = (struct chain){_mm_sha256rnds2_epu32(c->after13.cdgh, abef, c->kw14), abef};
        p->w13 = next(p->w13);
    }
    EACH s[i].cdgh = _mm_sha256rnds2_epu32(s[i].cdgh, s[i].abef, c->kw16);
    EACH s[i].abef = _mm_sha256rnds2_epu32(s[i].abef, s[i].cdgh, c->kw18);
}

/* Four more schedule words, of `AHEAD` candidates: step 0 .. 3 QUADS - 1. */
INLINE void make(struct pass *p, const struct constants *c, int step) {
    int quad = step % QUADS, first = step / QUADS * AHEAD;
    for (int i = 0; i < AHEAD; i++) {
        vec *w = p->w[i], made;
        if (quad == 0) {
            w[2] = _mm_add_epi32(c->w12, _mm_shuffle_epi32(p->ahead13, 0x51));
            w[3] = c->w16;
            made = _mm_sha256msg2_epu32(_mm_add_epi32(c->sum20, p->ahead13), w[3]);
            p->ahead13 = next(p->ahead13);
        } else if (quad == 1) {
            vec sum24 = _mm_add_epi32(c->sum24, _mm_alignr_epi8(w[3], w[2], 4));
            made = _mm_sha256msg2_epu32(sum24, w[3]);
        } else {
            made = expand(w[0], w[1], w[2], w[3]);
        }
        _mm_store_si128((vec *)p->ahead[quad][first + i], _mm_add_epi32(made, k(20 + 4 * quad)));
        w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = made;
    }
}

INLINE vec pair(const uint32_t kw[2]) { return _mm_loadl_epi64((const vec *)kw); }

/* The rounds have come this far: compilers would put those of one chain together. */
#define IN_STEP(s) EACH __asm__ volatile("" : "+x"((s)[i].abef), "+x"((s)[i].cdgh))

/* Four rounds of three candidates, step 0 .. 2 QUADS - 1; to every two of them three of `make`. */
INLINE void four_rounds(struct pass *p, const struct constants *c, int step) {
    int quad = step % QUADS, first = step / QUADS * STREAMS;
    struct chain *s = p->s;
    uint32_t(*kw)[4] = p->now[quad] + first;
    if (quad == 0)
        start(p, c);
    EACH s[i].cdgh = _mm_sha256rnds2_epu32(s[i].cdgh, s[i].abef, pair(kw[i]));
    make(p, c, step * 3 / 2);
    if (step % 2)
        make(p, c, step * 3 / 2 + 1);
    EACH s[i].abef = _mm_sha256rnds2_epu32(s[i].abef, s[i].cdgh, pair(kw[i] + 2));
    IN_STEP(s);
    if (quad == QUADS - 1) {
        vec a = tops(s[0].abef, s[1].abef, s[2].abef, s[2].abef);
        vec first_word = _mm_add_epi32(a, _mm_set1_epi32((int)powfast_h[0]));
        p->hits |= (at_most(first_word, c->limit) & 7) << first;
    }
}

TARGET static uint32_t search(const struct powfast_job *job, uint32_t low, uint32_t count) {
    _Alignas(64) schedules buffers[2];
    struct constants c;
    struct pass p = {.w13 = word13(low - GROUP), .ahead13 = word13(low)};
    prepare(&c, job);
    /* the first pass only makes schedules */
    for (uint32_t n = 0; n < count + GROUP; n += GROUP) {
        p.now = buffers[n / GROUP % 2];
        p.ahead = buffers[1 - n / GROUP % 2];
        p.hits = 0;
        /* in so many words: GCC unrolls a loop too late to keep what it indexes in registers */
#define STEP(step) four_rounds(&p, &c, step);
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10)
        STEP(11) STEP(12) STEP(13) STEP(14) STEP(15) STEP(16) STEP(17) STEP(18) STEP(19) STEP(20)
        STEP(21)
#undef STEP
        if (n && p.hits) {
            n += (uint32_t)__builtin_ctz(p.hits) - GROUP;
            return n < count ? n : count;
        }
    }
    return count;
}

/* ---- digests of any block ---- */

/* What the candidates of one seed share: schedule words 0 .. 7, and the rounds over them. */
struct seeded {
    struct chain after8;
    vec w0, w4;
};

INLINE struct seeded over_seed(const uint8_t *seed) {
    struct seeded shared = {pack(powfast_h), big_endian(seed), big_endian(seed + 16)};
    rounds(&shared.after8, _mm_add_epi32(shared.w0, k(0)));
    rounds(&shared.after8, _mm_add_epi32(shared.w4, k(4)));
    return shared;
}

/* Each with what its seed gives; streams: a constant, STREAMS at most. */
INLINE void digest_streams(uint64_t *digests, const struct seeded *shared,
                           const struct powfast_candidate *candidates, int streams) {
    struct chain s[STREAMS];
    vec w[4][STREAMS];
    for (int i = 0; i < streams; i++) {
        uint32_t tail[8];
        powfast_block_tail(tail, candidates[i].part, candidates[i].nonce);
        w[0][i] = shared[i].w0, w[1][i] = shared[i].w4;
        w[2][i] = _mm_set_epi32((int)tail[3], (int)tail[2], (int)tail[1], (int)tail[0]);
        w[3][i] = _mm_set_epi32((int)tail[7], (int)tail[6], (int)tail[5], (int)tail[4]);
        s[i] = shared[i].after8;
    }
#pragma GCC unroll 14
    for (int t = 8; t < 64; t += 4) {
        vec *now = w[(t / 4) & 3], *w1 = w[(t / 4 + 1) & 3];
        vec *w2 = w[(t / 4 + 2) & 3], *w3 = w[(t / 4 + 3) & 3];
        for (int i = 0; i < streams && t >= 16; i++)
            now[i] = expand(now[i], w1[i], w2[i], w3[i]);
        for (int i = 0; i < streams; i++)
            rounds(&s[i], _mm_add_epi32(now[i], k(t)));
    }
    for (int i = 0; i < streams; i++) {
        /* a, b on top: already in order */
        vec sum = _mm_add_epi32(s[i].abef, pack(powfast_h).abef);
        _mm_storeh_pd((double *)&digests[i], _mm_castsi128_pd(sum));
    }
}

TARGET static void digest(uint64_t *digests, const struct powfast_candidate *candidates,
                          size_t count) {
    struct seeded shared[STREAMS], last = {0};
    const uint8_t *seed = NULL;
    size_t n = 0;
    for (; n + STREAMS <= count; n += STREAMS) {
        EACH {
            if (candidates[n + i].seed != seed)
                last = over_seed(seed = candidates[n + i].seed);
            shared[i] = last;
        }
        digest_streams(digests + n, shared, candidates + n, STREAMS);
    }
    for (; n < count; n++) {
        if (candidates[n].seed != seed)
            last = over_seed(seed = candidates[n].seed);
        digest_streams(digests + n, &last, candidates + n, 1);
    }
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

const struct powfast_kernel powfast_kernel_shani = {
    "shani", CPU_SHANI, search, digest, compress, NULL};

#endif
