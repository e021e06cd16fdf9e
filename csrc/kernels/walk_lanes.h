/*
 * The steps of one walk beside the fill of the next: the steps keep the loads and the scalar units
 * busy, the fill is a chain of few vector instructions that wait for each other. A kernel defines
 * TARGET and TIMES (eight words of 64 bits by a constant), includes this file, and has
 * `walk_and_fill`.
 */
#define SCALAR(row)                                                                                \
    __asm__("" : "+r"(row.a), "+r"(row.b), "+r"(row.c), "+r"(row.d), "+r"(row.e), "+r"(row.f),     \
            "+r"(row.g), "+r"(row.h))
#include "../walk.h"

TARGET static inline __m512i stir_lanes(__m512i u) {
    return _mm512_add_epi64(_mm512_rol_epi64(u, 32), _mm512_alignr_epi64(u, u, 1));
}

TARGET static void walk_and_fill(struct powfast_walk *current, struct powfast_walk *next) {
    struct row x = current->x;
    uint64_t *m = next->memory;
    __m512i y = _mm512_loadu_si512(&next->x);
    for (uint64_t r = 0; r < ROWS; r += 2) {
        if (r > 0 && r % FED == 0) {
            uint64_t first = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(y));
            y = _mm512_xor_si512(y, _mm512_loadu_si512(feeder(m, first, r)));
        }
        y = stir_lanes(TIMES(y, POWFAST_WALK_K));
        _mm512_storeu_si512(m + ROW * r, y);
        y = stir_lanes(TIMES(y, POWFAST_WALK_K));
        _mm512_storeu_si512(m + ROW * (r + 1), y);
        x = take_step(current->memory, x, r / 2);
    }
    _mm512_storeu_si512(&next->x, y);
    current->x = x;
}
