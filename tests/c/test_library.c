/* The C library alone: known answers of both algorithms, the shared solver, prices, and arguments out
 * of range. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "powfast.h"

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

/* For seed 00 01 .. 1f, as algorithm 2 is specified. */
static const struct {
    uint32_t part;
    uint64_t nonce, digest;
} walks[] = {
    {0, 0, 0x608545191421d53f},
    {0, 1, 0xadd2fd42a7ce5824},
    {3, (1 << 24) + 5, 0xd8ef3e3097ee5f1e},
    {1023, UINT64_MAX, 0xd45ae0bdf76d411b},
};

static uint64_t scratch[POWFAST_WALK_WORDS];

static void test_walk_digests(const powfast_kernel *kernel) {
    powfast_puzzle puzzle = counting_seed(1, 1);
    uint8_t memory[32];
    uint64_t digest, words = 32768;
    CHECK(powfast_walk_selftest(scratch, kernel) == POWFAST_OK);
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++) {
        CHECK(powfast_walk_digest(&digest, scratch, kernel, puzzle.seed, walks[i].part,
                                  walks[i].nonce) == POWFAST_OK);
        CHECK(digest == walks[i].digest);
    }
    /* After the last one, of tests/vectors/cachewalk.json: the last row is x after the fill. */
    CHECK(scratch[words - 8] == 0xfd72123968d1070a && scratch[words - 1] == 0x4ee8013731b85d97);
    for (size_t i = 0; i < words; i++) {
        uint64_t word = scratch[i];
        for (int byte = 0; byte < 8; byte++)
            ((uint8_t *)&scratch[i])[byte] = (uint8_t)(word >> (56 - 8 * byte));
    }
    powfast_sha256(memory, kernel, (const uint8_t *)scratch, 8 * words);
    CHECK(memory[0] == 0xe3 && memory[1] == 0x2d && memory[2] == 0x7b && memory[31] == 0x63);
}

/* By tests/reference.py: the first nonces of seed 00 01 .. 1f are 41 and 30. */
static void test_walk_solver(const powfast_kernel *kernel) {
    powfast_puzzle puzzle = counting_seed(30, 2);
    powfast_part parts[2];
    powfast_solver solver;
    uint64_t nonces[2], nonce, count = 40;
    CHECK(powfast_solver_init(&solver, parts, kernel, &puzzle) == POWFAST_OK);
    CHECK(powfast_walk_solver_run(&solver, scratch, 0) == POWFAST_PENDING);
    CHECK(powfast_walk_solver_run(&solver, scratch, 1) == POWFAST_PENDING);
    CHECK(powfast_solver_evaluations(&solver) == 31); /* part 1, for run took part 0 before */
    CHECK(powfast_walk_solver_run(&solver, scratch, UINT64_MAX) == POWFAST_OK);
    CHECK(powfast_solver_evaluations(&solver) == 41 + 30 + 2);
    powfast_solver_nonces(nonces, &solver);
    CHECK(nonces[0] == 41 && nonces[1] == 30);
    CHECK(powfast_walk_verify(scratch, kernel, &puzzle, nonces) == POWFAST_OK);
    CHECK(powfast_verify(kernel, &puzzle, nonces) == POWFAST_WRONG_SOLUTION);
    nonces[1]--;
    CHECK(powfast_walk_verify(scratch, kernel, &puzzle, nonces) == POWFAST_WRONG_SOLUTION);

    CHECK(powfast_walk_search(&nonce, scratch, kernel, &puzzle, 0, 1, count) == POWFAST_NOT_FOUND);
    CHECK(powfast_walk_search(&nonce, scratch, kernel, &puzzle, 0, 1, count + 1) == POWFAST_OK);
    CHECK(nonce == 41);

    puzzle = counting_seed(UINT64_MAX, 1);
    CHECK(powfast_solver_init(&solver, parts, kernel, &puzzle) == POWFAST_OK);
    powfast_solver_cancel(&solver);
    CHECK(powfast_walk_solver_run(&solver, scratch, UINT64_MAX) == POWFAST_CANCELLED);
    CHECK(powfast_solver_evaluations(&solver) == 0);
}

