#include "powfast_impl.h"

#ifdef POWFAST_X86

#include <cpuid.h>

/* Which register files the operating system saves: XCR0. */
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Of AMD's family 25, Zen 3 and 4, Zen 4 has AVX-512. */
static int is_family25(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || c != signature_AMD_ecx)
        return 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (a >> 8 & 15) + (a >> 20 & 255) == 25;
}

uint32_t powfast_cpu_features(void) {
    uint32_t a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    int ssse3_sse41 = (c & bit_SSSE3) && (c & bit_SSE4_1);
    uint64_t saved = c & bit_OSXSAVE ? saved_state() : 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if (ssse3_sse41 && (b & bit_SHA))
        features |= CPU_SHANI;
    if ((saved & 0x06) == 0x06 && (b & bit_AVX2)) /* xmm, ymm */
        features |= CPU_AVX2;
    if ((saved & 0xe6) == 0xe6 && (b & bit_AVX512F)) /* and the masks and zmm */
        features |= CPU_AVX512;
    if (features & CPU_AVX512 && (b & bit_AVX512VL) && (b & bit_AVX512DQ))
        features |= CPU_AVX512VL;
    if (features & CPU_AVX512VL && is_family25())
        features |= CPU_ZEN4;
    return features;
}

#elif defined(POWFAST_ARM64) && defined(__linux__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

uint32_t powfast_cpu_features(void) { return getauxval(AT_HWCAP) & HWCAP_SHA2 ? CPU_SHA2 : 0; }

#elif defined(POWFAST_ARM64) && defined(__APPLE__)

uint32_t powfast_cpu_features(void) { return CPU_SHA2; } /* every Apple chip of 64 bits has it */

#else

uint32_t powfast_cpu_features(void) { return 0; }

#endif
