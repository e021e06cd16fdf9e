/*
 * powfast.h: proof-of-work puzzles of one SHA-256 block, solved, checked and priced.
 *
 * Conventions. Outputs come first, then inputs; a length follows its array. No pointer may be
 * null unless it says so. The library allocates nothing, keeps no mutable global state and may
 * be called from any number of threads. Functions return POWFAST_OK (0) or say why not.
 *
 * Part i of a puzzle is solved by a nonce for which the first 64 bits, big-endian, of
 *
 *     SHA-256( seed[32] || "powfast/v1:" || i as u32 big-endian || nonce as u64 big-endian )
 *
 * are below floor(2^64 / w), where w = ceil(work / parts); w = 1 takes every nonce.
 *
 *     const powfast_kernel *kernel;
 *     powfast_puzzle puzzle = {.work = 1000000, .parts = 16};    // and fill puzzle.seed
 *     uint64_t nonces[16];
 *     if (powfast_kernel_select(&kernel, NULL, powfast_cpu_features()) == POWFAST_OK &&
 *         powfast_solve(nonces, kernel, &puzzle) == POWFAST_OK)
 *         assert(powfast_verify(kernel, &puzzle, nonces) == POWFAST_OK);
 *
 * A token wraps a puzzle for a client: who signs, what it is bound to and when it expires.
 * examples/embedding/embed.c is the whole exchange.
 */
#ifndef POWFAST_H
#define POWFAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef: begin (cffi reads from here to the end mark, as it stands) */

#define POWFAST_SEED_BYTES 32
#define POWFAST_MAX_PARTS 1024
#define POWFAST_MAX_FIELD_BYTES 255
#define POWFAST_MAX_TOKEN_BYTES 1109

typedef enum powfast_status {
    POWFAST_OK = 0,
    POWFAST_INVALID_ARGUMENT = 1,      /* an argument is out of its range */
    POWFAST_NOT_FOUND = 2,             /* the range holds no solution */
    POWFAST_PENDING = 3,               /* the budget is spent, the puzzle is not solved */
    POWFAST_CANCELLED = 4,
    POWFAST_UNKNOWN_KERNEL = 5,
    POWFAST_UNSUPPORTED_KERNEL = 6,    /* this CPU cannot run it */
    POWFAST_SELFTEST_FAILED = 7,       /* it gives wrong answers on this machine */
    POWFAST_MALFORMED_TOKEN = 16,      /* wrong size, tag, field length or field */
    POWFAST_UNKNOWN_KEY = 17,
    POWFAST_BAD_SIGNATURE = 18,
    POWFAST_NOT_YET_VALID = 19,
    POWFAST_EXPIRED = 20,
    POWFAST_UNSUPPORTED_ALGORITHM = 21,
    POWFAST_WRONG_ACCOUNT = 22,
    POWFAST_WRONG_REQUEST = 23,
    POWFAST_MALFORMED_SOLUTION = 24,   /* not one nonce for each part; found by bindings */
    POWFAST_WRONG_SOLUTION = 25        /* a nonce misses its target */
} powfast_status;

/* ---- kernels: one implementation of the hash for one instruction set ---- */

typedef struct powfast_kernel powfast_kernel;

/* What the CPU and the operating system offer; one bit for each instruction set. */
uint32_t powfast_cpu_features(void);

/* Compiled-in kernels, best first: index 0 .. count - 1. */
size_t powfast_kernel_count(void);
const powfast_kernel *powfast_kernel_at(size_t index);
const char *powfast_kernel_name(const powfast_kernel *kernel);
int powfast_kernel_supported(const powfast_kernel *kernel, uint32_t features);

/* Recompute known answers; run only kernels that are supported here. */
powfast_status powfast_kernel_selftest(const powfast_kernel *kernel);

/* The kernel called `name`; null: the one the environment variable POWFAST_KERNEL names, and
 * without it the best supported one that passes its self-test. On failure *kernel is null. */
