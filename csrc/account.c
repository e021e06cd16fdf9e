#include "powfast_impl.h"

#include <math.h>
#include <string.h>

/* IEEE additions, multiplications, divisions and comparisons in a fixed order, as in price.c: every
 * store does the same to the last bit. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define NO_HALF_LEFT 1100.0
#define HALVING_TERMS 18
#define LN_2 0.693147180559945309417

static double higher(double a, double b) { return a > b ? a : b; }
static double lower(double a, double b) { return a < b ? a : b; }

/* 2^-half_lives, as powfast/tariff/decay.py has it. */
static double halved(double half_lives) {
    if (half_lives >= NO_HALF_LEFT)
        return 0;
    double whole = (double)(int)half_lives, y = (half_lives - whole) * LN_2, factor = 1;
    for (int k = HALVING_TERMS; k > 0; k--)
        factor = 1 - y * factor / k;
    return ldexp(factor, -(int)whole);
}

void powfast_account_age(powfast_account *account, double half_life, int shared, double now) {
    if (account->since == 0)
        account->since = now;
    if (!(now > account->charged)) /* a clock that goes backwards counts as no time */
        return;
    double left = half_life > 0 ? halved((now - account->charged) / half_life) : 1;
    account->charged = now;
    for (int i = 1; i <= POWFAST_BETS; i++)
        account->state[i] *= left;
    for (int i = 1; i <= POWFAST_BETS && account->sketch; i++)
        account->sketch->second[i] *= left;
    if (shared && account->unpaid < INFINITY) /* answers that were read: no time heals that */
        account->unpaid *= left;
}

static double mean_wealth(const powfast_account *account) {
    return powfast_wealth(account->state, account->sketch ? account->sketch->second : 0,
                          POWFAST_BETS);
}

static double next_price(const powfast_account *account, const powfast_tariff *tariff) {
    return powfast_price_at(tariff, mean_wealth(account), account->state[0] + 1);
}

double powfast_account_price(const powfast_account *account, const powfast_account *group,
                             const powfast_tariff *tariff) {
    double own = next_price(account, tariff);
    return group ? higher(own, next_price(group, tariff)) : own;
}

static void forget(powfast_request *request) { memset(request, 0, sizeof *request); }

void powfast_request_recall(powfast_request *request, const powfast_account *account) {
    if (request->since != account->since)
        forget(request);
    request->since = account->since;
}

static int is_same(const uint8_t *run, const uint8_t *other) { return memcmp(run, other, 16) == 0; }

static int is_run(const powfast_request *request, const uint8_t *run) {
    return is_same(request->run, run);
}

static int is_tagged(const powfast_request *request, const uint8_t *tag) {
    return request->tagged && memcmp(request->tag, tag, sizeof request->tag) == 0;
}

/* What of an opening may still be charged. */
static double left_of_opening(const powfast_account *account, const powfast_tariff *tariff) {
    return higher(0, tariff->opening_work - account->surcharged);
}

/* Where the balance is not negative, everything that was charged is paid: an opening, too. */
static void open_if_paid(powfast_account *account, const powfast_tariff *tariff) {
    if (tariff->probation && account->balance >= 0 && left_of_opening(account, tariff) == 0)
        account->opened = 1;
}

static void forgive(powfast_account *account, const powfast_tariff *tariff) {
    if (account->balance >= 0) {
        account->unpaid = 0;
        account->cleared += 1;
    }
    open_if_paid(account, tariff);
}

static int is_new(const powfast_account *account, const powfast_tariff *tariff) {
    return tariff->probation && !account->opened;
}

/* What a newcomer pays for queries of such a price above it, where its pool's wealth is so much. */
static double surcharge(double heat, double price, double queries, const powfast_tariff *tariff) {
    double hot = lower(tariff->base_work * heat, tariff->opening_work);
    return queries * higher(0, hot - price);
}

