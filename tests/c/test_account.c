/* Accounts from C: what runs, what is charged, what pays for it, and records out of range. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "powfast.h"

enum { BASE = 1000, OPENING = 50000 };

static const double bets[POWFAST_BETS] = {.001, .003, .01, .03, .1, .3, .9};
static const powfast_tariff tariff = {.base_work = BASE,
                                      .max_work = 0x1p50,
                                      .opening_work = OPENING,
                                      .step = 0.125,
                                      .wealth_cap = 0x1p100,
                                      .credit_limit = 1000 * BASE,
                                      .bets = bets,
                                      .bet_count = POWFAST_BETS};
static const powfast_tariff on_probation = {.base_work = BASE,
                                            .max_work = 0x1p50,
                                            .opening_work = OPENING,
                                            .step = 0.125,
                                            .wealth_cap = 0x1p100,
                                            .credit_limit = 1000 * BASE,
                                            .honest_mean = 1,
                                            .bets = bets,
                                            .bet_count = POWFAST_BETS,
                                            .probation = 1};
static const powfast_limits paid_first = {.unpaid_runs = 0, .refuse_above = INFINITY, .busy = 10};
static const powfast_limits limits = {.unpaid_runs = 2, .refuse_above = INFINITY, .busy = 10};
static const uint8_t tag[8] = {1}, other_tag[8] = {2};
static const double ordinary[1] = {1}, dear[3] = {50, 50, 50};
static const double now = 1.8e9;

/* One request of one account, and the latest challenge. */
typedef struct desk {
    powfast_account account;
    powfast_request request;
    powfast_spent spent;
    double work, due, price;
    uint8_t run[16];
} desk;

static desk opened(double balance) {
    desk one = {.account = {.state = {1}, .opened = 1, .balance = balance}};
    powfast_account_age(&one.account, 0, 0, now);
    powfast_request_recall(&one.request, &one.account);
    return one;
}

static powfast_verdict enter(desk *one, uint8_t run) {
    memset(one->run, run, sizeof one->run);
    return powfast_enter(&one->work, one->run, &one->account, NULL, NULL, &one->request, NULL, 0, 0,
                         &tariff, &limits, 1, now);
}

static powfast_verdict enter_again(desk *one, uint8_t run, int unread) {
    memset(one->run, run, sizeof one->run);
    return powfast_enter(&one->work, one->run, &one->account, NULL, NULL, &one->request, &one->spent,
                         unread, 0, &tariff, &limits, 1, now);
}

static powfast_status charge(desk *one, const uint8_t *name, const double *evidence,
                             size_t count) {
    return powfast_charge(&one->due, &one->price, &one->account, NULL, NULL, &one->request, NULL,
                          &tariff, one->run, name, evidence, count, NULL, NULL);
}

static powfast_verdict redeem(desk *one, double work) {
    uint64_t whole = (uint64_t)work;
    return powfast_redeem(&one->due, &one->account, &one->request, &one->spent, &tariff,
                          whole + ((double)whole < work));
}

static void test_an_opening(void) {
    desk one = {0};
    powfast_account_age(&one.account, 0, 0, now);
    CHECK(one.account.since == now && one.account.charged == now);
    powfast_request_recall(&one.request, &one.account);
    CHECK(enter(&one, 1) == POWFAST_OPENING && one.work == OPENING + BASE);
    CHECK(redeem(&one, one.work) == POWFAST_CREDITED && one.account.balance == 0);
    CHECK(enter(&one, 1) == POWFAST_RUN && one.work == 0);
    CHECK(one.account.opened == 1 && one.account.balance == 0 && one.account.unpaid == 0);
    one.work = BASE;
    CHECK(enter(&one, 1) == POWFAST_RUN && one.work == 0); /* asked twice */
    CHECK(enter(&one, 2) == POWFAST_BUSY && one.work == limits.busy);
    memset(one.run, 1, sizeof one.run);
    CHECK(charge(&one, tag, ordinary, 1) == POWFAST_OK && one.due == 0 && one.price == BASE);
    CHECK(one.request.phase == POWFAST_NO_REQUEST && one.account.balance == 0);
}

