// What queries owe, as Python asks for it.
#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "objects.h"

namespace {

// A tariff read from its (base, most, opening, step, cap) and its bets.
class Tariff {
  public:
    static constexpr size_t kMostBets = 64;

    bool read(PyObject *numbers, PyObject *bets) {
        double given[5];
        size_t count = PyTuple_Check(bets) ? (size_t)PyTuple_GET_SIZE(bets) : 0;
        if (count > kMostBets || !doubles_of(numbers, given, 5) ||
            !doubles_of(bets, bets_, count))
            return false;
        tariff_ = {given[0], given[1], given[2], given[3], given[4], bets_, count};
        return true;
    }

    const powfast_tariff *get() const { return &tariff_; }
    size_t state_size() const { return 1 + tariff_.bet_count; }

  private:
    double bets_[kMostBets];
    powfast_tariff tariff_;
};

// Doubles, little-endian: how ledgers keep a state.
double unpacked(const char *bytes) {
    uint64_t bits = 0;
    for (int i = 8; i-- > 0;)
        bits = bits << 8 | (uint8_t)bytes[i];
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void pack(char *bytes, double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(bits >> 8 * i);
}

// price_few(evidence, state, multiples, numbers, bets) -> the sum of the prices and the state after
// them, None where a value is out of its range: lists or tuples of floats and packed states,
// without a detour over arrays, on the way of every request. multiples may be None.
PyObject *price_few(PyObject *, PyObject *const *args, Py_ssize_t count) {
    Tariff tariff;
    double state[1 + Tariff::kMostBets], sum = 0;
    if (count != 5 || !PyList_Check(args[0]) || !tariff.read(args[3], args[4]))
        return misused("price_few(evidence, state, multiples, numbers, bets)");
    auto queries = (size_t)PyList_GET_SIZE(args[0]);
    bool volume = args[2] != Py_None;
    powfast_field before;
    if (!bytes_of(args[1], &before) || before.length != 8 * tariff.state_size() ||
        (volume && !has_items(args[2], queries)))
        Py_RETURN_NONE;
    for (size_t i = 0; i < tariff.state_size(); i++)
        state[i] = unpacked(reinterpret_cast<const char *>(before.bytes) + 8 * i);
    for (size_t i = 0; i < queries; i++) {
        double evidence, multiple = 1, price, owed;
        if (!double_of(PyList_GET_ITEM(args[0], i), &evidence) ||
            (volume && !double_of(PySequence_Fast_GET_ITEM(args[2], i), &multiple)) ||
            powfast_price(&price, &owed, state, tariff.get(), &evidence, &multiple, 1) !=
                POWFAST_OK)
            Py_RETURN_NONE;
        sum += price;
    }
    char after[8 * (1 + Tariff::kMostBets)];
    for (size_t i = 0; i < tariff.state_size(); i++)
        pack(after + 8 * i, state[i]);
    PyObject *kept = PyBytes_FromStringAndSize(after, (Py_ssize_t)(8 * tariff.state_size()));
    return kept ? Py_BuildValue("dN", sum, kept) : nullptr;
}

// The same over arrays: prices (n,) and the state after them.
py::object price_many(const Array<double> &evidence, const Array<double> &state,
                      const std::optional<Array<double>> &multiples, const py::tuple &numbers,
                      const py::tuple &bets) {
    Tariff tariff;
    if (!tariff.read(numbers.ptr(), bets.ptr()) || evidence.ndim() != 1 || state.ndim() != 1 ||
        (size_t)state.size() != tariff.state_size() ||
        (multiples && multiples->size() != evidence.size()))
        throw std::invalid_argument("shapes must be (n,), (1 + bets,) and (n,)");
    Array<double> prices(evidence.size()), after(state.size());
    std::copy_n(state.data(), state.size(), after.mutable_data());
    double sum, *out = prices.mutable_data(), *advanced = after.mutable_data();
    powfast_status status;
    {
        py::gil_scoped_release release;
        status = powfast_price(out, &sum, advanced, tariff.get(), evidence.data(),
                               multiples ? multiples->data() : nullptr, (size_t)evidence.size());
    }
    return status == POWFAST_OK ? py::object(py::make_tuple(prices, after)) : py::none();
}

// are_nonnegative(values) -> whether they are a list or tuple of nonnegative floats, none NaN.
PyObject *are_nonnegative(PyObject *, PyObject *const *args, Py_ssize_t count) {
    if (count != 1)
        return misused("are_nonnegative(values)");
    if (!PyList_CheckExact(args[0]) && !PyTuple_CheckExact(args[0]))
        Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(args[0]); i++) {
        double value;
        if (!double_of(PySequence_Fast_GET_ITEM(args[0], i), &value) || !(value >= 0))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

// publish(owed, carry, base_work, step) -> the published work and the carry, None where a value is
// no float or out of its range.
PyObject *publish(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_tariff tariff{};
    double owed, carry;
    uint64_t work;
    if (count != 4)
        return misused("publish(owed, carry, base_work, step)");
    if (!double_of(args[0], &owed) || !double_of(args[1], &carry) ||
        !double_of(args[2], &tariff.base_work) || !double_of(args[3], &tariff.step) ||
        powfast_publish(&work, &carry, &tariff, owed) != POWFAST_OK)
        Py_RETURN_NONE;
    return Py_BuildValue("Kd", (unsigned long long)work, carry);
}

} // namespace

void define_prices(py::module_ &module) {
    module.def("price_many", &price_many);
    module.attr("price_few") = bare<price_few>("price_few", py::none());
    module.attr("are_nonnegative") = bare<are_nonnegative>("are_nonnegative", py::none());
    module.attr("publish") = bare<publish>("publish", py::none());
}
