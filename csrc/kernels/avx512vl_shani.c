/* The message schedules in eight lanes of AVX-512VL, the rounds in the SHA extensions: a core that
 * starts a sha256rnds2 every cycle has three ports left for schedules meanwhile. So schedules are
 * made a group of candidates ahead, between the rounds of the group before. */
#include "../powfast_impl.h"

#ifdef POWFAST_X86

#include <immintrin.h>

#define LANES 8
#ifdef __clang__
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,sha")))
#else /* the order of the sums is the order in which their terms are ready: 7 % */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,sha"), optimize("no-tree-reassoc")))
#endif
typedef __m256i vec;
#define SET(x) _mm256_set1_epi32((int)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define ADD(x, y) _mm256_add_epi32(x, y)
#define SHR(x, n) _mm256_srli_epi32(x, n)
#define ROTR(x, n) _mm256_ror_epi32(x, n)
#define XOR3(x, y, z) _mm256_ternarylogic_epi32(x, y, z, 0x96)

/* So that a constant is an operand in memory: one that GCC knows costs a broadcast. */
#define HIDE(pointer) __asm__("" : "+r"(pointer))

#include "schedule.h"
#include "shani.h"

/* Four chains hide the latency of four cycles. */
enum { STREAMS = 4, PAIRS = 32 };
#define EACH for (int i = 0; i < STREAMS; i++)

/* Constant plus schedule word of rounds 2 p and 2 p + 1, as one operand, of each candidate. */
typedef uint64_t schedule[PAIRS][LANES];

/* The order in which `put` leaves the lanes, and its own inverse. */
static const uint8_t order[LANES] = {0, 1, 4, 5, 2, 3, 6, 7};

INLINE void put(uint64_t pair[LANES], vec even, vec odd) {
    _mm256_storeu_si256((vec *)pair, _mm256_unpacklo_epi32(even, odd));
    _mm256_storeu_si256((vec *)(pair + LANES / 2), _mm256_unpackhi_epi32(even, odd));
}

INLINE void put_words(schedule out, int t, vec even, vec odd) {
    const uint32_t *k = powfast_k;
    HIDE(k);
    put(out[t / 2], ADD(even, SET(k[t])), ADD(odd, SET(k[t + 1])));
}

INLINE xmm kw(const void *pair) { return _mm_loadl_epi64((const xmm *)pair); }

/* Two rounds, after which the halves of the state have changed places. */
INLINE struct chain two_rounds(struct chain s, xmm kw) {
    return (struct chain){_mm_sha256rnds2_epu32(s.cdgh, s.abef, kw), s.abef};
}

/* ---- search ---- */

/* Word t of the search; before 20 they are the same for all. */
INLINE void make(schedule out, vec w[16], int t, const struct powfast_job *job) {
    search_word(w, t, job);
    if (t >= 20 && t % 2 == 1)
        put_words(out, t - 1, w[(t - 1) & 15], w[t & 15]);
}

/* Word 13, where it adds to the state. */
INLINE xmm in_a_and_e(uint32_t x) { return _mm_set_epi32((int)x, 0, (int)x, 0); }