static void test_walks_out_of_range(const powfast_kernel *kernel) {
    powfast_puzzle puzzle = counting_seed(1, 1);
    powfast_part part;
    powfast_solver solver;
    uint64_t digest, nonce = 7, *misaligned[] = {NULL, (uint64_t *)(void *)((char *)scratch + 4)};
    uint8_t ok = 7;
    CHECK(powfast_solver_init(&solver, &part, kernel, &puzzle) == POWFAST_OK);
    for (size_t i = 0; i < 2; i++) {
        uint64_t *bad = misaligned[i];
        CHECK(powfast_walk_selftest(bad, kernel) == POWFAST_INVALID_ARGUMENT);
        CHECK(powfast_walk_digest(&digest, bad, kernel, puzzle.seed, 0, 0) ==
              POWFAST_INVALID_ARGUMENT);
        CHECK(powfast_walk_search(&nonce, bad, kernel, &puzzle, 0, 0, 1) ==
              POWFAST_INVALID_ARGUMENT);
        CHECK(powfast_walk_verify(bad, kernel, &puzzle, &nonce) == POWFAST_INVALID_ARGUMENT);
        CHECK(powfast_walk_verify_batch(&ok, bad, kernel, puzzle.seed, &puzzle.work, &nonce, 1,
                                        1) == POWFAST_INVALID_ARGUMENT);
        CHECK(powfast_walk_solver_run(&solver, bad, 1) == POWFAST_INVALID_ARGUMENT);
    }
    CHECK(nonce == 7 && ok == 7);

#define SEARCH(part, first, count)                                                                 \
    powfast_walk_search(&nonce, scratch, kernel, &puzzle, part, first, count)
    CHECK(SEARCH(1, 0, 1) == POWFAST_INVALID_ARGUMENT);
    CHECK(SEARCH(0, UINT64_MAX, 2) == POWFAST_INVALID_ARGUMENT);
    CHECK(SEARCH(0, UINT64_MAX, 0) == POWFAST_NOT_FOUND && nonce == 7);
    CHECK(SEARCH(0, UINT64_MAX, 1) == POWFAST_OK && nonce == UINT64_MAX);
#define BATCH(parts)                                                                               \
    powfast_walk_verify_batch(&ok, scratch, kernel, puzzle.seed, &puzzle.work, &nonce, 1, parts)
    CHECK(BATCH(0) == POWFAST_INVALID_ARGUMENT && BATCH(1025) == POWFAST_INVALID_ARGUMENT);
    CHECK(BATCH(1) == POWFAST_OK && ok == 1);
    puzzle.work = 0;
    CHECK(BATCH(1) == POWFAST_OK && ok == 0);
    CHECK(SEARCH(0, 0, 1) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_walk_verify(scratch, kernel, &puzzle, &nonce) == POWFAST_INVALID_ARGUMENT);
}

