/* What kernels with the SHA extensions of x86 share. They define TARGET. */
#include <immintrin.h>

#define INLINE TARGET static inline __attribute__((always_inline))
typedef __m128i xmm;

/* The state as the instructions want it: a, b, e, f and c, d, g, h from the top lane down. */
struct chain {
    xmm abef, cdgh;
};

INLINE xmm four(const uint32_t *words) { return _mm_loadu_si128((const xmm *)words); }

INLINE struct chain pack(const uint32_t s[8]) {
    xmm abcd = _mm_shuffle_epi32(four(s), 0xb1), efgh = _mm_shuffle_epi32(four(s + 4), 0x1b);
    return (struct chain){_mm_alignr_epi8(abcd, efgh, 8), _mm_blend_epi16(efgh, abcd, 0xf0)};
}

/* The state of every candidate after round 13, less word 13, which adds to a and e. */
INLINE struct chain after_round13(const struct powfast_job *job) {
    uint32_t s[8];
    memcpy(s, job->state, sizeof s);
    for (int t = 12; t < 14; t++)
        sha256_round(s, powfast_k[t] + job->constant[t]);
    return pack(s);
}

/* The top lanes of four vectors. */
INLINE xmm tops(xmm a, xmm b, xmm c, xmm d) {
    return _mm_unpackhi_epi64(_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
}

/* Unsigned x <= y, one bit for each lane. */
INLINE uint32_t at_most(xmm x, xmm y) {
    xmm mask = _mm_cmpeq_epi32(_mm_min_epu32(x, y), x);
    return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(mask));
}