TARGET static uint32_t search(const struct powfast_job *job, uint32_t low, uint32_t count) {
    const struct chain start = after_round13(job);
    const xmm kw14 = _mm_add_epi32(kw(powfast_k + 14), kw(job->constant + 14));
    const xmm limit = _mm_set1_epi32((int)job->limit), initial = _mm_set1_epi32((int)powfast_h[0]);
    _Alignas(64) schedule buffers[2];
    uint32_t lanes[LANES];
    for (uint32_t i = 0; i < LANES; i++)
        lanes[order[i]] = (low + i) << 8 | 0x80;
    vec w13 = LOAD(lanes), w[16];
    xmm abef[STREAMS];
    EACH abef[i] = _mm_add_epi32(start.abef, in_a_and_e((low + (uint32_t)i) << 8 | 0x80));
    for (int b = 0; b < 2; b++)
        for (int t = 16; t < 20; t += 2)
            put_words(buffers[b], t, C(t), C(t + 1));
    /* the first pass only makes schedules */
    for (uint32_t n = 0; n < count + LANES; n += LANES) {
        uint64_t(*now)[LANES] = buffers[n / LANES % 2];
        uint64_t(*next)[LANES] = buffers[1 - n / LANES % 2];
        struct chain s[STREAMS];
        uint32_t hits = 0;
        w[13] = w13;
#pragma GCC unroll 48
        for (int step = 0; step < 48; step++) {
            int first = step / 24 * STREAMS, t = 16 + 2 * (step % 24);
            if (t == 16)
                EACH {
                    s[i] = two_rounds((struct chain){abef[i], start.cdgh}, kw14);
                    if (n)
                        abef[i] = _mm_add_epi32(abef[i], in_a_and_e(STREAMS << 8));
                }
            EACH s[i] = two_rounds(s[i], kw(&now[t / 2][first + i]));
            make(next, w, 16 + step, job);
            if (t == 62) {
                xmm a = tops(s[0].abef, s[1].abef, s[2].abef, s[3].abef);
                hits |= at_most(_mm_add_epi32(a, initial), limit) << first;
            }
        }
        w13 = ADD(w13, SET(LANES << 8));
        if (n && hits) {
            n += (uint32_t)__builtin_ctz(hits) - LANES;
            return n < count ? n : count;
        }
    }
    return count;
}

/* ---- digests of any block ---- */

/* Word t of a block of which the first sixteen are given. */
INLINE void make_digest(schedule out, vec w[16], int t, uint32_t words[16][LANES]) {
    if (t < 16)
        w[t] = LOAD(words[t]);
    else
        EXPAND(t);
    if (t % 2 == 1)
        put_words(out, t - 1, w[(t - 1) & 15], w[t & 15]);
}

/* The rounds have come this far: compilers would put those of one chain together. */
#define IN_STEP(s)                                                                                 \
    __asm__ volatile("" : "+x"(s[0].abef), "+x"(s[1].abef), "+x"(s[2].abef), "+x"(s[3].abef))

/* Whole groups; what is left over, or few, is faster as chains alone. */
enum { FEW = 32 };

TARGET static void digest(uint64_t *digests, const struct powfast_candidate *candidates,
                          size_t count) {
    _Alignas(64) schedule buffers[2];
    _Alignas(64) uint32_t words[2][16][LANES];
    struct chain start = pack(powfast_h);
    size_t whole = count < FEW ? 0 : count - count % LANES;
    fill_constants(words[0]);
    fill_constants(words[1]);
    if (whole)
        spread(words[0], candidates);
    /* the first pass only makes schedules */
    for (size_t n = 0; whole && n < whole + LANES; n += LANES) {
        uint64_t(*now)[LANES] = buffers[n / LANES % 2];
        uint64_t(*next)[LANES] = buffers[1 - n / LANES % 2];
        struct chain s[STREAMS];
        vec w[16];
        /* a pass before they are read: narrow stores do not forward to wide loads */
        if (n + LANES < whole)
            spread(words[1 - n / LANES % 2], candidates + n + LANES);
#pragma GCC unroll 64
        for (int step = 0; step < 64; step++) {
            int first = step / 32 * STREAMS, t = 2 * (step % 32);
            if (t == 0)
                EACH s[i] = start;
            EACH s[i] = two_rounds(s[i], kw(&now[t / 2][first + i]));
            make_digest(next, w, step, words[n / LANES % 2]);
            IN_STEP(s);
            if (t == 62 && n)
                EACH {
                    xmm sum = _mm_add_epi32(s[i].abef, start.abef);
                    double *out = (double *)&digests[n - LANES + order[first + i]];
                    _mm_storeh_pd(out, _mm_castsi128_pd(sum)); /* a, b on top */
                }
        }
    }
    powfast_kernel_shani.digest(digests + whole, candidates + whole, count - whole);
}

TARGET static void compress(uint32_t state[8], const uint8_t *blocks, size_t count) {
    powfast_kernel_shani.compress(state, blocks, count);
}

#define TIMES(x, k) _mm512_mullo_epi64(x, _mm512_set1_epi64((long long)(k)))
#include "walk_lanes.h"

const struct powfast_kernel powfast_kernel_avx512vl_shani = {
    "avx512vl+shani", CPU_AVX512VL | CPU_SHANI | CPU_ZEN4, search, digest, compress, walk_and_fill};

#endif
