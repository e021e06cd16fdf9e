#include "powfast_impl.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Only additions, multiplications, divisions and comparisons, in a fixed order: every engine that
 * computes in IEEE 754 doubles (a Lua script in a store, say) agrees to the last bit. GCC keeps to
 * it under -std=c11. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define MOST_QUERIES 0x1p53 /* doubles count no further */

/* Of a pool of newcomers: it forgets half in 5000 queries, d = 2^-(1/5000), and receives (1 - d) / d a
 * query, so that its expected wealth is at most 1. */
#define POOL_KEEPS 0x1.ffedd4b0bfa80p-1
#define POOL_SHARE 0x1.22bf4557016efp-13

static int within(double low, double high, const double *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(values[i] >= low && values[i] <= high)) /* NaN is not */
            return 0;
    return 1;
}

/* The mean of the bets' wealth after one more query; capital: what they share, restarts included. */
static double bet(double *wealth, const powfast_tariff *tariff, double capital, double queries,
                  double evidence) {
    double restart = capital / (queries * (queries + 1)), gain = evidence - 1, total = 0;
    for (size_t i = 0; i < tariff->bet_count; i++) {
        double after = (wealth[i] + restart) * (1 + tariff->bets[i] * gain);
        wealth[i] = after < tariff->wealth_cap ? after : tariff->wealth_cap;
        total += wealth[i];
    }
    return total / (double)tariff->bet_count;
}

static double mean_of(const double *wealth, size_t count) {
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += wealth[i];
    return total / (double)count;
}

double powfast_wealth(const double *state, const double *second, size_t bets) {
    double mean = mean_of(state + 1, bets);
    if (!second || second[1 + bets] == 0)
        return mean;
    return (mean + mean_of(second + 1, bets)) / 2;
}

/* With what an e-process of that state and capital may begin anew: what it has left, restarts to come
 * included, and never more than 1. */
static double left_of(const double *state, double capital, size_t bets) {
    double left = mean_of(state + 1, bets) + capital / (state[0] + 1);
    return left < 1 ? left : 1;
}

void powfast_begin_anew(double *second, size_t bets) {
    double left = left_of(second, second[1 + bets], bets);
    memset(second, 0, (1 + bets) * sizeof *second);
    second[1 + bets] = left;
}

/* The same of a pool of newcomers. Above what they pay at most, wealth is thrown away: a pool that was
 * hot cools down as soon as it can. */
static double pool_bet(double *wealth, const powfast_tariff *tariff, double evidence) {
    double count = (double)tariff->bet_count, gain = evidence / tariff->honest_mean - 1, total = 0;
    double most = count * (tariff->opening_work / tariff->base_work);
    for (size_t i = 0; i < tariff->bet_count; i++) {
        double after = POOL_KEEPS * (wealth[i] + POOL_SHARE) * (1 + tariff->bets[i] * gain);
        wealth[i] = after > most ? most : after;
        total += wealth[i];
    }
    return total / count;
}

/* By how much the price of an account's query is multiplied, counted from 1. */
static double multiple_of(const powfast_tariff *tariff, double query) {
    double multiple = 1;
    for (size_t i = 0; i < tariff->volume_count && query >= tariff->volume[i].start; i++)
        multiple = tariff->volume[i].multiple;
    return multiple;
}

double powfast_price_at(const powfast_tariff *tariff, double wealth, double query) {
    double price = tariff->base_work * (wealth > 1 ? wealth : 1) * multiple_of(tariff, query);
    return price < tariff->max_work ? price : tariff->max_work;
}

static int are_valid(const double *state, const powfast_tariff *tariff, const double *evidence,
                     size_t count) {
    return tariff->bet_count >= 1 && within(0, 1, tariff->bets, tariff->bet_count) &&
           within(0, MOST_QUERIES, state, 1) && state[0] == (double)(uint64_t)state[0] &&
           within(0, tariff->wealth_cap, state + 1, tariff->bet_count) &&
           within(0, INFINITY, evidence, count);
}

