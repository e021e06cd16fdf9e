// Records of a ledger as bytes, and what they are made of in Python: doubles, little-endian, in the
// order of powfast.h, and after them what is bytes there.
#ifndef POWFAST_RECORDS_H
#define POWFAST_RECORDS_H

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "tariff.h"

constexpr size_t kRunBytes = sizeof powfast_request{}.run;

// How many doubles a record begins with.
template <typename Record> constexpr size_t kDoubles = offsetof(Record, run) / sizeof(double);
template <> inline constexpr size_t kDoubles<powfast_account> =
    sizeof(powfast_account) / sizeof(double);

// The order of a double's bytes: its own where numbers are little-endian, reversed elsewhere.
inline void copy_double(uint8_t *to, const uint8_t *from) {
    const uint16_t one = 1;
    bool little = *reinterpret_cast<const uint8_t *>(&one) == 1;
    for (size_t i = 0; i < sizeof(double); i++)
        to[i] = from[little ? i : sizeof(double) - 1 - i];
}

template <typename Record> void copy_record(uint8_t *to, const uint8_t *from) {
    constexpr size_t doubles = kDoubles<Record> * sizeof(double);
    for (size_t i = 0; i < doubles; i += sizeof(double))
        copy_double(to + i, from + i);
    std::memcpy(to + doubles, from + doubles, sizeof(Record) - doubles);
}

template <typename Record> PyObject *packed(const Record &record) {
    uint8_t bytes[sizeof(Record)];
    copy_record<Record>(bytes, reinterpret_cast<const uint8_t *>(&record));
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(bytes), sizeof bytes);
}

// Whether it holds what the operations leave there, and no other bytes.
inline bool is_whole(const powfast_account &account, const powfast_tariff *tariff) {
    for (double value : account.state)
        if (!(value >= 0 && value <= tariff->wealth_cap))
            return false;
    return account.state[0] == std::floor(account.state[0]) && account.balance == account.balance &&
           account.unpaid >= 0 && account.cleared >= 0 && account.surcharged >= 0 &&
           (account.opened == 0 || account.opened == 1) && account.charged == account.charged &&
           account.since == account.since;
}

template <typename Record> bool is_whole(const Record &record, const powfast_tariff *) {
    double values[kDoubles<Record>];
    std::memcpy(values, &record, sizeof values);
    return std::none_of(values, values + kDoubles<Record>, [](double x) { return x != x; });
}

// Zeros for None; false, with a ValueError, for what is no record.
template <typename Record>
bool unpack(PyObject *object, Record *record, const powfast_tariff *tariff) {
    powfast_field field;
    *record = Record{};
    if (object == Py_None)
        return true;
    bool found = bytes_of(object, &field) && field.length == sizeof(Record);
    if (found)
        copy_record<Record>(reinterpret_cast<uint8_t *>(record), field.bytes);
    if (!found || !is_whole(*record, tariff))
        PyErr_SetString(PyExc_ValueError, "a record is damaged");
    return !PyErr_Occurred();
}

inline bool read_run(PyObject *object, uint8_t *run) {
    powfast_field field;
    if (!bytes_of(object, &field) || field.length != kRunBytes)
        return false;
    std::memcpy(run, field.bytes, kRunBytes);
    return true;
}

// The run whose answer is held, where there is one: else nothing.
inline PyObject *held_run(bool held, const uint8_t *run) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(run), held ? kRunBytes : 0);
}

inline bool is_running(const powfast_request &request, const uint8_t *run) {
    return request.phase == POWFAST_RUNNING && std::memcmp(request.run, run, kRunBytes) == 0;
}

inline bool read_limits(PyObject *object, powfast_limits *limits) {
    return has_items(object, 3) &&
           number_of(PySequence_Fast_GET_ITEM(object, 0), &limits->unpaid_runs) &&
           number_of(PySequence_Fast_GET_ITEM(object, 1), &limits->refuse_above) &&
           number_of(PySequence_Fast_GET_ITEM(object, 2), &limits->busy);
}

// Any integer, an IntEnum's too.
inline bool integer_of(PyObject *object, uint64_t *value) {
    *value = PyLong_Check(object) ? PyLong_AsUnsignedLongLong(object) : ~0ull;
    bool found = !PyErr_Occurred() && PyLong_Check(object);
    PyErr_Clear();
    return found;
}

// (state, balance, unpaid, opened, surcharged, charged)
inline PyObject *fields_of(const powfast_account &account) {
    PyObject *state = PyTuple_New(1 + POWFAST_BETS);
    for (Py_ssize_t i = 0; state && i <= POWFAST_BETS; i++)
        PyTuple_SET_ITEM(state, i, PyFloat_FromDouble(account.state[i]));
    return Py_BuildValue("NddNdd", state, account.balance, account.unpaid,
                         PyBool_FromLong(account.opened != 0), account.surcharged,
                         account.charged);
}

inline powfast_account reset_record(double now) {
    powfast_account account{};
    account.state[0] = account.opened = 1;
    account.charged = account.since = now;
    return account;
}

// Of a pool that nothing unusual has happened to.
inline powfast_account reset_pool(double now) {
    powfast_account pool{};
    pool.charged = pool.since = now;
    return pool;
}

#endif
