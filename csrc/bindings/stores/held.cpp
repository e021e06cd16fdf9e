// Answers that wait for their payment: what powfast/stores/held.py keeps, each operation whole under the
// GIL. Small answers are kept as bytes of our own: blocks of Python's that live for long scatter
// those that do not over colder and colder memory.
#include <list>
#include <utility>

#include "kernel.h"
#include "table.h"

namespace {

// What Python keeps: (status, headers, body), or None.
class Answer {
  public:
    Answer() = default;

    explicit Answer(PyObject *answer) {
        if (!pack(answer)) {
            packed_.clear();
            whole_ = py::reinterpret_borrow<py::object>(answer);
        }
    }

    py::object take() { return packed_.empty() ? std::move(whole_) : unpack(); }

  private:
    static constexpr size_t kSmall = 4096;

    // Status, body, and the names and values of the headers; false where it is large or odd.
    bool pack(PyObject *answer) {
        uint64_t status;
        packed_.reserve(512);
        if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 3 ||
            !integers_of(&PyTuple_GET_ITEM(answer, 0), &status, 1) ||
            !append_bytes({reinterpret_cast<const uint8_t *>(&status), sizeof status}) ||
            !append_bytes(PyTuple_GET_ITEM(answer, 2)))
            return false;
        PyObject *headers = PyTuple_GET_ITEM(answer, 1);
        if (!PyTuple_Check(headers))
            return false;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(headers); i++) {
            PyObject *header = PyTuple_GET_ITEM(headers, i);
            if (!has_items(header, 2) || !append_bytes(PySequence_Fast_GET_ITEM(header, 0)) ||
                !append_bytes(PySequence_Fast_GET_ITEM(header, 1)))
                return false;
        }
        packed_.shrink_to_fit();
        return true;
    }

    bool append_bytes(PyObject *object) {
        powfast_field field;
        return bytes_of(object, &field) && append_bytes(field);
    }

    bool append_bytes(powfast_field field) {
        if (field.length > kSmall)
            return false;
        append(&packed_, field);
        return packed_.size() <= kSmall;
    }

    py::object unpack() const {
        const char *at = packed_.data(), *end = at + packed_.size();
        uint64_t status;
        std::memcpy(&status, next_field(&at).bytes, sizeof status);
        py::bytes body = raw(next_field(&at));
        py::list headers;
        while (at < end) {
            py::bytes name = raw(next_field(&at));
            headers.append(py::make_tuple(name, raw(next_field(&at))));
        }
        return py::make_tuple(status, py::tuple(headers), body);
    }

    std::string packed_;
    py::object whole_ = py::none();
};

struct Usage {
    size_t places, bytes;
};

// A request's: taken before its model runs, filled with its price and the answer.
struct Place {
    Id id, account;
    double expires;
    uint64_t work = 0; // 0: not known yet
    size_t size = 0;
    Answer answer{};
};

struct Limits {
    size_t per_account, in_all, account_bytes, all_bytes;
};

enum class Limit { none, account, all };

class Places {
  public:
    explicit Places(const Limits &limits) : limits_(limits) {}

    size_t count() const { return queue_.size(); }
    size_t bytes() const { return bytes_; }

    // Of those that ended since the last call, how many had a price.
    size_t abandoned() { return std::exchange(abandoned_, 0); }

    // Give up the places that have ended.
    void expire(double now) {
        while (!queue_.empty() && queue_.front().expires <= now) {
            abandoned_ += queue_.front().work != 0;
            drop(queue_.begin());
        }
    }

    // Take a place, or have it for longer. *work, its price, stays as it is beyond a limit.
    Limit reserve(uint64_t *work, const Id &id, const Id &account, double expires) {
        if (Queue::iterator *found = places_.find(id)) {
            Queue::iterator place = *found;
            queue_.splice(queue_.end(), queue_, place);
            place->expires = expires;
            *work = place->work;
            return Limit::none;
        }
        const Usage *usage = accounts_.find(account);
        if (usage && usage->places >= limits_.per_account)
            return Limit::account;
        if (queue_.size() >= limits_.in_all)
            return Limit::all;
        accounts_[account].places++;
        queue_.push_back({id, account, expires});
        places_[id] = std::prev(queue_.end());
        *work = 0;
        return Limit::none;
    }