powfast_status powfast_kernel_select(const powfast_kernel **kernel, const char *name,
                                     uint32_t features);

/* SHA-256 of any bytes. Short ones are hashed in less time than larger libraries take to begin. */
void powfast_sha256(uint8_t digest[32], const powfast_kernel *kernel, const uint8_t *bytes,
                    size_t length);

/* ---- puzzles ---- */

/* What a part's digest is. Sets of them have bit 1 << algorithm for each. */
typedef enum powfast_algorithm {
    POWFAST_ALGORITHM_SHA256 = 1,
    POWFAST_ALGORITHM_CACHEWALK = 2
} powfast_algorithm;

#define POWFAST_ALGORITHMS 6 /* that this version knows */

typedef struct powfast_puzzle {
    uint8_t seed[32];
    uint64_t work;  /* expected number of evaluations over all parts, at least 1 */
    uint32_t parts; /* 1 .. POWFAST_MAX_PARTS */
} powfast_puzzle;

/* POWFAST_OK, or POWFAST_INVALID_ARGUMENT. Every function below checks this itself. */
powfast_status powfast_puzzle_check(const powfast_puzzle *puzzle);

/* How many parts a puzzle of this work has where nobody chooses: 16, or fewer, so that none of
 * them is below 256. */
uint32_t powfast_default_parts(uint64_t work);

/* ceil(work / parts), and the largest 64-bit value that solves a part: floor(2^64 / w) - 1. */
uint64_t powfast_part_work(const powfast_puzzle *puzzle);
uint64_t powfast_part_limit(const powfast_puzzle *puzzle);

/* ---- verifying ---- */

/* POWFAST_OK if every nonce solves its part, else POWFAST_WRONG_SOLUTION. nonces: one for each part. */
powfast_status powfast_verify(const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                              const uint64_t *nonces);

/* Many puzzles of equally many parts: ok[i] becomes 1 or 0. seeds: count times 32 bytes,
 * works: count, nonces: count times parts. A work of 0 makes ok[i] 0. */
powfast_status powfast_verify_batch(uint8_t *ok, const powfast_kernel *kernel,
                                    const uint8_t *seeds, const uint64_t *works,
                                    const uint64_t *nonces, size_t count, uint32_t parts);

/* ---- solving ---- */

/* The smallest solution of one part in first .. first + count - 1, which must not pass 2^64. */
powfast_status powfast_search(uint64_t *nonce, const powfast_kernel *kernel,
                              const powfast_puzzle *puzzle, uint32_t part, uint64_t first,
                              uint64_t count);

/* Solve on the calling thread until done. nonces: one for each part. */
powfast_status powfast_solve(uint64_t *nonces, const powfast_kernel *kernel,
                             const powfast_puzzle *puzzle);

/* A search that many threads share and that can be cancelled. The fields are the library's. */
typedef struct powfast_part {
    uint64_t next; /* first nonce that nobody has taken yet */
    uint64_t nonce;
    uint32_t solved;
} powfast_part;

typedef struct powfast_solver {
    const powfast_kernel *kernel;
    powfast_puzzle puzzle;
    powfast_part *parts;
    uint64_t evaluations;
    uint32_t turn;
    uint32_t unsolved;
    uint32_t cancelled;
} powfast_solver;

/* parts: puzzle->parts elements that live as long as the solver. */
powfast_status powfast_solver_init(powfast_solver *solver, powfast_part *parts,
                                   const powfast_kernel *kernel, const powfast_puzzle *puzzle);

/* Work until the puzzle is solved (POWFAST_OK), cancelled, or about `budget` evaluations are
 * spent (POWFAST_PENDING). Call it from as many threads at once as shall work. */
powfast_status powfast_solver_run(powfast_solver *solver, uint64_t budget);

/* From any thread: make every run return within a few thousand evaluations. */
void powfast_solver_cancel(powfast_solver *solver);

/* Nonces tried so far. When solved by one thread: exactly those up to each part's solution. */
uint64_t powfast_solver_evaluations(const powfast_solver *solver);

