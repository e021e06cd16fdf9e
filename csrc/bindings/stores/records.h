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
    offsetof(powfast_account, sketch) / sizeof(double);

template <typename Record> constexpr size_t kBytes = sizeof(Record);
template <>
inline constexpr size_t kBytes<powfast_account> = kDoubles<powfast_account> * sizeof(double);

// The order of a number's bytes: its own where numbers are little-endian, reversed elsewhere.
template <typename Number = double> void copy_number(uint8_t *to, const uint8_t *from) {
    const uint16_t one = 1;
    bool little = *reinterpret_cast<const uint8_t *>(&one) == 1;
    for (size_t i = 0; i < sizeof(Number); i++)
        to[i] = from[little ? i : sizeof(Number) - 1 - i];
}

inline void copy_doubles(uint8_t *to, const uint8_t *from, size_t count) {
    for (size_t i = 0; i < count * sizeof(double); i += sizeof(double))
        copy_number(to + i, from + i);
}

template <typename Record> void copy_record(uint8_t *to, const uint8_t *from) {
    constexpr size_t doubles = kDoubles<Record> * sizeof(double);
    copy_doubles(to, from, kDoubles<Record>);
    std::memcpy(to + doubles, from + doubles, kBytes<Record> - doubles);
}

template <typename Record> PyObject *packed(const Record &record) {
    uint8_t bytes[kBytes<Record>];
    copy_record<Record>(bytes, reinterpret_cast<const uint8_t *>(&record));
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(bytes), sizeof bytes);
}

// Doubles as floats, and back.

inline void pack_floats(uint8_t *to, const double *from, size_t count) {
    for (size_t i = 0; i < count; i++) {
        auto rounded = (float)from[i];
        copy_number<float>(to + i * sizeof rounded, reinterpret_cast<const uint8_t *>(&rounded));
    }
}

inline void unpack_floats(double *to, const uint8_t *from, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float value;
        copy_number<float>(reinterpret_cast<uint8_t *>(&value), from + i * sizeof value);
        to[i] = value;
    }
}

// A sketch as bytes: its doubles and version, then as many sums and fixed ones as it has, floats.

constexpr size_t kSketchDoubles = offsetof(powfast_sketch, version) / sizeof(double);
constexpr size_t kSketchHead = offsetof(powfast_sketch, sums);

inline size_t packed_bytes(const powfast_sketch *sketch) {
    return sketch && sketch->length > 0 ? kSketchHead + 2 * (size_t)sketch->length * sizeof(float)
                                        : 0;
}

inline void pack_sketch(uint8_t *to, const powfast_sketch &sketch) {
    auto count = (size_t)sketch.length;
    auto *from = reinterpret_cast<const uint8_t *>(&sketch);
    copy_doubles(to, from, kSketchDoubles);
    std::memcpy(to + kSketchDoubles * sizeof(double), sketch.version, sizeof sketch.version);
    pack_floats(to + kSketchHead, sketch.sums, count);
    pack_floats(to + kSketchHead + count * sizeof(float), sketch.fixed, count);
}

// Of no bytes it is one that holds nothing; false: they are no sketch.
inline bool unpack_sketch(const uint8_t *from, size_t length, powfast_sketch *sketch) {
    auto *to = reinterpret_cast<uint8_t *>(sketch);
    std::memset(to, 0, kSketchHead);
    if (length == 0)
        return true;
    size_t count = length < kSketchHead ? 0 : (length - kSketchHead) / (2 * sizeof(float));
    if (count == 0 || count > POWFAST_SKETCH_NUMBERS)
        return false;
    copy_doubles(to, from, kSketchDoubles);
    std::memcpy(sketch->version, from + kSketchDoubles * sizeof(double), sizeof sketch->version);
    unpack_floats(sketch->sums, from + kSketchHead, count);
    unpack_floats(sketch->fixed, from + kSketchHead + count * sizeof(float), count);
    return sketch->length == (double)count && packed_bytes(sketch) == length;
}

inline PyObject *packed_sketch(const powfast_sketch *sketch) {
    size_t length = packed_bytes(sketch);
    PyObject *bytes = length ? PyBytes_FromStringAndSize(nullptr, (Py_ssize_t)length) : Py_None;
    if (!length)
        Py_INCREF(Py_None);
    else if (bytes)
        pack_sketch(reinterpret_cast<uint8_t *>(PyBytes_AS_STRING(bytes)), *sketch);
    return bytes;
}

// What a request adds to a sketch: (evidence, sums and fixed, version), each as bytes, or None.
class Advance {
  public:
    // For a request of so many queries; false: it is none.
    bool read(PyObject *object, size_t queries) {
        powfast_field evidence, vectors, version;
        if (object == Py_None)
            return true;
        if (!has_items(object, 3) || !bytes_of(PySequence_Fast_GET_ITEM(object, 0), &evidence) ||
            !bytes_of(PySequence_Fast_GET_ITEM(object, 1), &vectors) ||
            !bytes_of(PySequence_Fast_GET_ITEM(object, 2), &version) ||
            evidence.length != queries * sizeof(double) ||
            vectors.length % (2 * sizeof(double)) != 0 || version.length != sizeof advance_.version)
            return false;
        size_t length = vectors.length / sizeof(double) / 2;
        numbers_.resize(queries + 2 * length);
        auto *to = reinterpret_cast<uint8_t *>(numbers_.data());
        copy_doubles(to, evidence.bytes, queries);
        copy_doubles(to + evidence.length, vectors.bytes, 2 * length);
        const double *sums = numbers_.data() + queries;
        advance_ = {numbers_.data(), sums, sums + length, length, {}};
        std::memcpy(advance_.version, version.bytes, sizeof advance_.version);
        is_given_ = true;
        return true;
    }