    // Keep the price of a place, and its answer where there is room for it.
    void fill(const Id &id, uint64_t work, Answer answer, size_t size) {
        Queue::iterator *found = places_.find(id);
        if (!found)
            return;
        Place &place = **found;
        size_t &of_account = accounts_[place.account].bytes;
        of_account -= place.size, bytes_ -= place.size;
        if (size > limits_.account_bytes - of_account || size > limits_.all_bytes - bytes_)
            answer = Answer(), size = 0;
        of_account += size, bytes_ += size;
        place.work = work, place.size = size;
        std::swap(place.answer, answer); // the old one goes last: it may run Python
    }

    // Give a place back; its answer is None where none was kept.
    py::object release(const Id &id) {
        Queue::iterator *found = places_.find(id);
        return found ? drop(*found).take() : py::none();
    }

  private:
    using Queue = std::list<Place>;

    Answer drop(Queue::iterator place) {
        Answer answer = std::move(place->answer);
        Usage &usage = *accounts_.find(place->account);
        usage.bytes -= place->size, bytes_ -= place->size;
        if (--usage.places == 0)
            accounts_.erase(place->account);
        places_.erase(place->id);
        queue_.erase(place);
        return answer;
    }

    Limits limits_;
    Queue queue_; // the one that ends next is first
    Table<Queue::iterator> places_;
    Table<Usage> accounts_;
    size_t bytes_ = 0, abandoned_ = 0;
};

struct Store {
    const powfast_kernel *kernel;
    Places places;
};

Store &store_of(PyObject *self) {
    return *static_cast<Store *>(PyCapsule_GetPointer(self, "held"));
}

// The id of a request by its account and digest; the account's as well, where that is wanted.
bool read_ids(Id *id, Id *account, const Store &store, PyObject *const *args) {
    powfast_field names[2];
    if (!utf8_of(args[0], &names[0]) || !bytes_of(args[1], &names[1]))
        return false;
    *id = id_of(store.kernel, names, 2);
    if (account)
        *account = id_of(store.kernel, names, 1);
    return true;
}

// reserve(account, digest, now, expires) -> the price, 0 where it is not known yet; as text, the
// limit that it would pass.
PyObject *reserve(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Store &store = store_of(self);
    Id id, account;
    double now, expires;
    if (count != 4 || !read_ids(&id, &account, store, args) || !number_of(args[2], &now) ||
        !number_of(args[3], &expires))
        return misused("reserve(account, digest, now, expires)");
    store.places.expire(now);
    uint64_t work;
    switch (store.places.reserve(&work, id, account, expires)) {
    case Limit::account:
        return PyUnicode_FromString("account");
    case Limit::all:
        return PyUnicode_FromString("all");
    default:
        return PyLong_FromUnsignedLongLong(work);
    }
}

// fill(account, digest, now, work, answer, size)
PyObject *fill(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Store &store = store_of(self);
    Id id;
    double now;
    uint64_t work, size;
    if (count != 6 || !read_ids(&id, nullptr, store, args) || !number_of(args[2], &now) ||
        !integers_of(&args[3], &work, 1) || !integers_of(&args[5], &size, 1))
        return misused("fill(account, digest, now, work, answer, size)");
    store.places.expire(now);
    store.places.fill(id, work, Answer(args[4]), size);
    Py_RETURN_NONE;
}

// release(account, digest, now) -> the answer
PyObject *release(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Store &store = store_of(self);
    Id id;
    double now;
    if (count != 3 || !read_ids(&id, nullptr, store, args) || !number_of(args[2], &now))
        return misused("release(account, digest, now)");
    store.places.expire(now);
    return store.places.release(id).release().ptr();
}

// usage(now) -> places, bytes, and how many with a price have ended since the last call
PyObject *usage(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    double now;
    if (count != 1 || !number_of(args[0], &now))
        return misused("usage(now)");
    Places &places = store_of(self).places;
    places.expire(now);
    return Py_BuildValue("nnn", (Py_ssize_t)places.count(), (Py_ssize_t)places.bytes(),
                         (Py_ssize_t)places.abandoned());
}

// The operations over a store of their own.
py::tuple held(const Kernel &kernel, size_t per_account, size_t in_all, size_t account_bytes,
               size_t all_bytes) {
    Limits limits{per_account, in_all, account_bytes, all_bytes};
    py::capsule self(new Store{kernel.get(), Places(limits)}, "held",
                     [](PyObject *capsule) { delete &store_of(capsule); });
    return py::make_tuple(bare<reserve>("reserve", self), bare<fill>("fill", self),
                          bare<release>("release", self), bare<usage>("usage", self));
}

} // namespace

void define_held(py::module_ &module) { module.def("held", &held); }
