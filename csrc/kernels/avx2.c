/* Eight lanes of 32 bits. */
#include "../powfast_impl.h"

#ifdef POWFAST_X86

#include <immintrin.h>

#define LANES 8
#ifdef __clang__
#define TARGET __attribute__((target("avx2")))
#else /* GCC schedules x86 code after it has run out of registers, unless told: 5 % */
#define TARGET __attribute__((target("avx2"), optimize("schedule-insns", "sched-pressure")))
#endif
typedef __m256i vec;
#define SET(x) _mm256_set1_epi32((int)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define ADD(x, y) _mm256_add_epi32(x, y)
#define AND(x, y) _mm256_and_si256(x, y)
#define XOR(x, y) _mm256_xor_si256(x, y)
#define SHL(x, n) _mm256_slli_epi32(x, n)
#define SHR(x, n) _mm256_srli_epi32(x, n)
/* Unsigned x <= y, one bit for each lane. */
#define AT_MOST(x, y)                                                                              \
    (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_min_epu32(x, y), x)))

#include "lanes.h"

const struct powfast_kernel powfast_kernel_avx2 = {
    "avx2", CPU_AVX2, search, digest, powfast_compress_scalar, NULL};

#endif