static void test_a_dear_request(void) {
    desk one = opened(0);
    CHECK(enter(&one, 1) == POWFAST_RUN && one.account.unpaid == 1);
    CHECK(charge(&one, tag, dear, 3) == POWFAST_OK && one.due == one.price);
    CHECK(one.due > 100 * BASE && one.account.balance == -one.price);
    double due = one.due;
    CHECK(charge(&one, tag, dear, 3) == POWFAST_OK && one.due == due); /* asked twice */
    CHECK(one.account.state[0] == 4);
    CHECK(enter(&one, 2) == POWFAST_OWED && one.work == due);
    CHECK(redeem(&one, BASE) == POWFAST_OWED && one.due == due - BASE);
    CHECK(redeem(&one, due - BASE) == POWFAST_PAID && one.due == 0);
    CHECK(one.spent.paid == 1 && one.spent.run[0] == 1 && one.spent.price == due);
    CHECK(one.account.unpaid == 0 && one.account.balance < 1);
    double balance = one.account.balance;
    for (int i = 0; i < POWFAST_RERUNS; i++) {
        CHECK(enter_again(&one, 2, i == 0) == POWFAST_RUN);
        CHECK(powfast_leave(&one.account, &one.request, &tariff, one.run, POWFAST_FREE) == 1);
        CHECK(one.account.balance == balance);
    }
    CHECK(enter_again(&one, 2, 0) == POWFAST_SPENT);
}

static void test_reruns(void) {
    desk one = opened(0);
    enter(&one, 1);
    charge(&one, tag, dear, 3);
    double paid = one.due;
    redeem(&one, paid);
    CHECK(enter_again(&one, 2, 1) == POWFAST_RUN);
    CHECK(charge(&one, tag, dear, 3) == POWFAST_OK && one.due == 0 && one.price == paid);
    CHECK(enter_again(&one, 3, 1) == POWFAST_RUN);
    double balance = one.account.balance;
    CHECK(charge(&one, other_tag, dear, 3) == POWFAST_OK);
    CHECK(one.due == one.price - paid - balance);
    CHECK(powfast_leave(&one.account, &one.request, &tariff, one.run, POWFAST_UNPAID) == 1);
    CHECK(fabs(one.account.balance - balance) < 1e-3);
    CHECK(powfast_leave(&one.account, &one.request, &tariff, one.run, POWFAST_FREE) == 0);
}

static void test_credit_that_covers(void) {
    desk one = opened(0);
    enter(&one, 1);
    charge(&one, tag, dear, 3);
    CHECK(powfast_redeem(&one.work, &one.account, NULL, &one.spent, &tariff,
                         (uint64_t)one.due + 1) == POWFAST_CREDITED);
    CHECK(one.spent.paid == 0 && one.account.unpaid == 0);
    CHECK(enter(&one, 2) == POWFAST_COVERED && one.run[0] == 1);
    CHECK(one.request.phase == POWFAST_RUNNING && one.request.run[0] == 2);
}

static void test_credit_to_the_last_unit(void) {
    desk one = opened(0);
    enter(&one, 1);
    charge(&one, tag, ordinary, 1);
    CHECK(one.due == BASE);
    CHECK(powfast_redeem(&one.work, &one.account, NULL, &one.spent, &tariff, BASE - 1) ==
          POWFAST_CREDITED);
    CHECK(enter(&one, 2) == POWFAST_OWED && one.work == BASE);
    CHECK(powfast_redeem(&one.work, &one.account, NULL, &one.spent, &tariff, 1) ==
          POWFAST_CREDITED);
    CHECK(one.account.balance == 0 && enter(&one, 2) == POWFAST_COVERED);
}

static void test_prepaid_work_does_not_pay_twice(void) {
    desk one = opened(0);
    enter(&one, 1);
    charge(&one, tag, ordinary, 1);
    CHECK(redeem(&one, BASE) == POWFAST_PAID);
    powfast_spent none;
    CHECK(powfast_redeem(&one.work, &one.account, &one.request, &none, &tariff, BASE) ==
          POWFAST_CREDITED);
    CHECK(one.request.phase == POWFAST_PREPAID && one.request.covered == BASE);
    CHECK(enter_again(&one, 2, 1) == POWFAST_RUN);
    CHECK(one.request.covered == 0 && one.account.balance == BASE); /* credit, and no more */
    CHECK(charge(&one, other_tag, dear, 3) == POWFAST_OK);
    CHECK(one.due == one.price - BASE - BASE);
}

static powfast_verdict enter_as_new(desk *one, const powfast_account *pool, double queries) {
    return powfast_enter(&one->work, one->run, &one->account, NULL, pool, &one->request, NULL, 0,
                         0, &on_probation, &paid_first, queries, now);
}

