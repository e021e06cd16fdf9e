#include "powfast_impl.h"

#define MOST 0x1p60 /* of one number: so many additions until a float overflows are never made */

static int are_finite(const double *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(values[i] >= -MOST && values[i] <= MOST)) /* NaN is not */
            return 0;
    return 1;
}

static int is_valid(const powfast_advance *advance) {
    static const uint8_t none[sizeof advance->version];
    return memcmp(advance->version, none, sizeof none) != 0 && advance->length >= 1 &&
           advance->length <= POWFAST_SKETCH_NUMBERS &&
           are_finite(advance->sums, advance->length) &&
           are_finite(advance->fixed, advance->length) && advance->sums[0] >= 0 &&
           advance->fixed[0] >= 0;
}

int powfast_may_advance(const powfast_account *account, const powfast_advance *advance) {
    return !advance || (account && account->sketch && is_valid(advance));
}

/* Whether another estimator made it, or none yet. */
static int is_another(const powfast_sketch *sketch, const powfast_advance *advance) {
    return sketch->length != (double)advance->length ||
           memcmp(sketch->version, advance->version, sizeof sketch->version) != 0;
}

static void add(powfast_sketch *sketch, const powfast_advance *advance) {
    size_t bytes = advance->length * sizeof(double);
    if (is_another(sketch, advance)) {
        sketch->length = (double)advance->length;
        memcpy(sketch->version, advance->version, sizeof sketch->version);
        memset(sketch->sums, 0, bytes);
        memset(sketch->fixed, 0, bytes);
    }
    for (size_t i = 0; i < advance->length; i++)
        sketch->sums[i] += advance->sums[i];
    if (advance->fixed[0] > sketch->fixed[0])
        memcpy(sketch->fixed, advance->fixed, bytes);
}

powfast_bettor powfast_bettor_of(const powfast_account *account, const powfast_advance *advance) {
    powfast_bettor one = {.advance = advance};
    memcpy(one.state, account->state, sizeof one.state);
    if (account->sketch)
        memcpy(one.second, account->sketch->second, sizeof one.second);
    if (advance && is_another(account->sketch, advance))
        powfast_begin_anew(one.second, POWFAST_BETS);
    return one;
}

powfast_status powfast_bet_on(double *price, powfast_bettor *one, const powfast_tariff *tariff,
                              const double *evidence, size_t index, size_t count) {
    powfast_tariff opened = *tariff;
    opened.opening_work = 0; /* it is drawn from the balance */
    return powfast_price_both(0, price, one->state, one->second, &opened, evidence + index,
                              one->advance ? one->advance->evidence + index : 0, count);
}

void powfast_advance_to(powfast_account *account, const powfast_bettor *one) {
    memcpy(account->state, one->state, sizeof one->state);
    if (account->sketch)
        memcpy(account->sketch->second, one->second, sizeof one->second);
    if (one->advance)
        add(account->sketch, one->advance);
}
