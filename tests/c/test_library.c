/* The C library alone: known answers, the shared solver, and arguments out of range. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "powfast.h"

static int checks;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* seed 00 01 .. 1f; the first nonce of each part, from Python's hashlib */
static const struct {
    uint64_t work;
    uint32_t parts;
    uint64_t nonces[4];
} known[] = {
    {1, 1, {0}},
    {4000, 4, {681, 1796, 157, 541}},
    {100000, 2, {20965, 3046}},
};

static powfast_puzzle counting_seed(uint64_t work, uint32_t parts) {
    powfast_puzzle puzzle = {.work = work, .parts = parts};
    for (uint8_t i = 0; i < 32; i++)
        puzzle.seed[i] = i;
    return puzzle;
}

static void test_known_answers(const powfast_kernel *kernel) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        powfast_puzzle puzzle = counting_seed(known[i].work, known[i].parts);
        uint64_t nonces[4] = {0}, wrong[4];
        uint8_t ok[2] = {7, 7};
        CHECK(powfast_solve(nonces, kernel, &puzzle) == POWFAST_OK);
        CHECK(memcmp(nonces, known[i].nonces, sizeof nonces) == 0);
        CHECK(powfast_verify(kernel, &puzzle, nonces) == POWFAST_OK);
        CHECK(powfast_verify_batch(ok, kernel, puzzle.seed, &puzzle.work, nonces, 1,
                                   puzzle.parts) == POWFAST_OK);
        CHECK(ok[0] == 1 && ok[1] == 7);
        memcpy(wrong, nonces, sizeof wrong);
        wrong[puzzle.parts - 1]++;
        CHECK((powfast_verify(kernel, &puzzle, wrong) == POWFAST_OK) == (puzzle.work == 1));
    }
}

static void test_solver(const powfast_kernel *kernel) {
    powfast_puzzle puzzle = counting_seed(100000, 2);
    powfast_part parts[2];
    powfast_solver solver;
    uint64_t nonces[2];
    CHECK(powfast_solver_init(&solver, parts, kernel, &puzzle) == POWFAST_OK);
    CHECK(powfast_solver_run(&solver, 0) == POWFAST_PENDING);
    CHECK(powfast_solver_evaluations(&solver) == 0);
    CHECK(powfast_solver_run(&solver, 1) == POWFAST_PENDING);
    while (powfast_solver_run(&solver, 10000) == POWFAST_PENDING)
        CHECK(powfast_solver_evaluations(&solver) > 0);
    CHECK(powfast_solver_run(&solver, 0) == POWFAST_OK);
    powfast_solver_nonces(nonces, &solver);
    CHECK(powfast_verify(kernel, &puzzle, nonces) == POWFAST_OK);
    CHECK(powfast_solver_evaluations(&solver) == nonces[0] + nonces[1] + 2);

    puzzle = counting_seed(UINT64_MAX, 1);
    CHECK(powfast_solver_init(&solver, parts, kernel, &puzzle) == POWFAST_OK);
    powfast_solver_cancel(&solver);
    CHECK(powfast_solver_run(&solver, UINT64_MAX) == POWFAST_CANCELLED);
}

static void test_out_of_range(const powfast_kernel *kernel) {
    uint64_t nonce = 0;
    uint8_t ok;
    powfast_puzzle puzzle = counting_seed(1, 1);
    CHECK(powfast_search(&nonce, kernel, &puzzle, 1, 0, 1) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_search(&nonce, kernel, &puzzle, 0, UINT64_MAX, 2) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_search(&nonce, kernel, &puzzle, 0, UINT64_MAX, 1) == POWFAST_OK);
    CHECK(nonce == UINT64_MAX);
    CHECK(powfast_verify_batch(&ok, kernel, puzzle.seed, &puzzle.work, &nonce, 1, 0) ==
          POWFAST_INVALID_ARGUMENT);
    puzzle.work = 0;
    CHECK(powfast_puzzle_check(&puzzle) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_solve(&nonce, kernel, &puzzle) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_verify(kernel, &puzzle, &nonce) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_verify_batch(&ok, kernel, puzzle.seed, &puzzle.work, &nonce, 1, 1) == POWFAST_OK);
    CHECK(ok == 0);
    CHECK(powfast_kernel_at(powfast_kernel_count()) == NULL);
}

int main(void) {
    const powfast_kernel *chosen;
    uint32_t features = powfast_cpu_features();
    CHECK(powfast_kernel_select(&chosen, "none-such", features) == POWFAST_UNKNOWN_KERNEL);
    CHECK(chosen == NULL);
    CHECK(powfast_kernel_select(&chosen, NULL, features) == POWFAST_OK);
    for (size_t i = 0; i < powfast_kernel_count(); i++) {
        const powfast_kernel *kernel = powfast_kernel_at(i);
        if (!powfast_kernel_supported(kernel, features))
            continue;
        printf("%s%s\n", powfast_kernel_name(kernel), kernel == chosen ? " (chosen)" : "");
        CHECK(powfast_kernel_selftest(kernel) == POWFAST_OK);
        test_known_answers(kernel);
        test_solver(kernel);
        test_out_of_range(kernel);
    }
    printf("%d checks passed\n", checks);
    return 0;
}
