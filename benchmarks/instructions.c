/* What the instructions of SHA-256 cost on this core, in cycles: a chain of additions is the clock.
 *
 *     cc -O1 benchmarks/instructions.c -o instructions && ./instructions
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <time.h>

enum { LOOPS = 20000, TRIES = 50 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds that a loop of `body` takes, at best. */
#define TIMED(best, body)                                                                          \
    for (int try = 0; try < TRIES; try++) {                                                        \
        long loops = LOOPS;                                                                        \
        double start = now(), taken;                                                               \
        __asm__ volatile(".p2align 6\n1:\n" body "dec %0\njnz 1b\n"                                \
                         : "+r"(loops)                                                             \
                         :                                                                         \
                         : "rax", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",  \
                           "xmm8", "xmm9");                                                        \
        taken = now() - start;                                                                     \
        best = try && best < taken ? best : taken;                                                 \
    }

#define ROW(name, count, body)                                                                     \
    do {                                                                                           \
        double best = 0;                                                                           \
        TIMED(best, body)                                                                          \
        printf("%-44s%6.2f\n", name, best / LOOPS / cycle / (count));                              \
    } while (0)

/* On eight registers in turn, and on one. */
#define EIGHT(op)                                                                                  \
    op "%%xmm2\n" op "%%xmm3\n" op "%%xmm4\n" op "%%xmm5\n" op "%%xmm6\n" op "%%xmm7\n"            \
    op "%%xmm8\n" op "%%xmm9\n"
#define CHAIN(op) ".rept 8\n" op "%%xmm2\n.endr\n"
#define ROUNDS "sha256rnds2 %%xmm0, %%xmm1, "
#define MSG1 "sha256msg1 %%xmm0, "
#define MSG2 "sha256msg2 %%xmm0, "

int main(void) {
    double cycle = 0;
    /* of registers: some cores add small constants before they execute anything */
    TIMED(cycle, ".rept 64\nadd %%rax, %%rax\n.endr\n")
    cycle /= 64.0 * LOOPS;
    printf("%.2f GHz\n", 1e-9 / cycle);
    ROW("sha256rnds2, one of many", 8, EIGHT(ROUNDS));
    ROW("sha256rnds2, in a chain", 8, CHAIN(ROUNDS));
    ROW("sha256msg1, one of many", 8, EIGHT(MSG1));
    ROW("sha256msg1, in a chain", 8, CHAIN(MSG1));
    ROW("sha256msg2, one of many", 8, EIGHT(MSG2));
    ROW("sha256msg2, in a chain", 8, CHAIN(MSG2));
    return 0;
}
