/* In place of the compiler's, for kernels/avx512.c alone: SIMDe makes AVX2 of what is AVX-512. */
#ifndef LOWERED_IMMINTRIN_H
#define LOWERED_IMMINTRIN_H

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

/* SIMDe 0.7.4 has no gather of this shape. */
static inline __m512i lowered_gather(__m512i index, const void *base, int scale) {
    uint32_t indices[16], words[16];
    simde_mm512_storeu_si512(indices, index);
    for (int lane = 0; lane < 16; lane++)
        memcpy(&words[lane], (const char *)base + (size_t)indices[lane] * (size_t)scale, 4);
    return simde_mm512_loadu_si512(words);
}
#define _mm512_i32gather_epi32(index, base, scale) lowered_gather(index, base, scale)

/* Nor has it this one; here only ever by one word. */
static inline __m512i lowered_align(__m512i high, __m512i low) {
    uint64_t words[16];
    simde_mm512_storeu_si512(words, low);
    simde_mm512_storeu_si512(words + 8, high);
    return simde_mm512_loadu_si512(words + 1);
}
#define _mm512_alignr_epi64(high, low, count) lowered_align(high, low)

#define target(instructions) __target__("avx2")
#define CPU_AVX512 CPU_AVX2

#endif