/* Take back what was charged towards an opening. */
static void uncount(powfast_account *account, double surcharged) {
    if (surcharged > 0) {
        account->surcharged = higher(0, account->surcharged - surcharged);
        account->opened = 0;
    }
}

/* Raise the balance, up to the limit or by one challenge's work above it. */
static void credit(powfast_account *account, const powfast_tariff *tariff, double work) {
    double most = higher(tariff->credit_limit, work), raised = account->balance + work;
    account->balance = higher(account->balance, lower(raised, most));
    forgive(account, tariff);
}

/* Whether it is one of the unpaid runs: those from before a forgiveness are not. */
static int is_counted(const powfast_account *account, const powfast_request *request) {
    return request->counted == account->cleared + 1;
}

static void count_run(powfast_account *account, powfast_request *request) {
    account->unpaid += !is_counted(account, request);
    request->counted = account->cleared + 1;
}

static void paid_run(powfast_account *account, const powfast_request *request) {
    account->unpaid = higher(0, account->unpaid - is_counted(account, request));
}

/* A challenge has paid for a run: sent again, its solution is good for the same answer. */
static void pay_for(powfast_spent *spent, const uint8_t *run, const uint8_t *tag, double price) {
    spent->paid = 1;
    spent->price = price;
    memcpy(spent->run, run, sizeof spent->run);
    memcpy(spent->tag, tag, sizeof spent->tag);
}

/* Let a request run that is paid: it owes nothing for the evidence that it was charged for. */
static void run_again(powfast_request *request, double price, const uint8_t *tag) {
    request->phase = POWFAST_RUNNING;
    request->tagged = 1;
    request->price = price;
    memmove(request->tag, tag, sizeof request->tag);
}

/* The run takes the place of the one that was paid, whose answer nobody has read: of all runs for
 * one solution, one answer is read. */
static powfast_verdict enter_again(powfast_account *account, powfast_request *request,
                                   powfast_spent *spent, const uint8_t *run, int unread,
                                   const powfast_tariff *tariff) {
    if (!spent->paid || spent->reruns >= POWFAST_RERUNS || (!unread && spent->reruns == 0))
        return POWFAST_SPENT;
    credit(account, tariff, request->covered); /* a rerun needs none of it */
    request->covered = 0;
    run_again(request, spent->price, spent->tag);
    request->settled = spent->price;
    spent->reruns++;
    memcpy(spent->run, run, sizeof spent->run);
    return POWFAST_RUN;
}

/* What is to be redeemed before the answer of a charged request goes out: everything, where answers
 * were read that are not paid. */
static double owed(const powfast_account *account, const powfast_request *request) {
    return account->unpaid < INFINITY ? request->due : -account->balance;
}

/* A request that was charged, and asks again. */
static powfast_verdict enter_due(double *work, uint8_t *run, const powfast_account *account,
                                 powfast_request *request) {
    if (account->balance < 0) {
        *work = owed(account, request);
        return POWFAST_OWED;
    }
    uint8_t held[sizeof request->run];
    memcpy(held, request->run, sizeof held);
    run_again(request, request->price, request->tag);
    request->authorized = request->covered = request->price;
    request->counted = request->due = 0;
    *work = account->balance;
    memcpy(request->run, run, sizeof held);
    memcpy(run, held, sizeof held);
    return POWFAST_COVERED;
}