static void test_probation(void) {
    desk one = {0};
    powfast_account pool = {0};
    double heat;
    CHECK(enter_as_new(&one, &pool, 3) == POWFAST_DEBT && one.work == 3 * BASE);
    for (int i = 0; i < 20; i++)
        CHECK(powfast_newcomers(&heat, pool.state, &on_probation, dear, 1) == POWFAST_OK);
    CHECK(heat > OPENING / BASE && pool.state[0] == 20);
    CHECK(enter_as_new(&one, &pool, 1) == POWFAST_DEBT && one.work == OPENING);
    one.account.balance = OPENING;
    CHECK(enter_as_new(&one, &pool, 1) == POWFAST_RUN && one.account.balance == 0);
    CHECK(powfast_leave(&one.account, &one.request, &on_probation, one.run, POWFAST_UNPAID) == 1);
    CHECK(one.account.surcharged == OPENING - BASE && one.account.opened == 0);
    desk nearly = one;
    nearly.account.balance = 0;
    nearly.account.surcharged = OPENING - 1;
    CHECK(enter_as_new(&nearly, &pool, 1) == POWFAST_DEBT && nearly.work == BASE + 1);
    CHECK(nearly.account.opened == 0); /* nobody is let off the last unit */
    one.account.balance = 9 * BASE;
    CHECK(enter_as_new(&one, &pool, 1) == POWFAST_RUN && one.request.surcharge == BASE);
    CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, &pool, &one.request, NULL,
                         &on_probation, one.run, tag, ordinary, 1, NULL, NULL) == POWFAST_OK);
    CHECK(one.price == 2 * BASE && one.due == 0 && one.account.balance == 7 * BASE);
    CHECK(one.account.surcharged == OPENING && one.account.opened == 1 && pool.state[0] == 21);
    CHECK(enter_as_new(&one, &pool, 1) == POWFAST_RUN && one.request.price == BASE);
    CHECK(powfast_newcomers(NULL, pool.state, &on_probation, (double[]){-1}, 1) ==
          POWFAST_INVALID_ARGUMENT);
    CHECK(pool.state[0] == 21);
    powfast_tariff refused = on_probation;
    double means[] = {0, -1, 1.5, NAN};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        refused.honest_mean = means[i];
        CHECK(powfast_newcomers(NULL, pool.state, &refused, ordinary, 1) ==
              POWFAST_INVALID_ARGUMENT);
        CHECK(pool.state[0] == 21);
    }
}

static void test_refusals(void) {
    desk one = opened(-BASE);
    powfast_limits low = limits;
    one.account.unpaid = 2;
    CHECK(enter(&one, 1) == POWFAST_DEBT && one.work == 2 * BASE);
    CHECK(powfast_enter(&one.work, one.run, &one.account, NULL, NULL, &one.request, NULL, 0, 1, &tariff,
                        &limits, 1, now) == POWFAST_DEBT);
    CHECK(one.work == BASE); /* of neighbours, none owes the others' */
    low.refuse_above = BASE - 1;
    CHECK(powfast_enter(&one.work, one.run, &one.account, NULL, NULL, &one.request, NULL, 0, 0, &tariff,
                        &low, 1, now) == POWFAST_TOO_HIGH);
    CHECK(one.work == BASE && one.request.phase == POWFAST_NO_REQUEST);
}

static void test_groups_and_reports(void) {
    desk one = opened(0);
    powfast_account group = opened(0).account;
    CHECK(powfast_report(&one.account, &group, NULL, &one.request, 0, &tariff, dear, 3, 0) == POWFAST_OK);
    CHECK(one.account.unpaid == INFINITY && one.account.balance < -100 * BASE);
    CHECK(one.request.phase == POWFAST_REPORTED && group.state[0] == 4);
    double balance = one.account.balance;
    CHECK(powfast_report(&one.account, &group, NULL, &one.request, 0, &tariff, dear, 3, 0) == POWFAST_OK);
    CHECK(one.account.balance == balance);
    desk neighbours = opened(0);
    CHECK(powfast_report(&neighbours.account, NULL, NULL, &neighbours.request, 1, &tariff, dear, 3, 0) ==
          POWFAST_OK);
    CHECK(neighbours.account.unpaid == 0 && neighbours.account.balance < -100 * BASE);
    powfast_account newcomer = opened(0).account;
    CHECK(powfast_account_price(&newcomer, NULL, &tariff) == BASE);
    CHECK(powfast_account_price(&newcomer, &group, &tariff) > 100 * BASE);
}

static void test_ageing(void) {
    powfast_account account = opened(-BASE).account, kept = account;
    account.state[3] = account.unpaid = 8;
    powfast_account_age(&account, 60, 1, now + 120);
    CHECK(fabs(account.state[3] - 2) < 1e-12 && fabs(account.unpaid - 2) < 1e-12);
    CHECK(account.balance == -BASE && account.charged == now + 120);
    CHECK(account.since == now);
    account.unpaid = INFINITY; /* answers were read that are not paid: no time heals that */
    powfast_account_age(&account, 1e-3, 1, now + 0x1p40); /* more half-lives than an int counts */
    CHECK(account.state[3] == 0 && account.unpaid == INFINITY && account.state[0] == 1);
    powfast_account_age(&kept, 60, 1, now - 1000); /* a clock set back */
    CHECK(kept.state[0] == 1 && kept.charged == now);

    desk one = opened(0);
    enter(&one, 1);
    powfast_account later = {0};
    powfast_account_age(&later, 0, 0, now + 1);
    powfast_request_recall(&one.request, &later); /* its account was forgotten since */
    CHECK(one.request.phase == POWFAST_NO_REQUEST && one.request.since == now + 1);
}

