// Accounts of one process, and what they were charged lately: what powfast/stores/memory.py keeps,
// each operation whole under the GIL, and no object of Python's for an account or a request.
#include <list>
#include <utility>

#include "kernel.h"
#include "table.h"

namespace {

// As in powfast/stores/base.py.
struct Page {
    std::string state;
    double carry, charged;
};

class Accounts {
  public:
    explicit Accounts(size_t most) : most_(most) {}

    // Null: never charged, or forgotten.
    const Page *find(const Id &id) {
        Queue::iterator *found = by_id_.find(id);
        return found ? &(*found)->second : nullptr;
    }

    // Beyond `most` accounts, forget the one that was written least recently.
    void write(const Id &id, Page page) {
        if (Queue::iterator *found = by_id_.find(id)) {
            (*found)->second = std::move(page);
            queue_.splice(queue_.end(), queue_, *found);
            return;
        }
        queue_.emplace_back(id, std::move(page));
        by_id_[id] = std::prev(queue_.end());
        if (queue_.size() > most_) {
            by_id_.erase(queue_.front().first);
            queue_.pop_front();
        }
    }

  private:
    using Queue = std::list<std::pair<Id, Page>>;

    size_t most_;
    Queue queue_; // the one that was written last is last
    Table<Queue::iterator> by_id_;
};

// Prices of recent requests: two generations, of which the older one is dropped whole.
class Recent {
  public:
    Recent(double remember, double now) : remember_(remember), turned_(now) {}

    const uint64_t *find(const Id &id, double now) {
        if (now - turned_ >= remember_)
            turn(now - turned_);
        const uint64_t *found = new_.find(id);
        return found ? found : old_.find(id);
    }

    void note(const Id &id, uint64_t work) { new_[id] = work; }

  private:
    using Prices = Table<uint64_t>;

    void turn(double elapsed) {
        bool follows = elapsed < 2 * remember_;
        Prices next(follows ? new_.size() : 0); // first, for there may be no memory for it
        old_ = follows ? std::move(new_) : Prices();
        new_ = std::move(next);
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

// An account's name and its group's.
bool read_whose(powfast_field *names, PyObject *const *args) {
    return utf8_of(args[0], &names[0]) && utf8_of(args[1], &names[1]);
}

bool read_page(Page *page, PyObject *object) {
    powfast_field state;
    if (!has_items(object, 3) || !bytes_of(PySequence_Fast_GET_ITEM(object, 0), &state) ||
        !number_of(PySequence_Fast_GET_ITEM(object, 1), &page->carry) ||
        !number_of(PySequence_Fast_GET_ITEM(object, 2), &page->charged))
        return false;
    page->state.assign(reinterpret_cast<const char *>(state.bytes), state.length);
    return true;
}

// find(account, group) -> (state, carry, charged), None where there is no such account
// find(account, group, request, now) -> the price, an integer, of a request that was charged
// lately, else the same
PyObject *find(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    powfast_field names[3];
    double now;
    if ((count != 2 && count != 4) || !read_whose(names, args) ||
        (count == 4 && !(bytes_of(args[2], &names[2]) && number_of(args[3], &now))))
        return misused("find(account, group, request, now), or without the latter two");
    if (count == 4) {
        const uint64_t *work = books.recent.find(id_of(books.kernel, names, 3), now);
        if (work)
            return PyLong_FromUnsignedLongLong(*work);
    }
    const Page *page = books.accounts.find(id_of(books.kernel, names, 2));
    if (!page)
        Py_RETURN_NONE;
    auto length = (Py_ssize_t)page->state.size();
    PyObject *state = PyBytes_FromStringAndSize(page->state.data(), length);
    return state ? Py_BuildValue("Ndd", state, page->carry, page->charged) : nullptr;
}

// write(account, group, (state, carry, charged))
// write(account, group, (state, carry, charged), request, work): after a charge
PyObject *write(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Books &books = books_of(self);
    powfast_field names[3];
    Page page;
    uint64_t work;
    if ((count != 3 && count != 5) || !read_whose(names, args) || !read_page(&page, args[2]) ||
        (count == 5 && !(bytes_of(args[3], &names[2]) && integers_of(&args[4], &work, 1))))
        return misused("write(account, group, page, request, work), or without the latter two");
    books.accounts.write(id_of(books.kernel, names, 2), std::move(page));
    if (count == 5)
        books.recent.note(id_of(books.kernel, names, 3), work);
    Py_RETURN_NONE;
}

// The operations over books of their own.
py::tuple books(const Kernel &kernel, size_t max_accounts, double remember, double now) {
    auto *made = new Books{kernel.get(), Accounts(max_accounts), Recent(remember, now)};
    py::capsule self(made, "books", [](PyObject *capsule) { delete &books_of(capsule); });
    return py::make_tuple(bare<find>("find", self), bare<write>("write", self));
}

} // namespace

void define_accounts(py::module_ &module) { module.def("books", &books); }