static powfast_verdict enter_new(double *work, powfast_account *account,
                                 const powfast_account *group, const powfast_account *newcomers,
                                 powfast_request *request, int shared,
                                 const powfast_tariff *tariff, const powfast_limits *limits,
                                 double queries) {
    double each = powfast_account_price(account, group, tariff), price = each * queries;
    int is_refused = price > limits->refuse_above;
    double *prepaid = &request->covered; /* it is in no balance: nothing else can use it */
    if (newcomers && is_new(account, tariff)) {
        double more = surcharge(mean_wealth(newcomers), each, queries, tariff);
        request->surcharge = lower(more, left_of_opening(account, tariff));
        price += request->surcharge;
    }
    *work = price;
    if (!account->opened && !tariff->probation) {
        double opening = tariff->opening_work;
        if (account->balance + *prepaid < opening) {
            *work = opening + price - (account->balance + *prepaid);
            return POWFAST_OPENING;
        }
        double drawn = lower(*prepaid, opening);
        *prepaid -= drawn;
        account->balance -= opening - drawn;
        account->opened = 1;
    }
    if (is_refused) {
        *work = each * queries;
        return POWFAST_TOO_HIGH;
    }
    double funds = *prepaid + higher(0, account->balance);
    if (account->unpaid >= limits->unpaid_runs && funds < price) {
        *work = price - (shared ? *prepaid : account->balance + *prepaid);
        return POWFAST_DEBT;
    }
    request->phase = POWFAST_RUNNING;
    request->price = price;
    request->authorized = higher(price, *prepaid);
    account->balance -= request->authorized - *prepaid;
    request->covered = lower(funds, request->authorized);
    if (request->covered < price)
        count_run(account, request);
    *work = 0;
    return POWFAST_RUN;
}

powfast_verdict powfast_enter(double *work, uint8_t *run, powfast_account *account,
                              const powfast_account *group, const powfast_account *newcomers,
                              powfast_request *request, powfast_spent *spent, int unread,
                              int shared, const powfast_tariff *tariff, const powfast_limits *limits,
                              double queries, double now) {
    *work = 0;
    forgive(account, tariff);
    if (request->phase == POWFAST_RUNNING && is_run(request, run))
        return POWFAST_RUN; /* a store was asked twice */
    if (request->phase == POWFAST_RUNNING && now < request->until) {
        *work = request->until - now;
        return POWFAST_BUSY;
    }
    if (request->phase == POWFAST_DUE && !spent) {
        powfast_verdict verdict = enter_due(work, run, account, request);
        if (verdict == POWFAST_COVERED)
            request->until = now + limits->busy;
        return verdict;
    }
    int is_prepaid = request->phase == POWFAST_PREPAID;
    powfast_request next = {.covered = is_prepaid ? request->covered : 0, .since = request->since};
    powfast_verdict verdict =
        spent ? enter_again(account, &next, spent, run, unread, tariff)
              : enter_new(work, account, group, newcomers, &next, shared, tariff, limits, queries);
    if (verdict == POWFAST_RUN) {
        memcpy(next.run, run, sizeof next.run);
        next.until = now + limits->busy;
        *request = next;
    } else if (is_prepaid) {
        request->covered = next.covered;
    }
    return verdict;
}

/* What queries cost by an account alone, and towards its opening. */
typedef struct prices {
    double own, more;
} prices;

/* Price one query after the other; both advance. most: what may still be charged of the opening. */
static powfast_status newly_priced(prices *sum, powfast_bettor *one, double *pool, double most,
                                   const powfast_tariff *tariff, const double *evidence,
                                   size_t count) {
    double price, heat;
    *sum = (prices){0};
    for (size_t i = 0; i < count; i++) {
        if (powfast_bet_on(&price, one, tariff, evidence, i, 1) != POWFAST_OK ||
            powfast_newcomers(&heat, pool, tariff, &evidence[i], 1) != POWFAST_OK)
            return POWFAST_INVALID_ARGUMENT;
        sum->own += price;
        sum->more += lower(surcharge(heat, price, 1, tariff), higher(0, most - sum->more));
    }
    return POWFAST_OK;
}