/* The solution, once a run has returned POWFAST_OK; nonces: one for each part. */
void powfast_solver_nonces(uint64_t *nonces, const powfast_solver *solver);

/* ---- cachewalk, experimental: puzzles over another function ----
 *
 * Algorithm 2, meant to favour graphics cards less (docs/cachewalk.md). A digest is a walk of
 * dependent reads through 256 KiB, some tens of microseconds of a core, and `work` counts walks.
 *
 * A puzzle does not say its algorithm: these functions are for those of algorithm 2, all others
 * for those of algorithm 1. scratch: for each thread POWFAST_WALK_WORDS words of 64 bits, aligned
 * as such and holding anything; null, or misaligned, is POWFAST_INVALID_ARGUMENT. */

#define POWFAST_WALK_WORDS 65536 /* 512 KiB: of two walks. Some kernels leave one half alone. */

/* Recompute known answers, as powfast_kernel_selftest: once, before walks are relied on. */
powfast_status powfast_walk_selftest(uint64_t *scratch, const powfast_kernel *kernel);

/* What has to be below the target. The walk's memory is the first half of scratch. */
powfast_status powfast_walk_digest(uint64_t *digest, uint64_t *scratch,
                                   const powfast_kernel *kernel, const uint8_t seed[32],
                                   uint32_t part, uint64_t nonce);

/* As powfast_verify; it stops at the first miss, so a wrong solution mostly costs one walk. */
powfast_status powfast_walk_verify(uint64_t *scratch, const powfast_kernel *kernel,
                                   const powfast_puzzle *puzzle, const uint64_t *nonces);

/* As powfast_verify_batch. */
powfast_status powfast_walk_verify_batch(uint8_t *ok, uint64_t *scratch,
                                         const powfast_kernel *kernel, const uint8_t *seeds,
                                         const uint64_t *works, const uint64_t *nonces,
                                         size_t count, uint32_t parts);

/* As powfast_search. */
powfast_status powfast_walk_search(uint64_t *nonce, uint64_t *scratch,
                                   const powfast_kernel *kernel, const powfast_puzzle *puzzle,
                                   uint32_t part, uint64_t first, uint64_t count);

/* As powfast_solver_run, and a cancelled one returns within 32 walks. Every run of a solver has to
 * be of the same algorithm, and every thread needs its own scratch. */
powfast_status powfast_walk_solver_run(powfast_solver *solver, uint64_t *scratch,
                                       uint64_t budget);

/* ---- tokens: a puzzle with its expiry and what it is bound to, signed ----
 *
 * Big-endian, and not a byte more:
 *
 *     "powfast/c1" | algorithm u8 | id 16 | work u64 | parts u16 | issued u64 ms | expires u64 ms
 *     | key id | account | group | request (each after a u8 length) | HMAC-SHA256 of all before
 *
 * Key id, account and group are UTF-8, the key id is not empty. The puzzle's seed is the SHA-256
 * of the whole token. That a token is redeemed once is the caller's to keep, by challenge id. */

/* One field; bytes may be null where length is 0. */
typedef struct powfast_field {
    const uint8_t *bytes;
    size_t length;
} powfast_field;

typedef struct powfast_challenge {
    powfast_puzzle puzzle;
    uint8_t id[16];
    uint8_t algorithm; /* a powfast_algorithm */
    uint64_t issued, expires; /* milliseconds since 1970, by the issuer's clock */
    powfast_field key_id, account, group, request;
} powfast_challenge;

/* A secret, as the two hash states it takes HMAC to: as secret as itself. */
typedef struct powfast_key {
    uint32_t inner[8], outer[8];
    size_t id_length;
    uint8_t id[255];
} powfast_key;

/* secret: at least 32 bytes. */
powfast_status powfast_key_init(powfast_key *key, const powfast_kernel *kernel,
                                const uint8_t *id, size_t id_length, const uint8_t *secret,
                                size_t secret_length);

