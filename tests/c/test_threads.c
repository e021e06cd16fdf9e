/* Four threads on one solver of either algorithm, and a cancel from a fifth: for the thread sanitizer to watch. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "powfast.h"

enum { THREADS = 4, PARTS = 16 };

static void *hash(void *solver) {
    powfast_solver_run(solver, UINT64_MAX);
    return NULL;
}

static uint64_t scratch[THREADS][POWFAST_WALK_WORDS];
static int taken;

static void *walk(void *solver) {
    int own = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED) % THREADS;
    powfast_walk_solver_run(solver, scratch[own], UINT64_MAX);
    return NULL;
}

static int solve_together(const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                          void *(*work)(void *), int cancel) {
    powfast_part parts[PARTS];
    powfast_solver solver;
    uint64_t nonces[PARTS];
    pthread_t threads[THREADS];
    powfast_solver_init(&solver, parts, kernel, puzzle);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, &solver);
    if (cancel) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        powfast_solver_cancel(&solver);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (cancel)
        return powfast_solver_run(&solver, 0) == POWFAST_CANCELLED;
    powfast_solver_nonces(nonces, &solver);
    return (work == walk ? powfast_walk_verify(scratch[0], kernel, puzzle, nonces)
                         : powfast_verify(kernel, puzzle, nonces)) == POWFAST_OK;
}

int main(void) {
    const powfast_kernel *kernel;
    powfast_puzzle puzzle = {.parts = PARTS};
    int passed = 0, puzzles = 20;
    if (powfast_kernel_select(&kernel, NULL, powfast_cpu_features()) != POWFAST_OK)
        return 1;
    for (int i = 0; i < puzzles; i++) {
        puzzle.seed[0] = (uint8_t)i;
        puzzle.work = i % 2 ? 200000 : 100;
        passed += solve_together(kernel, &puzzle, hash, 0);
    }
    for (uint64_t work = 1; work <= 256; work *= 16, puzzles++) {
        puzzle.work = work;
        passed += solve_together(kernel, &puzzle, walk, 0);
    }
    puzzle.work = UINT64_MAX;
    passed += solve_together(kernel, &puzzle, hash, 1);
    passed += solve_together(kernel, &puzzle, walk, 1);
    printf("%d checks passed\n", passed);
    return passed != puzzles + 2;
}
