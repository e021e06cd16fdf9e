/* Sixteen lanes of 32 bits, with rotation and any function of three bits in one instruction. */
#include "../powfast_impl.h"

#ifdef POWFAST_X86

#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f")))
typedef __m512i vec;
#define SET(x) _mm512_set1_epi32((int)(x))
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, x) _mm512_storeu_si512(p, x)
#define ADD(x, y) _mm512_add_epi32(x, y)
#define SHR(x, n) _mm512_srli_epi32(x, n)
#define ROTR(x, n) _mm512_ror_epi32(x, n)
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(e, f, g) _mm512_ternarylogic_epi32(e, f, g, 0xca)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)
#define AT_MOST(x, y) (uint32_t)_mm512_cmple_epu32_mask(x, y)

/* So that a constant is an operand in memory: one that GCC knows costs a broadcast on port 5. */
#define HIDE(pointer) __asm__("" : "+r"(pointer))

#include "lanes.h"


/* By 32-bit products, for AVX-512F has no others. */
TARGET static inline vec times(vec x, uint64_t k) {
    vec low = _mm512_set1_epi64((uint32_t)k), high = _mm512_set1_epi64((uint32_t)(k >> 32));
    vec crossed = _mm512_add_epi64(_mm512_mul_epu32(_mm512_srli_epi64(x, 32), low),
                                   _mm512_mul_epu32(x, high));
    return _mm512_add_epi64(_mm512_mul_epu32(x, low), _mm512_slli_epi64(crossed, 32));
}

#define TIMES(x, k) times(x, k)
#include "walk_lanes.h"

const struct powfast_kernel powfast_kernel_avx512 = {
    "avx512", CPU_AVX512, search, digest, powfast_compress_scalar, walk_and_fill};

/* With the SHA extensions beside it, which are faster for less than a handful of hashes. */
enum { FEW = 6 };

static void digest_either(uint64_t *digests, const struct powfast_candidate *candidates,
                          size_t count) {
    size_t few = count % LANES < FEW ? count % LANES : 0;
    if (count > few)
        digest(digests, candidates, count - few);
    if (few)
        powfast_kernel_shani.digest(digests + count - few, candidates + count - few, few);
}

static void compress(uint32_t state[8], const uint8_t *blocks, size_t count) {
    powfast_kernel_shani.compress(state, blocks, count);
}

const struct powfast_kernel powfast_kernel_avx512_shani = {
    "avx512+shani", CPU_AVX512 | CPU_SHANI, search, digest_either, compress, walk_and_fill};

#endif