    const powfast_advance *get() const { return is_given_ ? &advance_ : nullptr; }

  private:
    bool is_given_ = false;
    std::vector<double> numbers_;
    powfast_advance advance_{};
};

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

inline bool is_whole(const powfast_sketch &sketch, const powfast_tariff *tariff) {
    const double *second = sketch.second;
    bool whole = second[0] == std::floor(second[0]);
    for (int i = 0; i <= POWFAST_BETS; i++)
        whole = whole && second[i] >= 0 && second[i] <= tariff->wealth_cap;
    for (size_t i = 0; i < (size_t)sketch.length; i++)
        whole = whole && std::isfinite(sketch.sums[i]) && std::isfinite(sketch.fixed[i]);
    return whole && second[1 + POWFAST_BETS] >= 0 && second[1 + POWFAST_BETS] <= 1;
}

inline bool damaged() {
    PyErr_SetString(PyExc_ValueError, "a record is damaged");
    return false;
}

// Zeros for None; false, with a ValueError, for what is no record.
template <typename Record>
bool unpack(PyObject *object, Record *record, const powfast_tariff *tariff) {
    powfast_field field;
    *record = Record{};
    if (object == Py_None)
        return true;
    if (!bytes_of(object, &field) || field.length != kBytes<Record>)
        return damaged();
    copy_record<Record>(reinterpret_cast<uint8_t *>(record), field.bytes);
    return is_whole(*record, tariff) || damaged();
}

// An account's record, which its sketch follows. A tariff without account evidence drops that.
inline bool unpack_account(PyObject *object, powfast_account *account, powfast_sketch *sketch,
                           const powfast_tariff *tariff) {
    powfast_field field{};
    *account = powfast_account{};
    if (object != Py_None && (!bytes_of(object, &field) || field.length < kBytes<powfast_account>))
        return damaged();
    if (object != Py_None)
        copy_record<powfast_account>(reinterpret_cast<uint8_t *>(account), field.bytes);
    size_t head = object == Py_None ? 0 : kBytes<powfast_account>;
    if (!is_whole(*account, tariff) ||
        !unpack_sketch(field.bytes + head, field.length - head, sketch) ||
        !is_whole(*sketch, tariff))
        return damaged();
    account->sketch = tariff->account_evidence ? sketch : nullptr;
    return true;
}

inline PyObject *packed_account(const powfast_account &account) {
    size_t head = kBytes<powfast_account>, more = packed_bytes(account.sketch);
    PyObject *record = PyBytes_FromStringAndSize(nullptr, (Py_ssize_t)(head + more));
    if (!record)
        return nullptr;
    auto *bytes = reinterpret_cast<uint8_t *>(PyBytes_AS_STRING(record));
    copy_record<powfast_account>(bytes, reinterpret_cast<const uint8_t *>(&account));
    if (more)
        pack_sketch(bytes + head, *account.sketch);
    return record;
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

// What is towards an opening in the price of a run that is charged for that evidence, and not paid.
inline double unpaid_surcharge(const powfast_request &request, const uint8_t *run,
                               const uint8_t *tag) {
    bool is_its = std::memcmp(request.run, run, kRunBytes) == 0 &&
                  std::memcmp(request.tag, tag, sizeof request.tag) == 0;
    return request.phase == POWFAST_DUE && is_its ? request.surcharged : 0;
}

// What a newcomer pays in base prices; 0 where its pool has as many queries as before.
inline double price_after(const powfast_account &pool, double queries,
                          const powfast_tariff *tariff) {
    return pool.state[0] == queries ? 0 : powfast_newcomers_price(pool.state, tariff);
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

// (state, balance, unpaid, opened, surcharged, charged, sketch as bytes or None)
inline PyObject *fields_of(const powfast_account &account) {
    constexpr Py_ssize_t first = 1 + POWFAST_BETS, both = first + 2 + POWFAST_BETS;
    bool has_sketch = packed_bytes(account.sketch) > 0;
    PyObject *state = PyTuple_New(has_sketch ? both : first);
    for (Py_ssize_t i = 0; state && i < PyTuple_GET_SIZE(state); i++)
        PyTuple_SET_ITEM(state, i,
                         PyFloat_FromDouble(i < first ? account.state[i]
                                                      : account.sketch->second[i - first]));
    return Py_BuildValue("NddNddN", state, account.balance, account.unpaid,
                         PyBool_FromLong(account.opened != 0), account.surcharged,
                         account.charged, packed_sketch(account.sketch));
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
