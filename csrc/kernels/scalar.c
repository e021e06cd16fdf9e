/* One lane of plain C: for every machine, and the judge of what the other kernels find. */
#include "../powfast_impl.h"

#define LANES 1
#define TARGET
typedef uint32_t vec;
#define SET(x) ((uint32_t)(x))
#define LOAD(p) (*(p))
#define STORE(p, x) (*(p) = (x))
#define ADD(x, y) ((x) + (y))
#define AND(x, y) ((x) & (y))
#define XOR(x, y) ((x) ^ (y))
#define SHR(x, n) ((x) >> (n))
#define ROTR(x, n) rotr(x, n)
#define AT_MOST(x, y) (uint32_t)((x) <= (y))

#include "lanes.h"

void powfast_compress_scalar(uint32_t state[8], const uint8_t *blocks, size_t count) {
    for (; count; count--, blocks += 64) {
        const uint32_t *k = powfast_k;
        uint32_t w[16], a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 16; t++)
            w[t] = load_be32(blocks + 4 * t);
        SIXTY_FOUR_ROUNDS;
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

const struct powfast_kernel powfast_kernel_scalar = {
    "scalar", 0, search, digest, powfast_compress_scalar, NULL};