/* Sign. token: POWFAST_MAX_TOKEN_BYTES of room. Reads of the challenge: puzzle.work, puzzle.parts,
 * algorithm, id (16 random bytes that the caller draws), issued, expires, account, group, request. */
powfast_status powfast_token_issue(uint8_t *token, size_t *length, const powfast_kernel *kernel,
                                   const powfast_key *key, const powfast_challenge *challenge);

/* What a token says, whoever made it. The fields point into the token. algorithms: the set of those
 * that the caller can solve; the challenge of another is filled in all the same. */
powfast_status powfast_token_decode(powfast_challenge *challenge, const powfast_kernel *kernel,
                                    uint32_t algorithms, const uint8_t *token, size_t length);

/* Decode, and check in this order: form, key id, signature, times, algorithm, account, request.
 * algorithms: the set of those that are taken. On POWFAST_OK the challenge holds; what is left is
 * powfast_verify, or powfast_walk_verify by its algorithm, and to redeem its id. */
powfast_status powfast_token_check(powfast_challenge *challenge, const powfast_kernel *kernel,
                                   const powfast_key *keys, size_t key_count, uint32_t algorithms,
                                   const uint8_t *token, size_t length, uint64_t now,
                                   powfast_field account, powfast_field request);

/* ---- prices: what an account's queries owe (docs/tariff.md) ---- */

/* From an account's such-and-such query on, counted from 1, its prices are multiplied. */
typedef struct powfast_volume {
    double start, multiple; /* a whole number; at least 1 */
} powfast_volume;

typedef struct powfast_tariff {
    double base_work;    /* expected evaluations of an ordinary query */
    double max_work;     /* of any query, the opening aside */
    double opening_work; /* that a new account pays once */
    double step;         /* of the published work, relative: a power of two, 2^-20 .. 1/2 */
    double wealth_cap;   /* of each bet: above every price there can be, such as 2^100 */
    double credit_limit; /* above which an account's balance is not raised */
    double honest_mean;  /* of newcomers' evidence, in (0, 1]: their pool divides by it */
    const double *bets;  /* each in 0 .. 1 */
    size_t bet_count;    /* at least 1 */
    const powfast_volume *volume; /* ascending */
    size_t volume_count;          /* 0: every price as it is */
    int probation; /* 1: a ledger's new accounts share a price instead of paying the opening first */
    int account_evidence; /* 1: a ledger keeps sketches, which account evidence is computed from */
} powfast_tariff;

/* Price an account's next queries, in order. prices: one for each, or null. *owed: their sum.
 * state: queries so far, then one wealth for each bet; zeros are a new account, whose first query
 * costs the opening as well; it is advanced. evidence: at least 0 each, at most 1 on average where
 * queries are ordinary. POWFAST_INVALID_ARGUMENT leaves the state as it was. */
powfast_status powfast_price(double *prices, double *owed, double *state,
                             const powfast_tariff *tariff, const double *evidence, size_t count);

/* The same by the mean of two e-processes, of which the second is driven by own, the account evidence
 * of each query, or stays where own is null. second: queries so far, one wealth for each bet, and the
 * capital that it began with; zeros, or null: it has not begun, and the first prices alone. It begins
 * with what the first has left, at most 1: an average of both then never has more than before. */
powfast_status powfast_price_both(double *prices, double *owed, double *state, double *second,
                                  const powfast_tariff *tariff, const double *evidence,
                                  const double *own, size_t count);

/* What an ordinary query costs a newcomer in base prices, where its pool is in that state. */
double powfast_newcomers_price(const double *state, const powfast_tariff *tariff);

/* Round what is due, at least 0, up to the work of its challenge: base_work times a number of few
 * binary digits, which tells little of the evidence. */
powfast_status powfast_publish(uint64_t *work, const powfast_tariff *tariff, double due);

/* ---- accounts: who may run, what was charged, and what is paid (docs/stores.md) ----
 *
 * What a ledger does to the records that it keeps, each in one atomic step: it reads them (zeros
 * where there is none), ages the account's and its group's, recalls the request, calls one of these,
 * and writes back. */