powfast_status powfast_newcomers(double *heats, double *state, const powfast_tariff *tariff,
                                 const double *evidence, size_t count) {
    if (!are_valid(state, tariff, evidence, count) || !(tariff->honest_mean > 0) ||
        !(tariff->honest_mean <= 1))
        return POWFAST_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++, state[0]++) {
        double heat = pool_bet(state + 1, tariff, evidence[i]);
        if (heats)
            heats[i] = heat;
    }
    return POWFAST_OK;
}

double powfast_newcomers_price(const double *state, const powfast_tariff *tariff) {
    double heat = mean_of(state + 1, tariff->bet_count);
    double most = tariff->opening_work / tariff->base_work, price = heat < most ? heat : most;
    return price > 1 ? price : 1;
}

powfast_status powfast_price(double *prices, double *owed, double *state,
                             const powfast_tariff *tariff, const double *evidence, size_t count) {
    return powfast_price_both(prices, owed, state, 0, tariff, evidence, 0, count);
}

powfast_status powfast_price_both(double *prices, double *owed, double *state, double *second,
                                  const powfast_tariff *tariff, const double *evidence,
                                  const double *own, size_t count) {
    size_t bets = tariff->bet_count;
    if (!are_valid(state, tariff, evidence, count) || (own && !second) ||
        (second && (!are_valid(second, tariff, own, own ? count : 0) ||
                    !within(0, 1, &second[1 + bets], 1))))
        return POWFAST_INVALID_ARGUMENT;
    if (own && count && second[1 + bets] == 0)
        second[1 + bets] = left_of(state, 1, bets);
    int both = second && second[1 + bets] > 0;
    double other = both ? mean_of(second + 1, bets) : 0;
    *owed = 0;
    for (size_t i = 0; i < count; i++) {
        double query = state[0] + 1, mean = bet(state + 1, tariff, 1, query, evidence[i]);
        if (own)
            other = bet(second + 1, tariff, second[1 + bets], ++second[0], own[i]);
        double price = powfast_price_at(tariff, both ? (mean + other) / 2 : mean, query);
        if (state[0]++ == 0)
            price += tariff->opening_work;
        if (prices)
            prices[i] = price;
        *owed += price;
    }
    return POWFAST_OK;
}

enum { MANTISSA_BITS = 52, EXPONENT_BIAS = 1023, MOST_DIGITS = 20 };

static uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* `value` with all but the first `digits` binary places behind its leading one cleared. */
static double rounded_down(double value, unsigned digits) {
    uint64_t bits = bits_of(value) & ~(uint64_t)0 << (MANTISSA_BITS - digits);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The next grid point above one that is on it. */
static double next_above(double value, unsigned digits) {
    uint64_t bits = bits_of(value) + ((uint64_t)1 << (MANTISSA_BITS - digits));
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ceil of what is at least 0, without a library to link. */
static double rounded_up(double value) {
    double whole = value < 0x1p53 ? (double)(uint64_t)value : value;
    return whole < value ? whole + 1 : whole;
}

powfast_status powfast_publish(uint64_t *work, const powfast_tariff *tariff, double due) {
    unsigned digits = EXPONENT_BIAS - (unsigned)(bits_of(tariff->step) >> MANTISSA_BITS);
    double base = tariff->base_work;
    if (!(due >= 0 && due <= DBL_MAX) || !(base >= 1 && base <= DBL_MAX) || digits < 1 ||
        digits > MOST_DIGITS || rounded_down(tariff->step, 0) != tariff->step)
        return POWFAST_INVALID_ARGUMENT;
    uint64_t most = ~(uint64_t)0 << (63 - digits); /* below 2^64, of as few digits */
    double asked = due > 1 ? due : 1;
    double prices = rounded_down(asked / base, digits);
    while (rounded_up(prices * base) < asked)
        prices = next_above(prices, digits);
    double published = rounded_up(prices * base);
    *work = published < (double)most ? (uint64_t)published : most;
    return POWFAST_OK;
}
