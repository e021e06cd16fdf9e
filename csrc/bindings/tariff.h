// A tariff as Python makes it once, for whatever prices by it.
#ifndef POWFAST_TARIFF_H
#define POWFAST_TARIFF_H

#include <stdexcept>
#include <vector>

#include "objects.h"

class Tariff {
  public:
    // numbers: base, most, opening, step, wealth cap, credit limit, honest mean; volume: (start, multiple)s.
    Tariff(const std::array<double, 7> &numbers, std::vector<double> bets,
           const std::vector<std::pair<double, double>> &volume, bool probation,
           bool account_evidence)
        : bets_(std::move(bets)) {
        if (bets_.size() != POWFAST_BETS)
            throw std::invalid_argument("a tariff has seven bets");
        for (auto [start, multiple] : volume)
            volume_.push_back({start, multiple});
        auto [base, most, opening, step, cap, credit, mean] = numbers;
        tariff_ = {base,           most,      opening,         step,         cap,
                   credit,         mean,      bets_.data(),    bets_.size(), volume_.data(),
                   volume_.size(), probation, account_evidence};
    }

    Tariff(const Tariff &) = delete;

    const powfast_tariff *get() const { return &tariff_; }

  private:
    std::vector<double> bets_;
    std::vector<powfast_volume> volume_;
    powfast_tariff tariff_;
};

// The evidence of a request's queries: a list of floats that Python has checked.
inline bool evidence_of(PyObject *object, std::vector<double> *evidence) {
    if (!PyList_Check(object))
        return false;
    evidence->resize((size_t)PyList_GET_SIZE(object));
    return doubles_of(object, evidence->data(), evidence->size());
}

#endif