#define POWFAST_BETS 7
#define POWFAST_SKETCH_NUMBERS 512
#define POWFAST_RERUNS 3 /* of a request that is paid, until its answer is read */

/* What an account's queries add up to, by an estimator that computes account evidence from it, and
 * the e-process that this evidence drives. Ledgers keep sums and fixed as floats. */
typedef struct powfast_sketch {
    double second[2 + POWFAST_BETS]; /* as of powfast_price_both */
    double length;      /* numbers in sums, and in fixed */
    uint8_t version[8]; /* of the estimator */
    double sums[POWFAST_SKETCH_NUMBERS];  /* the first one counts queries */
    double fixed[POWFAST_SKETCH_NUMBERS]; /* the sums of a moment that the estimator chose */
} powfast_sketch;

/* What a request adds to a sketch. */
typedef struct powfast_advance {
    const double *evidence; /* account evidence of each of its queries */
    const double *sums;     /* to be added, each within 2^60 */
    const double *fixed;    /* taken over where it counts more queries than what is there */
    size_t length;          /* 1 .. POWFAST_SKETCH_NUMBERS */
    uint8_t version[8];     /* not zeros; another one, or another length, begins anew */
} powfast_advance;

typedef struct powfast_account {
    double state[1 + POWFAST_BETS];
    double balance; /* work redeemed less work charged: below 0 a debt */
    double unpaid;  /* runs that nobody has paid for; infinity: answers were read unpaid */
    double cleared; /* how often these were none, since all that was charged was paid */
    double opened;  /* 1: the opening is paid */
    double surcharged; /* what was charged towards the opening, on probation */
    double charged; /* seconds since 1970: when it was last charged */
    double since;   /* seconds since 1970: when its record began */
    powfast_sketch *sketch; /* no part of the record; null: the tariff uses no account evidence */
} powfast_account;

typedef enum powfast_phase {
    POWFAST_NO_REQUEST = 0, /* none is kept */
    POWFAST_RUNNING = 1,
    POWFAST_DUE = 2,      /* charged and not paid */
    POWFAST_REPORTED = 3, /* not a request: evidence that came afterwards */
    POWFAST_PREPAID = 4   /* work was redeemed for it alone, and it has not run */
} powfast_phase;

/* A request, by its account and digest. */
typedef struct powfast_request {
    double phase;
    double tagged;     /* 1: tag says which evidence it was charged for */
    double authorized; /* what was debited when it began to run */
    double covered;    /* what is paid for it: by credit, or by work redeemed for it alone */
    double settled;    /* what was debited and paid for it before, and nothing was read for */
    double counted;    /* one of the account's unpaid runs, while it is `cleared` + 1; or 0 */
    double price, due; /* of the moment, then what its charge debited; what is to be redeemed */
    double surcharge;  /* towards the opening, in the price of the moment */
    double surcharged; /* the same, in what its charge debited */
    double until;      /* seconds since 1970: when a copy may run */
    double since;      /* its account's */
    uint8_t run[16];   /* random: which run this is */
    uint8_t tag[8];
} powfast_request;

/* A redeemed challenge; no run where it paid for no request. */
typedef struct powfast_spent {
    double paid;  /* 1: for a request */
    double price; /* what the request was charged */
    double reruns; /* POWFAST_RERUNS: its answer is read */
    uint8_t run[16];
    uint8_t tag[8];
} powfast_spent;

typedef enum powfast_verdict {
    POWFAST_RUN = 0,
    POWFAST_BUSY = 1,
    POWFAST_OWED = 2,
    POWFAST_COVERED = 3,
    POWFAST_OPENING = 4,
    POWFAST_DEBT = 5,
    POWFAST_TOO_HIGH = 6,
    POWFAST_SPENT = 7,
    POWFAST_PAID = 8,
    POWFAST_AGAIN = 9,
    POWFAST_CREDITED = 10
} powfast_verdict;