/* The sum of the prices by the account or, where that is more, by its group; all advance. */
static powfast_status priced(double *price, double *surcharged, powfast_account *account,
                             powfast_account *group, powfast_account *newcomers, double most,
                             const powfast_tariff *tariff, const double *evidence, size_t count,
                             const powfast_advance *const advances[2]) {
    double pool[1 + POWFAST_BETS], ours = 0;
    powfast_bettor own = powfast_bettor_of(account, advances[0]), together = {0};
    prices sum = {0};
    if (group)
        together = powfast_bettor_of(group, advances[1]);
    if (newcomers)
        memcpy(pool, newcomers->state, sizeof pool);
    if (tariff->bet_count != POWFAST_BETS ||
        (newcomers ? newly_priced(&sum, &own, pool, most, tariff, evidence, count)
                   : powfast_bet_on(&sum.own, &own, tariff, evidence, 0, count)) != POWFAST_OK ||
        (group && powfast_bet_on(&ours, &together, tariff, evidence, 0, count) != POWFAST_OK))
        return POWFAST_INVALID_ARGUMENT;
    powfast_advance_to(account, &own);
    if (group)
        powfast_advance_to(group, &together);
    if (newcomers)
        memcpy(newcomers->state, pool, sizeof pool);
    *price = higher(sum.own + sum.more, ours);
    *surcharged = lower(sum.more, *price - higher(sum.own, ours));
    return POWFAST_OK;
}

/* Price queries, and count what of it is towards the opening; before: what counted for them already.
 * A run that was paid before has paid that as well. */
