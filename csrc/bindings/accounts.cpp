// Accounts of one process, and what they were charged lately: what powfast/ledger/memory.py keeps,
// each operation whole under the GIL, and no object of Python's for an account or a request.
#include <algorithm>
#include <array>
#include <list>
#include <unordered_map>
#include <utility>

#include "kernel.h"
#include "objects.h"

namespace {

// Stands for an account in its group, or for one of its requests, however long their names are:
// the first 192 bits of their SHA-256, so that nobody finds two that are the same.
using Id = std::array<uint8_t, 24>;

struct HashOfId {
    size_t operator()(const Id &id) const {
        size_t hash;
        std::memcpy(&hash, id.data(), sizeof hash);
        return hash;
    }
};

// As in powfast/ledger/base.py.
struct Page {
    std::string state;
    double carry, charged;
};

class Accounts {
  public:
    explicit Accounts(size_t most) : most_(most) {}

    // Null: never charged, or forgotten.
    const Page *find(const Id &id) const {
        auto found = by_id_.find(id);
        return found == by_id_.end() ? nullptr : &found->second->second;
    }

    // Beyond `most` accounts, forget the one that was written least recently.
    void write(const Id &id, Page page) {
        auto found = by_id_.find(id);
        if (found != by_id_.end()) {
            found->second->second = std::move(page);
            queue_.splice(queue_.end(), queue_, found->second);
            return;
        }
        queue_.emplace_back(id, std::move(page));
        by_id_.emplace(id, std::prev(queue_.end()));
        if (queue_.size() > most_) {
            by_id_.erase(queue_.front().first);
            queue_.pop_front();
        }
    }

  private:
    using Queue = std::list<std::pair<Id, Page>>;

    size_t most_;
    Queue queue_; // the one that was written last is last
    std::unordered_map<Id, Queue::iterator, HashOfId> by_id_;
};

// Prices of recent requests: two generations, of which the older one is dropped whole.
class Recent {
  public:
    Recent(double remember, double now) : remember_(remember), turned_(now) {}

    const uint64_t *find(const Id &id, double now) {
        if (now - turned_ >= remember_)
            turn(now - turned_);
        for (const Prices *generation : {&new_, &old_}) {
            auto found = generation->find(id);
            if (found != generation->end())
                return &found->second;
        }
        return nullptr;
    }

    void note(const Id &id, uint64_t work) { new_.insert_or_assign(id, work); }

  private:
    using Prices = std::unordered_map<Id, uint64_t, HashOfId>;

    void turn(double elapsed) {
        old_ = elapsed < 2 * remember_ ? std::move(new_) : Prices();
        new_ = Prices();
        turned_ += elapsed;
    }

    double remember_, turned_;
    Prices new_, old_;
};

struct Books {
    const powfast_kernel *kernel;
    Accounts accounts;
    Recent recent;
};

Books &books_of(PyObject *self) {
    return *static_cast<Books *>(PyCapsule_GetPointer(self, "books"));
}

// The id of an account in its group; with a third field, that of one of its requests.
bool read_id(Id *id, const Books &books, PyObject *const *args, size_t count) {
    powfast_field fields[3];
    if (!utf8_of(args[0], &fields[0]) || !utf8_of(args[1], &fields[1]) ||
        (count > 2 && !bytes_of(args[2], &fields[2])))
        return false;
    std::string block;
    for (size_t i = 0; i < count; i++)
        append(&block, fields[i]);
    uint8_t digest[32];
    powfast_sha256(digest, books.kernel, reinterpret_cast<const uint8_t *>(block.data()),
                   block.size());
    std::copy_n(digest, id->size(), id->begin());
    return true;
}

// page(account, group) -> (state, carry, charged), None where there is no such account
PyObject *page(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    Id id;
    if (count != 2 || !read_id(&id, books, args, 2))
        return misused("page(account, group)");
    const Page *found = books.accounts.find(id);
    if (!found)
        Py_RETURN_NONE;
    PyObject *state =
        PyBytes_FromStringAndSize(found->state.data(), (Py_ssize_t)found->state.size());
    return state ? Py_BuildValue("Ndd", state, found->carry, found->charged) : nullptr;
}

// write(account, group, (state, carry, charged))
PyObject *write(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    Id id;
    powfast_field state;
    double carry, charged;
    if (count != 3 || !read_id(&id, books, args, 2) || !has_items(args[2], 3) ||
        !bytes_of(PySequence_Fast_GET_ITEM(args[2], 0), &state) ||
        !number_of(PySequence_Fast_GET_ITEM(args[2], 1), &carry) ||
        !number_of(PySequence_Fast_GET_ITEM(args[2], 2), &charged))
        return misused("write(account, group, (state, carry, charged))");
    std::string kept(reinterpret_cast<const char *>(state.bytes), state.length);
    books.accounts.write(id, {std::move(kept), carry, charged});
    Py_RETURN_NONE;
}

// price(account, group, request, now) -> what it was charged lately, None where it was not
PyObject *price(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    Id id;
    double now;
    if (count != 4 || !read_id(&id, books, args, 3) || !number_of(args[3], &now))
        return misused("price(account, group, request, now)");
    const uint64_t *work = books.recent.find(id, now);
    if (!work)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(*work);
}

// note(account, group, request, work)
PyObject *note(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    Id id;
    uint64_t work;
    if (count != 4 || !read_id(&id, books, args, 3) || !integers_of(&args[3], &work, 1))
        return misused("note(account, group, request, work)");
    books.recent.note(id, work);
    Py_RETURN_NONE;
}

// The operations over books of their own.
py::tuple books(const Kernel &kernel, size_t max_accounts, double remember, double now) {
    auto *made = new Books{kernel.get(), Accounts(max_accounts), Recent(remember, now)};
    py::capsule self(made, "books", [](PyObject *capsule) { delete &books_of(capsule); });
    return py::make_tuple(bare<page>("page", self), bare<write>("write", self),
                          bare<price>("price", self), bare<note>("note", self));
}

} // namespace

void define_accounts(py::module_ &module) { module.def("books", &books); }
