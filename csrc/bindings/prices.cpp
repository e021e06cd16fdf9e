// What queries owe, as Python asks for it.
#include <algorithm>
#include <stdexcept>

#include "tariff.h"

namespace {

powfast_status prices_of(double *prices, double *state, const powfast_tariff *tariff,
                                const double *evidence, size_t count) {
    double sum;
    return powfast_price(prices, &sum, state, tariff, evidence, count);
}

using Advance = powfast_status(double *, double *, const powfast_tariff *, const double *, size_t);

// evidence (n,) and the state (8,) -> prices or heats (n,) and the state after them, None where a
// value is out of its range
template <Advance *advance>
py::object advance_array(const Tariff &tariff, const Array<double> &evidence,
                       const Array<double> &state) {
    if (evidence.ndim() != 1 || state.ndim() != 1 || state.size() != 1 + POWFAST_BETS)
        throw std::invalid_argument("shapes must be (n,) and (8,)");
    Array<double> prices(evidence.size()), after(state.size());
    std::copy_n(state.data(), state.size(), after.mutable_data());
    double *out = prices.mutable_data(), *advanced = after.mutable_data();
    powfast_status status;
    {
        py::gil_scoped_release release;
        status = advance(out, advanced, tariff.get(), evidence.data(), (size_t)evidence.size());
    }
    return status == POWFAST_OK ? py::object(py::make_tuple(prices, after)) : py::none();
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
    type.def("price_array", &advance_array<prices_of>);
    type.def("newcomers_array", &advance_array<powfast_newcomers>);
    fast<publish>(type, "publish", "Round what is due up to the published work.");
    define_accounting(type);
    module.attr("are_nonnegative") = bare<are_nonnegative>("are_nonnegative", py::none());
}
