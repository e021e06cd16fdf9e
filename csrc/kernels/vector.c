/* Four lanes in the compiler's own vectors: SSE2, NEON, SIMD128, whatever the target always has. */
#include "../powfast_impl.h"

#ifdef POWFAST_VECTOR

#define LANES 4
#define TARGET
typedef uint32_t vec __attribute__((vector_size(16)));

static inline vec load(const uint32_t *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void store(uint32_t *p, vec x) { memcpy(p, &x, sizeof x); }

/* One bit for each lane that is not zero. */
static inline uint32_t lane_bits(vec mask) {
    uint64_t halves[2];
    memcpy(halves, &mask, sizeof halves);
    if (!(halves[0] | halves[1]))
        return 0;
    return (mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8);
}

#define SET(x) ((vec){0} + (uint32_t)(x))
#define LOAD(p) load(p)
#define STORE(p, x) store(p, x)
#define ADD(x, y) ((x) + (y))
#define AND(x, y) ((x) & (y))
#define XOR(x, y) ((x) ^ (y))
#define SHL(x, n) ((x) << (n))
#define SHR(x, n) ((x) >> (n))
#define AT_MOST(x, y) lane_bits((vec)((x) <= (y)))

#include "lanes.h"

const struct powfast_kernel powfast_kernel_vector = {
    "vector", 0, search, digest, powfast_compress_scalar, NULL};

#endif