static powfast_status priced_anew(double *price, double *surcharged, double before, int paid,
                                  powfast_account *account, powfast_account *group,
                                  powfast_account *newcomers, const powfast_tariff *tariff,
                                  const double *evidence, size_t count,
                                  const powfast_advance *const advances[2]) {
    powfast_account without = *account;
    uncount(&without, before);
    if (!is_new(&without, tariff))
        newcomers = 0;
    if (priced(price, surcharged, &without, group, newcomers,
               paid ? 0 : left_of_opening(&without, tariff), tariff, evidence, count,
               advances) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    without.surcharged += *surcharged;
    *account = without;
    return POWFAST_OK;
}

powfast_status powfast_charge(double *due, double *price, powfast_account *account,
                              powfast_account *group, powfast_account *newcomers,
                              powfast_request *request, powfast_spent *spent,
                              const powfast_tariff *tariff,
                              const uint8_t *run, const uint8_t *tag, const double *evidence,
                              size_t count, const powfast_advance *advance,
                              const powfast_advance *group_advance) {
    const powfast_advance *const advances[] = {advance, group_advance};
    powfast_request none = {0}, *mine = request;
    if (request->phase == POWFAST_DUE && is_run(request, run) && is_tagged(request, tag)) {
        *due = request->due; /* a store was asked twice */
        *price = request->price;
        return POWFAST_OK;
    }
    if (request->phase != POWFAST_RUNNING || !is_run(request, run))
        mine = request->phase == POWFAST_NO_REQUEST ? request : &none;
    if (!powfast_may_advance(account, advance) || !powfast_may_advance(group, group_advance))
        return POWFAST_INVALID_ARGUMENT;
    *due = *price = 0;
    if (count == 0) {
        account->balance += mine->authorized;
        paid_run(account, mine);
        forget(mine);
        return POWFAST_OK;
    }
    int is_rerun = spent && spent->paid && is_same(spent->run, run);
    if (is_rerun && mine->phase != POWFAST_RUNNING && !memcmp(spent->tag, tag, sizeof spent->tag)) {
        *price = spent->price; /* a store was asked twice */
        return POWFAST_OK;
    }
    if (is_tagged(mine, tag)) {
        if (is_rerun)
            spent->reruns = POWFAST_RERUNS; /* its answer is read */
        *price = mine->price;
        paid_run(account, mine);
        forget(mine);
        return POWFAST_OK;
    }
    double surcharged;
    if (priced_anew(price, &surcharged, mine->surcharged, mine->settled > 0, account, group,
                    newcomers, tariff, evidence, count, advances) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    double debit = higher(0, *price - mine->settled);
    account->balance += mine->authorized;
    *due = higher(0, debit - higher(mine->covered, higher(0, account->balance)));
    account->balance -= debit;
    if (*due == 0) {
        if (spent && (is_rerun || !spent->paid)) {
            pay_for(spent, run, tag, debit);
            spent->reruns = POWFAST_RERUNS;
        }
        paid_run(account, mine);
        forget(mine);
        open_if_paid(account, tariff);
        return POWFAST_OK;
    }
    if (is_rerun && mine->settled > 0)
        memset(spent, 0, sizeof *spent); /* what it has paid counts for this run now */
    count_run(account, mine);
    if (!mine->tagged)
        mine->authorized = mine->price; /* of the moment, which stays a debt in any case */
    else
        mine->surcharge = mine->surcharged;
    mine->surcharged = surcharged;
    mine->phase = POWFAST_DUE;
    mine->tagged = 1;
    mine->price = debit;
    mine->due = *due;
    mine->covered = mine->settled = mine->until = 0;
    memcpy(mine->run, run, sizeof mine->run);
    memcpy(mine->tag, tag, sizeof mine->tag);
    return POWFAST_OK;
}

/* The price of the moment stays charged, and with it what of it was towards the opening. */
static void keep_moment(powfast_account *account, const powfast_request *request,
                        const powfast_tariff *tariff) {
    uncount(account, request->surcharged);
    double kept = lower(request->surcharge, left_of_opening(account, tariff));
    account->surcharged += kept;
    account->balance += request->surcharge - kept; /* others have paid the rest meanwhile */
}

int powfast_leave(powfast_account *account, powfast_request *request,
                  const powfast_tariff *tariff, const uint8_t *run, powfast_outcome outcome) {
    int is_due = request->phase == POWFAST_DUE;
    if ((request->phase != POWFAST_RUNNING && !is_due) || !is_run(request, run))
        return 0;
    double debited = is_due ? request->price : request->authorized;
    double moment = is_due || request->tagged ? request->authorized : request->price;
    if (outcome == POWFAST_FREE) {
        account->balance += debited;
        uncount(account, request->surcharged);
        paid_run(account, request);
    } else if (outcome == POWFAST_UNPAID) {
        account->balance += debited - moment;
        if (is_due || !request->tagged)
            keep_moment(account, request, tariff);
    }
    forget(request);
    return 1;
}

powfast_verdict powfast_redeem(double *due, powfast_account *account, powfast_request *request,
                               powfast_spent *spent, const powfast_tariff *tariff, uint64_t work) {
    *due = 0;
    memset(spent, 0, sizeof *spent);
    if (request &&
        (request->phase == POWFAST_NO_REQUEST || request->phase == POWFAST_PREPAID)) {
        request->phase = POWFAST_PREPAID;
        request->covered += (double)work;
        return POWFAST_CREDITED;
    }
    credit(account, tariff, (double)work);
    if (!request || request->phase != POWFAST_DUE)
        return POWFAST_CREDITED;
    request->due -= (double)work;
    if (account->balance < 0 && owed(account, request) > 0) {
        *due = owed(account, request);
        return POWFAST_OWED;
    }
    paid_run(account, request);
    pay_for(spent, request->run, request->tag, request->price);
    forget(request);
    return POWFAST_PAID;
}

powfast_status powfast_report(powfast_account *account, powfast_account *group,
                              powfast_account *newcomers, powfast_request *request, int shared,
                              const powfast_tariff *tariff, const double *evidence, size_t count,
                              double paid) {
    static const powfast_advance *const none[2];
    double price, surcharged;
    if (request->phase == POWFAST_REPORTED)
        return POWFAST_OK;
    if (priced_anew(&price, &surcharged, 0, 0, account, group, newcomers, tariff, evidence, count,
                    none) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    request->phase = POWFAST_REPORTED;
    account->balance -= higher(0, price - paid);
    if (price > paid && account->balance < 0 && !shared)
        account->unpaid = INFINITY;
    return POWFAST_OK;
}