/* A key longer than a block, every flipped bit, every truncation. */
static void test_tokens(const powfast_kernel *kernel) {
    static const uint8_t secret[131] = {0xaa}, account[] = "alice", request[32] = {7};
    powfast_field alice = {account, 5}, bob = {account, 4}, digest = {request, 32}, none = {0};
    powfast_challenge challenge = {.issued = 1000, .expires = 61000}, said;
    const uint32_t both = POWFAST_ALGORITHMS, sha256 = 1u << POWFAST_ALGORITHM_SHA256;
    powfast_key keys[2];
    uint8_t token[POWFAST_MAX_TOKEN_BYTES];
    size_t length;

    CHECK(powfast_key_init(&keys[0], kernel, account, 1, secret, 31) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_key_init(&keys[0], kernel, account, 0, secret, 32) == POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_key_init(&keys[0], kernel, account, 1, secret, 32) == POWFAST_OK);
    CHECK(powfast_key_init(&keys[1], kernel, account, 2, secret, 131) == POWFAST_OK);

    CHECK(powfast_token_issue(token, &length, kernel, &keys[1], &challenge) ==
          POWFAST_INVALID_ARGUMENT);
    challenge.puzzle = (powfast_puzzle){.work = 3000, .parts = 3};
    challenge.account = alice;
    challenge.request = digest;
    CHECK(powfast_token_issue(token, &length, kernel, &keys[1], &challenge) ==
          POWFAST_INVALID_ARGUMENT); /* of no algorithm */
    challenge.algorithm = POWFAST_ALGORITHM_CACHEWALK;
    CHECK(powfast_token_issue(token, &length, kernel, &keys[1], &challenge) == POWFAST_OK);
    CHECK(powfast_token_decode(&said, kernel, both, token, length) == POWFAST_OK);
    CHECK(said.algorithm == POWFAST_ALGORITHM_CACHEWALK);
    CHECK(powfast_token_decode(&said, kernel, sha256, token, length) ==
          POWFAST_UNSUPPORTED_ALGORITHM);
    CHECK(powfast_token_check(&said, kernel, keys, 2, sha256, token, length, 2000, alice,
                              digest) == POWFAST_UNSUPPORTED_ALGORITHM);
    CHECK(powfast_token_check(&said, kernel, keys, 2, both, token, length, 2000, alice, digest) ==
          POWFAST_OK);
    challenge.algorithm = POWFAST_ALGORITHM_SHA256;
    CHECK(powfast_token_issue(token, &length, kernel, &keys[1], &challenge) == POWFAST_OK);

#define CHECK_AT(time, account, request)                                                           \
    powfast_token_check(&said, kernel, keys, 2, both, token, length, time, account, request)
    CHECK(CHECK_AT(2000, alice, digest) == POWFAST_OK);
    CHECK(said.puzzle.work == 3000 && said.puzzle.parts == 3 && said.key_id.length == 2);
    CHECK(CHECK_AT(0, alice, digest) == POWFAST_OK);
    CHECK(CHECK_AT(61000, alice, digest) == POWFAST_EXPIRED);
    CHECK(CHECK_AT(2000, bob, digest) == POWFAST_WRONG_ACCOUNT);
    CHECK(CHECK_AT(2000, none, digest) == POWFAST_WRONG_ACCOUNT);
    CHECK(CHECK_AT(2000, alice, none) == POWFAST_WRONG_REQUEST);
    CHECK(powfast_token_check(&said, kernel, keys, 1, both, token, length, 2000, alice, digest) ==
          POWFAST_UNKNOWN_KEY);

    uint64_t nonces[3];
    CHECK(powfast_token_decode(&said, kernel, sha256, token, length) == POWFAST_OK);
    CHECK(powfast_solve(nonces, kernel, &said.puzzle) == POWFAST_OK);
    CHECK(CHECK_AT(2000, alice, digest) == POWFAST_OK);
    CHECK(powfast_verify(kernel, &said.puzzle, nonces) == POWFAST_OK);

    for (size_t bit = 0; bit < 8 * length; bit++) {
        token[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(CHECK_AT(2000, alice, digest) != POWFAST_OK);
        token[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t whole = length; length-- > 0;) {
        uint8_t exact[POWFAST_MAX_TOKEN_BYTES]; /* so that a sanitizer sees a byte too far */
        memcpy(exact + sizeof exact - length, token, length);
        CHECK(powfast_token_decode(&said, kernel, both, exact + sizeof exact - length, length) ==
              POWFAST_MALFORMED_TOKEN);
        CHECK(length < whole);
    }
    CHECK(powfast_token_decode(&said, kernel, both, token, sizeof token + 1) ==
          POWFAST_MALFORMED_TOKEN);
}

/* By hand: after evidence 11 a bet of l is worth (1 + 10 l) / 2. These l sum to 1.344. */
static void test_prices(void) {
    static const double bets[7] = {.001, .003, .01, .03, .1, .3, .9};
    static const double refused[] = {-1, -1e-300, NAN, -INFINITY};
    static const powfast_volume twice = {.start = 3, .multiple = 2};
    powfast_tariff tariff = {.base_work = 100, .max_work = 1000, .opening_work = 5,
                             .wealth_cap = 0x1p100, .bets = bets, .bet_count = 7,
                             .volume = &twice, .volume_count = 1};
    double prices[2], owed, state[8] = {0}, kept[8] = {0}, evidence[2] = {11, INFINITY};

    CHECK(powfast_price(prices, &owed, state, &tariff, evidence, 1) == POWFAST_OK);
    CHECK(fabs(prices[0] - (100 * (7 + 13.44) / 14 + 5)) < 1e-9 && owed == prices[0]);
    CHECK(state[0] == 1 && fabs(state[7] - 5) < 1e-12);
    CHECK(powfast_price(prices, &owed, state, &tariff, evidence, 2) == POWFAST_OK);
    CHECK(prices[1] == 1000 && owed == prices[0] + 1000);
    CHECK(state[0] == 3 && state[1] == tariff.wealth_cap);
    CHECK(powfast_price(NULL, &owed, kept, &tariff, evidence, 0) == POWFAST_OK && owed == 0);

    double honest[8] = {1}, before;
    CHECK(powfast_price(&before, &owed, honest, &tariff, (double[]){1}, 1) == POWFAST_OK);
    CHECK(powfast_price(prices, &owed, honest, &tariff, (double[]){1}, 1) == POWFAST_OK);
    CHECK(before == 100 && prices[0] == 200);

    memcpy(kept, state, sizeof kept);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        evidence[1] = refused[i];
        CHECK(powfast_price(prices, &owed, state, &tariff, evidence, 2) ==
              POWFAST_INVALID_ARGUMENT);
        CHECK(memcmp(kept, state, sizeof kept) == 0);
    }
    for (size_t i = 0; i < 8; i++) {
        state[i] = i ? 0x1p101 : 1.5;
        CHECK(powfast_price(prices, &owed, state, &tariff, evidence, 1) ==
              POWFAST_INVALID_ARGUMENT);
        state[i] = kept[i];
    }
    tariff.bet_count = 0;
    CHECK(powfast_price(prices, &owed, state, &tariff, evidence, 1) == POWFAST_INVALID_ARGUMENT);
}

/* By hand: multiples of 100 with two binary digits are 100, 150, 200, 300, 400, 600, ... */
static void test_published_work(void) {
    powfast_tariff tariff = {.base_work = 100, .step = 0.5};
    static const struct {
        double due;
        uint64_t work;
    } published[] = {{299, 300}, {300, 300}, {500.5, 600}, {0, 1}, {1, 1}, {1e300, 3ull << 62}};
    static const double refused[] = {-1, -1e-300, NAN, INFINITY};
    static const double steps[] = {0, 1, 0.3, 0x1p-21, -0.5, NAN, INFINITY};
    uint64_t work;

    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        CHECK(powfast_publish(&work, &tariff, published[i].due) == POWFAST_OK);
        CHECK(work == published[i].work);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK(powfast_publish(&work, &tariff, refused[i]) == POWFAST_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        tariff.step = steps[i];
        CHECK(powfast_publish(&work, &tariff, 5) == POWFAST_INVALID_ARGUMENT);
    }
}

/* Over messages of 0 .. 299 bytes, so that they end anywhere in a block; all digests xored, from Python's
 * hashlib. */
static void test_sha256(const powfast_kernel *kernel) {
    static const uint8_t expected[32] = {
        0x3b, 0xf4, 0x18, 0x30, 0xa0, 0x5e, 0x32, 0x6b, 0x92, 0xf8, 0x73,
        0xdd, 0x23, 0xc5, 0x6c, 0x48, 0x8e, 0x3e, 0xc6, 0x13, 0x36, 0x3a,
        0x6f, 0xea, 0xb7, 0x3d, 0x9d, 0xe8, 0xa0, 0x8c, 0x8c, 0xb5};
    uint8_t bytes[300], digest[32], all[32] = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(7 * i);
    for (size_t length = 0; length < sizeof bytes; length++) {
        powfast_sha256(digest, kernel, bytes, length);
        for (size_t i = 0; i < sizeof digest; i++)
            all[i] ^= digest[i];
    }
    CHECK(memcmp(all, expected, sizeof all) == 0);
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
        test_walk_digests(kernel);
        test_walk_solver(kernel);
        test_walks_out_of_range(kernel);
        test_tokens(kernel);
        test_sha256(kernel);
    }
    test_prices();
    test_published_work();
    printf("%d checks passed\n", checks);
    return 0;
}