typedef enum powfast_outcome {
    POWFAST_ANSWERED = 0, /* the answer was released */
    POWFAST_FREE = 1,     /* the answer goes out without a price */
    POWFAST_UNPAID = 2    /* there is no answer, or it was refused */
} powfast_outcome;

typedef struct powfast_limits {
    double unpaid_runs;  /* of one account */
    double refuse_above; /* price of the moment beyond which nothing runs */
    double busy;         /* seconds for which copies of a request are told to wait */
} powfast_limits;

/* Let wealth halve over the seconds since the latest charge; half_life 0: never. Of an account that
 * several people share (shared 1), unpaid runs halve as well. A new record begins now. */
void powfast_account_age(powfast_account *account, double half_life, int shared, double now);

/* Forget a request of an account that was forgotten since: what it was charged is, too. */
void powfast_request_recall(powfast_request *request, const powfast_account *account);

/* What the account's next query costs, the higher of its own price and its group's (or null). */
double powfast_account_price(const powfast_account *account, const powfast_account *group,
                             const powfast_tariff *tariff);

/* Advance a pool of newcomers by its next queries. heats: for each one what it then costs a newcomer in
 * base prices, before the bounds that `powfast_charge` knows; or null. state: as of powfast_price.
 * POWFAST_INVALID_ARGUMENT leaves it as it was. */
powfast_status powfast_newcomers(double *heats, double *state, const powfast_tariff *tariff,
                                 const double *evidence, size_t count);

/* May a request of so many queries run? run: 16 random bytes, or on POWFAST_COVERED those of the run
 * that is held. *work: what the verdict is about. shared: whether several people share the account, of whom none
 * owes the others' debts. newcomers: the pool of the account while it is new, or null. spent: the challenge that paid for it, where its answer is gone, else
 * null; unread: it has paid just now. Nothing is written on POWFAST_BUSY, _OPENING and _SPENT, and
 * no account that was not there on _TOO_HIGH and _DEBT. */
powfast_verdict powfast_enter(double *work, uint8_t *run, powfast_account *account,
                              const powfast_account *group, const powfast_account *newcomers,
                              powfast_request *request, powfast_spent *spent, int unread,
                              int shared, const powfast_tariff *tariff, const powfast_limits *limits,
                              double queries, double now);

/* Charge a run for its evidence; tag: 8 bytes that tell evidence apart. *due: what is still to be
 * redeemed for it. spent: the challenge whose solution came with the request, or null; it has paid
 * for the run where nothing is due. Nothing is written for another run without evidence. advance,
 * group_advance: what the run adds to either sketch, or null; only where there is one.
 * POWFAST_INVALID_ARGUMENT changes nothing. */
powfast_status powfast_charge(double *due, double *price, powfast_account *account,
                              powfast_account *group, powfast_account *newcomers,
                              powfast_request *request, powfast_spent *spent,
                              const powfast_tariff *tariff,
                              const uint8_t *run, const uint8_t *tag, const double *evidence,
                              size_t count, const powfast_advance *advance,
                              const powfast_advance *group_advance);

/* End a run that its charge has not settled. 0: it is another run's request, nothing changed. */
int powfast_leave(powfast_account *account, powfast_request *request,
                  const powfast_tariff *tariff, const uint8_t *run, powfast_outcome outcome);

/* Take the work of a challenge that is not spent yet: for its request alone or, where that runs or
 * is null, as the account's credit. *due: what the request still owes. */
powfast_verdict powfast_redeem(double *due, powfast_account *account, powfast_request *request,
                               powfast_spent *spent, const powfast_tariff *tariff, uint64_t work);

/* Charge an answer that was read already, once, what its price is above what was paid for it. */
powfast_status powfast_report(powfast_account *account, powfast_account *group,
                              powfast_account *newcomers, powfast_request *request, int shared,
                              const powfast_tariff *tariff, const double *evidence, size_t count,
                              double paid);

/* cdef: end */

#ifdef __cplusplus
}
#endif

#endif
