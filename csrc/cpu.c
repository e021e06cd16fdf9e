#include "powfast_impl.h"

#ifdef POWFAST_X86

#include <cpuid.h>

/* Which register files the operating system saves: XCR0. */
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

uint32_t powfast_cpu_features(void) {
    uint32_t a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    int ssse3_sse41 = (c & bit_SSSE3) && (c & bit_SSE4_1);
    int ymm = (c & bit_OSXSAVE) && (saved_state() & 6) == 6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if (ssse3_sse41 && (b & bit_SHA))
        features |= CPU_SHANI;
    if (ymm && (b & bit_AVX2))
        features |= CPU_AVX2;
    return features;
}

#else

uint32_t powfast_cpu_features(void) { return 0; }

#endif
