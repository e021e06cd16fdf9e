/*
 * Cachewalk with less memory: only every STORED-th row of the fill is kept, the others are computed
 * again where a step reads them, of which only as many words as are needed. A row that the walk has
 * passed depends on all steps before it, so it is kept; what the fill left in it is forgotten.
 *
 * FED: one row in so many is fed from an earlier one (4 as specified).
 */
#include <stdint.h>
#include <string.h>

#ifndef FED
#define FED 4
#endif
#ifndef STORED
#define STORED 4
#endif

enum { ROW = 8, ROWS = 4096, STEPS = 2048 };
static const uint64_t K = UINT64_C(0x9e3779b97f4a7c15);

struct cost {
    uint64_t multiplications, rows_read; /* of 64 bits; each one line of a cache */
};

struct state {
    uint64_t kept[ROWS / STORED + 1][ROW], passed[STEPS][ROW];
    uint64_t steps; /* rows below were passed */
    struct cost cost;
};

static uint64_t swap_halves(uint64_t u) { return u << 32 | u >> 32; }

static void stir(uint64_t x[ROW]) {
    uint64_t u[ROW];
    for (int i = 0; i < ROW; i++)
        u[i] = x[i] * K;
    for (int i = 0; i < ROW; i++)
        x[i] = swap_halves(u[i]) + u[(i + 1) % ROW];
}

/* `count` words of a row as the fill left it, from word `first` on, around the row's end. */
static void filled(struct state *s, uint64_t *words, uint64_t row, int first, int count) {
    if (row % STORED == 0) {
        s->cost.rows_read++;
        for (int i = 0; i < count; i++)
            words[i] = s->kept[row / STORED][(first + i) % ROW];
        return;
    }
    uint64_t before[ROW], fed[ROW], u[ROW + 1];
    int fewer = count < ROW ? count + 1 : ROW; /* of the row before */
    int is_fed = row % FED == 0;
    int from = is_fed ? 0 : first; /* its word 0 says which row feeds */
    int taken = is_fed ? ROW : fewer;
    filled(s, before, row - 1, from, taken);
    if (is_fed) {
        uint64_t j = (before[0] >> 32) * row >> 32, all[ROW];
        memcpy(all, before, sizeof all);
        for (int i = 0; i < fewer; i++)
            before[i] = all[(first + i) % ROW];
        filled(s, fed, j, first, fewer);
        for (int i = 0; i < fewer; i++)
            before[i] ^= fed[i];
    }
    for (int i = 0; i < fewer; i++)
        u[i] = before[i] * K;
    u[ROW] = u[0]; /* where all eight are taken */
    for (int i = 0; i < count; i++)
        words[i] = swap_halves(u[i]) + u[i + 1];
    s->cost.multiplications += (uint64_t)fewer;
}

static uint64_t look_up(struct state *s, uint64_t at) {
    uint64_t word, row = at / ROW;
    if (row >= s->steps) {
        filled(s, &word, row, (int)(at % ROW), 1);
        return word;
    }
    s->cost.rows_read++;
    return s->passed[row][at % ROW];
}

/* x: what the walk begins with, then what it ends with. Returns what it cost. */
struct cost walk(uint64_t x[ROW]) {
    static struct state s;
    s.cost = (struct cost){0, 0};
    s.steps = 0;
    for (uint64_t r = 0; r < ROWS; r++) {
        if (r > 0 && r % FED == 0) {
            uint64_t fed[ROW];
            filled(&s, fed, (x[0] >> 32) * r >> 32, 0, ROW);
            for (int i = 0; i < ROW; i++)
                x[i] ^= fed[i];
        }
        stir(x);
        s.cost.multiplications += ROW;
        if (r % STORED == 0)
            memcpy(s.kept[r / STORED], x, sizeof s.kept[0]);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        for (int i = 0; i < ROW; i++)
            x[i] = (x[i] ^ look_up(&s, (x[i] >> 32) % (ROWS * ROW))) +
                   look_up(&s, x[i] % (ROWS * ROW));
        stir(x);
        s.cost.multiplications += ROW;
        filled(&s, s.passed[step], step, 0, ROW);
        for (int i = 0; i < ROW; i++)
            s.passed[step][i] ^= x[i];
        s.steps = step + 1;
    }
    return s.cost;
}
