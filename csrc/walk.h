/* Private: the two loops of cachewalk (docs/cachewalk.md), which kernels may take side by side. */
#ifndef POWFAST_WALK_H
#define POWFAST_WALK_H

#include "powfast_impl.h"

enum {
    ROW = 8, /* words */
    ROWS = 4096,
    MEMORY = ROW * ROWS,
    FED = 4, /* one row in so many is fed from an earlier one */
    STEPS = 2048
};

#define POWFAST_WALK_K UINT64_C(0x9e3779b97f4a7c15)

/* Eight words by name, for compilers leave an array in memory. */
struct row {
    uint64_t a, b, c, d, e, f, g, h;
};

struct powfast_walk {
    uint64_t *memory;
    uint8_t hash[32];
    struct row x;
};

static inline uint64_t swap_halves(uint64_t u) { return u << 32 | u >> 32; }

static inline struct row stir(struct row u) {
    return (struct row){swap_halves(u.a) + u.b, swap_halves(u.b) + u.c, swap_halves(u.c) + u.d,
                        swap_halves(u.d) + u.e, swap_halves(u.e) + u.f, swap_halves(u.f) + u.g,
                        swap_halves(u.g) + u.h, swap_halves(u.h) + u.a};
}

static inline struct row feed(struct row x, const uint64_t *m) {
    return (struct row){x.a ^ m[0], x.b ^ m[1], x.c ^ m[2], x.d ^ m[3],
                        x.e ^ m[4], x.f ^ m[5], x.g ^ m[6], x.h ^ m[7]};
}

static inline void store_row(uint64_t *m, struct row x) {
    m[0] = x.a, m[1] = x.b, m[2] = x.c, m[3] = x.d;
    m[4] = x.e, m[5] = x.f, m[6] = x.g, m[7] = x.h;
}

#ifndef SCALAR /* of a row, where a compiler would make vectors of it, which is slower */
#define SCALAR(row)
#endif

static inline uint64_t look_up(const uint64_t *m, uint64_t x) {
    return ((x ^ m[(x >> 32) % MEMORY]) + m[x % MEMORY]) * POWFAST_WALK_K;
}

static inline struct row take_step(uint64_t *m, struct row x, uint64_t s) {
    x = stir((struct row){look_up(m, x.a), look_up(m, x.b), look_up(m, x.c), look_up(m, x.d),
                          look_up(m, x.e), look_up(m, x.f), look_up(m, x.g), look_up(m, x.h)});
    SCALAR(x);
    struct row visited = feed(x, m + ROW * s);
    SCALAR(visited);
    store_row(m + ROW * s, visited);
    return x;
}

/* The row that feeds row r, which is drawn from all before it. */
static inline const uint64_t *feeder(const uint64_t *memory, uint64_t x, uint64_t r) {
    return memory + ROW * ((x >> 32) * r >> 32);
}

#endif