static void test_out_of_range(void) {
    static const double refused[] = {-1, NAN, -INFINITY};
    powfast_tariff fewer = tariff;
    fewer.bet_count = POWFAST_BETS - 1;
    desk one = opened(0);
    enter(&one, 1);
    desk kept = one;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(charge(&one, tag, &refused[i], 1) == POWFAST_INVALID_ARGUMENT);
        powfast_request none = {0};
        CHECK(powfast_report(&one.account, NULL, NULL, &none, 0, &tariff, &refused[i], 1, 0) ==
              POWFAST_INVALID_ARGUMENT);
        CHECK(none.phase == POWFAST_NO_REQUEST);
    }
    CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, NULL, &one.request, NULL, &fewer,
                         one.run, tag, ordinary, 1, NULL, NULL) == POWFAST_INVALID_ARGUMENT);
    powfast_account damaged = {.state = {0.5}};
    CHECK(powfast_charge(&one.due, &one.price, &one.account, &damaged, NULL, &one.request, NULL, &tariff,
                         one.run, tag, ordinary, 1, NULL, NULL) == POWFAST_INVALID_ARGUMENT);
    CHECK(memcmp(&one.account, &kept.account, sizeof kept.account) == 0);
    CHECK(memcmp(&one.request, &kept.request, sizeof kept.request) == 0);
}

static void test_sketches(void) {
    static powfast_sketch sketch, kept_sketch;
    static const double own[] = {30, 30, 30}, none[POWFAST_SKETCH_NUMBERS + 1] = {0};
    static const double sums[] = {3, -0.5}, fixed[] = {2, 0.25}, too_large[] = {1, 0x1p61};
    static const double refused[] = {NAN, INFINITY}, negative[] = {-1, 0};
    const powfast_advance good = {own, sums, fixed, 2, {1}};
    const powfast_advance bad[] = {
        {own, refused, fixed, 2, {1}},  {own, sums, refused, 2, {1}}, {own, too_large, fixed, 2, {1}},
        {own, negative, fixed, 2, {1}}, {own, sums, fixed, 0, {1}},   {own, sums, fixed, 2, {0}},
        {negative, sums, fixed, 2, {1}}, {own, none, none, POWFAST_SKETCH_NUMBERS + 1, {1}},
    };
    desk one = opened(0);
    enter(&one, 1);
    CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, NULL, &one.request, NULL, &tariff,
                         one.run, tag, dear, 3, &good, NULL) == POWFAST_INVALID_ARGUMENT);
    one.account.sketch = &sketch;
    desk kept = one;
    kept_sketch = sketch;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, NULL, &one.request, NULL,
                             &tariff, one.run, tag, dear, 3, &bad[i], NULL) ==
              POWFAST_INVALID_ARGUMENT);
    CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, NULL, &one.request, NULL, &tariff,
                         one.run, tag, dear, 3, &good, &good) == POWFAST_INVALID_ARGUMENT);
    CHECK(memcmp(&one.account, &kept.account, sizeof kept.account) == 0);
    CHECK(memcmp(&one.request, &kept.request, sizeof kept.request) == 0);
    CHECK(memcmp(&sketch, &kept_sketch, sizeof sketch) == 0);
    CHECK(powfast_charge(&one.due, &one.price, &one.account, NULL, NULL, &one.request, NULL, &tariff,
                         one.run, tag, dear, 3, &good, NULL) == POWFAST_OK);
    CHECK(sketch.length == 2 && sketch.sums[1] == -0.5 && sketch.fixed[1] == 0.25);
    /* It began with half, as an account does that has been reset. */
    CHECK(sketch.second[0] == 3 && sketch.second[1 + POWFAST_BETS] == 0.5);
    double before = powfast_account_price(&one.account, NULL, &tariff);
    one.account.sketch = NULL;
    CHECK(before > BASE && before != powfast_account_price(&one.account, NULL, &tariff));
}

int main(void) {
    test_an_opening();
    test_a_dear_request();
    test_reruns();
    test_credit_that_covers();
    test_credit_to_the_last_unit();
    test_prepaid_work_does_not_pay_twice();
    test_probation();
    test_refusals();
    test_groups_and_reports();
    test_ageing();
    test_out_of_range();
    test_sketches();
    printf("%d checks passed\n", checks);
    return 0;
}
