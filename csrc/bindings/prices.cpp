// What queries owe, as Python asks for it.
#include <algorithm>
#include <optional>
#include <stdexcept>

#include "tariff.h"

namespace {

// Outputs (n,) and the state after them, None where a value is out of its range; advance takes both
// and the number of queries.
template <typename Advance>
py::object advanced(const Array<double> &evidence, const Array<double> &state, Advance advance) {
    Array<double> outputs(evidence.size()), after(state.size());
    std::copy_n(state.data(), state.size(), after.mutable_data());
    double *out = outputs.mutable_data(), *to = after.mutable_data();
    powfast_status status;
    {
        py::gil_scoped_release release;
        status = advance(out, to, (size_t)evidence.size());
    }
    return status == POWFAST_OK ? py::object(py::make_tuple(outputs, after)) : py::none();
}

constexpr py::ssize_t kFirst = 1 + POWFAST_BETS, kBoth = kFirst + 2 + POWFAST_BETS;

// evidence (n,), account evidence (n,) or None, state (8,) or (17,) -> prices (n,) and the state
py::object price_array(const Tariff &tariff, const Array<double> &evidence,
                       const std::optional<Array<double>> &own, const Array<double> &state) {
    bool both = state.size() == kBoth;
    if (evidence.ndim() != 1 || state.ndim() != 1 || (state.size() != kFirst && !both) ||
        (own && (!both || own->ndim() != 1 || own->size() != evidence.size())))
        throw std::invalid_argument("shapes must be (n,), (n,) and (8,) or (17,)");
    const double *theirs = own ? own->data() : nullptr;
    return advanced(evidence, state, [&](double *prices, double *to, size_t count) {
        double sum;
        return powfast_price_both(prices, &sum, to, both ? to + kFirst : nullptr, tariff.get(),
                                  evidence.data(), theirs, count);
    });
}

// evidence (n,) and the state (8,) -> heats (n,) and the state
py::object newcomers_array(const Tariff &tariff, const Array<double> &evidence,
                           const Array<double> &state) {
    if (evidence.ndim() != 1 || state.ndim() != 1 || state.size() != kFirst)
        throw std::invalid_argument("shapes must be (n,) and (8,)");
    return advanced(evidence, state, [&](double *heats, double *to, size_t count) {
        return powfast_newcomers(heats, to, tariff.get(), evidence.data(), count);
    });
}

// publish(due) -> the published work, None where it is no float or out of its range
PyObject *publish(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    double due;
    uint64_t work;
    if (count != 1)
        return misused("publish(due)");
    if (!double_of(args[0], &due) || powfast_publish(&work, tariff.get(), due) != POWFAST_OK)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(work);
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

} // namespace

void define_accounting(py::class_<Tariff> &type); // stores/accounting.cpp

void define_prices(py::module_ &module) {
    py::class_<Tariff> type(module, "Tariff", py::is_final());
    type.def(py::init<const std::array<double, 7> &, std::vector<double>,
                      const std::vector<std::pair<double, double>> &, bool, bool>());
    type.def("price_array", &price_array);
    type.def("newcomers_array", &newcomers_array);
    fast<publish>(type, "publish", "Round what is due up to the published work.");
    define_accounting(type);
    module.attr("are_nonnegative") = bare<are_nonnegative>("are_nonnegative", py::none());
}
