// powfast._native: the C library as Python objects. No logic of its own: it checks shapes,
// releases the GIL, and hands over.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "kernel.h"
#include "objects.h"
#include "scratch.h"

void define_memory_ledger(py::module_ &module); // stores/memory.cpp
void define_held(py::module_ &module);          // stores/held.cpp
void define_prices(py::module_ &module);        // prices.cpp
void define_solver(py::module_ &module);        // solver.cpp
void define_text(py::module_ &module);          // text.cpp

namespace {

// Rows of name, supported, passes its self-test; best first.
py::list kernels() {
    py::list rows;
    for (size_t i = 0; i < powfast_kernel_count(); i++) {
        const powfast_kernel *kernel = powfast_kernel_at(i);
        bool supported = powfast_kernel_supported(kernel, powfast_cpu_features());
        bool trusted = supported && powfast_kernel_selftest(kernel) == POWFAST_OK;
        rows.append(py::make_tuple(powfast_kernel_name(kernel), supported, trusted));
    }
    return rows;
}

// The kernel chosen by the environment or by rank, None with the reason's status where there is
// none, and those ranked above it that this CPU has: passed over, for they gave wrong answers.
py::tuple select_kernel() {
    const powfast_kernel *kernel;
    uint32_t features = powfast_cpu_features();
    int status = powfast_kernel_select(&kernel, nullptr, features);
    py::list above;
    for (size_t i = 0; kernel && powfast_kernel_at(i) != kernel; i++)
        if (powfast_kernel_supported(powfast_kernel_at(i), features))
            above.append(powfast_kernel_name(powfast_kernel_at(i)));
    return py::make_tuple(kernel ? py::cast(powfast_kernel_name(kernel)) : py::none(), status,
                          above);
}

// powfast_verify_batch, or that of walks.
void verify_each(uint8_t *ok, const powfast_kernel *kernel, const uint8_t *seeds,
                 const uint64_t *works, const uint64_t *nonces, size_t count, uint32_t parts,
                 int algorithm) {
    if (algorithm == POWFAST_ALGORITHM_CACHEWALK)
        powfast_walk_verify_batch(ok, Scratch().words(), kernel, seeds, works, nonces, count,
                                  parts);
    else
        powfast_verify_batch(ok, kernel, seeds, works, nonces, count, parts);
}

// seeds (n, 32) uint8, works (n,) uint64, nonces (n, parts) uint64 -> (n,) bool
py::array_t<bool> verify_batch(const Kernel &kernel, const Array<uint8_t> &seeds,
                               const Array<uint64_t> &works, const Array<uint64_t> &nonces,
                               int algorithm) {
    if (seeds.ndim() != 2 || works.ndim() != 1 || nonces.ndim() != 2 || seeds.shape(1) != 32 ||
        seeds.shape(0) != works.shape(0) || nonces.shape(0) != works.shape(0) ||
        nonces.shape(1) < 1 || nonces.shape(1) > POWFAST_MAX_PARTS)
        throw std::invalid_argument("shapes must be (n, 32), (n,) and (n, parts)");
    py::array_t<bool> ok(works.shape(0));
    auto *out = reinterpret_cast<uint8_t *>(ok.mutable_data());
    auto count = (size_t)works.shape(0);
    auto parts = (uint32_t)nonces.shape(1);
    py::gil_scoped_release release;
    verify_each(out, kernel.get(), seeds.data(), works.data(), nonces.data(), count, parts,
                algorithm);
    return ok;
}

// The same with a list of tuples for nonces. What is no tuple of `parts` nonces is not solved.
py::array_t<bool> verify_tuples(const Kernel &kernel, const Array<uint8_t> &seeds,
                                const Array<uint64_t> &works, const py::list &solutions,
                                uint32_t parts, int algorithm) {
    auto count = (py::ssize_t)solutions.size();
    if (parts < 1 || parts > POWFAST_MAX_PARTS || works.ndim() != 1 || works.shape(0) != count)
        throw std::invalid_argument("shapes must be (n, 32), (n,) and (n, parts)");
    Array<uint64_t> nonces({count, (py::ssize_t)parts});
    Array<uint64_t> asked(count, works.data());
    for (py::ssize_t i = 0; i < count; i++)
        if (!nonces_of(PyList_GET_ITEM(solutions.ptr(), i), nonces.mutable_data(i), parts))
            asked.mutable_at(i) = 0; // which nothing solves
    return verify_batch(kernel, seeds, asked, nonces, algorithm);
}

// Whether the walks of this kernel are right here.
bool walk_selftest(const Kernel &kernel) {
    return powfast_walk_selftest(Scratch().words(), kernel.get()) == POWFAST_OK;
}

// verify(seed, work, parts, solution) -> bool, as a bare C function: pybind11's casting of the
// arguments would take longer than the hash. `self` is a capsule of the kernel.
PyObject *verify_one(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    auto *kernel =
        static_cast<const powfast_kernel *>(PyCapsule_GetPointer(self, "powfast_kernel"));
    powfast_puzzle puzzle{};
    powfast_field seed;
    uint64_t nonces[POWFAST_MAX_PARTS];
    if (!kernel || count != 4 || !bytes_of(args[0], &seed) || seed.length != sizeof puzzle.seed)
        return misused("verify(seed, work, parts, solution)");
    puzzle.work = PyLong_AsUnsignedLongLong(args[1]);
    puzzle.parts = (uint32_t)PyLong_AsUnsignedLong(args[2]);
    if (PyErr_Occurred())
        return nullptr;
    std::copy(seed.bytes, seed.bytes + seed.length, puzzle.seed);
    bool solved = powfast_puzzle_check(&puzzle) == POWFAST_OK &&
                  nonces_of(args[3], nonces, puzzle.parts) &&
                  powfast_verify(kernel, &puzzle, nonces) == POWFAST_OK;
    return PyBool_FromLong(solved);
}

py::object verifier(const Kernel &kernel) {
    return bare<verify_one>("verify", py::capsule(kernel.get(), "powfast_kernel"));
}

// sha256(bytes) -> bytes, bare as verify_one.
PyObject *hash_one(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    auto *kernel =
        static_cast<const powfast_kernel *>(PyCapsule_GetPointer(self, "powfast_kernel"));
    powfast_field message;
    uint8_t digest[32];
    if (!kernel || count != 1 || !bytes_of(args[0], &message))
        return misused("sha256(bytes)");
    powfast_sha256(digest, kernel, message.bytes, message.length);
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(digest), sizeof digest);
}

py::object hasher(const Kernel &kernel) {
    return bare<hash_one>("sha256", py::capsule(kernel.get(), "powfast_kernel"));
}

// sha256_of_fields(bytes, ...) -> the hash over each after its length (u64, big-endian); None where
// they are long: other libraries are as fast then, and give the GIL back.
PyObject *hash_fields(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    auto *kernel =
        static_cast<const powfast_kernel *>(PyCapsule_GetPointer(self, "powfast_kernel"));
    uint8_t message[2048], digest[32], *at = message;
    for (Py_ssize_t i = 0; i < count; i++) {
        powfast_field field;
        if (!kernel || !bytes_of(args[i], &field))
            return misused("sha256_of_fields(bytes, ...)");
        auto room = (size_t)(message + sizeof message - at);
        if (room < 8 || room - 8 < field.length)
            Py_RETURN_NONE;
        for (int shift = 56; shift >= 0; shift -= 8)
            *at++ = (uint8_t)((uint64_t)field.length >> shift);
        at = std::copy(field.bytes, field.bytes + field.length, at);
    }
    powfast_sha256(digest, kernel, message, (size_t)(at - message));
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(digest), sizeof digest);
}

py::object field_hasher(const Kernel &kernel) {
    return bare<hash_fields>("sha256_of_fields", py::capsule(kernel.get(), "powfast_kernel"));
}

py::str text(powfast_field field) {
    return {reinterpret_cast<const char *>(field.bytes), field.length};
}

double seconds(uint64_t milliseconds) { return (double)milliseconds / 1000; }

// id, key id, work, parts, account, group, request, issued, expires, algorithm
py::tuple fields_of(const powfast_challenge &c) {
    powfast_field id{c.id, sizeof c.id};
    return py::make_tuple(raw(id), text(c.key_id), c.puzzle.work, c.puzzle.parts, text(c.account),
                          text(c.group), raw(c.request), seconds(c.issued), seconds(c.expires),
                          (int)c.algorithm);
}

// Solved or not, by the challenge's algorithm. Walks take long enough to let others have the GIL.
int verify_challenge(const powfast_kernel *kernel, const powfast_challenge &challenge,
                     const uint64_t *nonces) {
    if (challenge.algorithm != POWFAST_ALGORITHM_CACHEWALK)
        return powfast_verify(kernel, &challenge.puzzle, nonces);
    py::gil_scoped_release release;
    return powfast_walk_verify(Scratch().words(), kernel, &challenge.puzzle, nonces);
}

// A key ring, and the algorithms whose puzzles it takes. Results are a POWFAST_ status, or what was asked for.
class Ring {
  public:
    // keys: (id, secret) pairs, the newest last
    Ring(const Kernel &kernel, const py::list &keys, uint32_t algorithms)
        : kernel_(kernel.get()), algorithms_(algorithms) {
        for (py::handle item : keys) {
            auto pair = py::cast<py::tuple>(item);
            powfast_field id, secret;
            powfast_key key;
            if (!utf8_of(pair[0].ptr(), &id) || !bytes_of(pair[1].ptr(), &secret) ||
                powfast_key_init(&key, kernel_, id.bytes, id.length, secret.bytes,
                                 secret.length) != POWFAST_OK)
                throw std::invalid_argument("a key is a text and at least 32 bytes");
            keys_.push_back(key);
        }
    }

    // Sign with the newest key, into a token of POWFAST_MAX_TOKEN_BYTES.
    int issue(uint8_t *token, size_t *length, const powfast_challenge &challenge) const {
        return powfast_token_issue(token, length, kernel_, &keys_.back(), &challenge);
    }

    // Whether a token holds and its solution is right.
    int check(powfast_challenge *challenge, PyObject *token, PyObject *solution, uint64_t now,
              PyObject *account, PyObject *request) const {
        uint64_t nonces[POWFAST_MAX_PARTS];
        int status = authenticate(read(token, account, request), challenge, now);
        if (status != POWFAST_OK)
            return status;
        if (!nonces_of(solution, nonces, challenge->puzzle.parts))
            return POWFAST_MALFORMED_SOLUTION;
        return verify_challenge(kernel_, *challenge, nonces);
    }

    // Statuses of many (uint8), and (id, expires) of each whose status is 0.
    py::tuple check_many(const py::tuple &tokens, const py::tuple &solutions, uint64_t now,
                         const py::tuple &accounts, const py::tuple &requests) const {
        size_t count = tokens.size();
        if (solutions.size() != count || accounts.size() != count || requests.size() != count)
            throw std::invalid_argument("unequal lengths");
        py::array_t<uint8_t> statuses((py::ssize_t)count);
        uint8_t *status = statuses.mutable_data();
        std::vector<powfast_challenge> challenges(count);
        std::vector<Item> items(count);
        for (size_t i = 0; i < count; i++)
            items[i] = read(PyTuple_GET_ITEM(tokens.ptr(), i), PyTuple_GET_ITEM(accounts.ptr(), i),
                            PyTuple_GET_ITEM(requests.ptr(), i));
        {
            py::gil_scoped_release release;
            for (size_t i = 0; i < count; i++)
                status[i] = (uint8_t)authenticate(items[i], &challenges[i], now);
        }
        std::vector<uint64_t> nonces;
        for (size_t i = 0; i < count; i++) {
            if (status[i] != POWFAST_OK)
                continue;
            size_t first = nonces.size();
            nonces.resize(first + challenges[i].puzzle.parts);
            if (!nonces_of(PyTuple_GET_ITEM(solutions.ptr(), i), &nonces[first],
                           challenges[i].puzzle.parts)) {
                status[i] = POWFAST_MALFORMED_SOLUTION;
                nonces.resize(first);
            }
        }
        {
            py::gil_scoped_release release;
            judge(status, challenges, nonces.data());
        }
        py::list redeemable;
        for (size_t i = 0; i < count; i++)
            if (status[i] == POWFAST_OK)
                redeemable.append(py::make_tuple(raw({challenges[i].id, sizeof challenges[i].id}),
                                                 seconds(challenges[i].expires)));
        return py::make_tuple(statuses, redeemable);
    }

  private:
    // Refuse the wrong solutions among those whose status is 0; their nonces stand one after
    // the other. Neighbours of one kind with as many parts are verified as one batch.
    void judge(uint8_t *status, const std::vector<powfast_challenge> &challenges,
               const uint64_t *nonces) const {
        std::vector<uint8_t> seeds, ok;
        std::vector<uint64_t> works;
        std::vector<size_t> batch;
        uint32_t parts = 0;
        int algorithm = 0;
        auto flush = [&] {
            ok.resize(batch.size());
            verify_each(ok.data(), kernel_, seeds.data(), works.data(), nonces, batch.size(), parts,
                        algorithm);
            for (size_t i = 0; i < batch.size(); i++)
                if (!ok[i])
                    status[batch[i]] = POWFAST_WRONG_SOLUTION;
            nonces += batch.size() * parts;
            seeds.clear(), works.clear(), batch.clear();
        };
        for (size_t i = 0; i < challenges.size(); i++) {
            const powfast_puzzle &puzzle = challenges[i].puzzle;
            if (status[i] != POWFAST_OK)
                continue;
            if (puzzle.parts != parts || challenges[i].algorithm != algorithm) {
                flush();
                parts = puzzle.parts;
                algorithm = challenges[i].algorithm;
            }
            seeds.insert(seeds.end(), puzzle.seed, puzzle.seed + sizeof puzzle.seed);
            works.push_back(puzzle.work);
            batch.push_back(i);
        }
        flush();
    }

    struct Item {
        powfast_field token, account, request;
        int status; // of reading it
    };

    static Item read(PyObject *token, PyObject *account, PyObject *request) {
        Item item{};
        if (!bytes_of(token, &item.token))
            item.status = POWFAST_MALFORMED_TOKEN;
        // What is no account or no digest cannot be the bound one: longer than any field.
        if (!utf8_of(account, &item.account))
            item.account.length = SIZE_MAX;
        if (!bytes_of(request, &item.request))
            item.request.length = SIZE_MAX;
        return item;
    }

    int authenticate(const Item &item, powfast_challenge *challenge, uint64_t now) const {
        if (item.status != POWFAST_OK)
            return item.status;
        return powfast_token_check(challenge, kernel_, keys_.data(), keys_.size(), algorithms_,
                                   item.token.bytes, item.token.length, now, item.account,
                                   item.request);
    }

    const powfast_kernel *kernel_;
    uint32_t algorithms_;
    std::vector<powfast_key> keys_;
};

// A clock that makes no sense is before every token.
uint64_t milliseconds(double seconds) {
    return seconds > 0 && seconds < 1e15 ? (uint64_t)(seconds * 1000) : 0;
}

// issue(id, work, parts, seconds, lifetime in ms, account, group, request, algorithm) -> the token,
// None where work, parts, account, group or request is none: a bare C function as verify_one. Parts that are
// None are as many as usual. `self` is a tuple of a capsule of the ring and the ring.
PyObject *issue_one(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    auto *ring = static_cast<const Ring *>(PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), "ring"));
    powfast_challenge challenge{};
    powfast_field id;
    if (!ring || count != 9 || !bytes_of(args[0], &id) || id.length != sizeof challenge.id)
        return misused("issue(id, work, parts, seconds, lifetime, account, group, request,"
                       " algorithm)");
    std::copy(id.bytes, id.bytes + id.length, challenge.id);
    uint64_t parts = 0;
    if (!integers_of(&args[1], &challenge.puzzle.work, 1) ||
        (args[2] != Py_None && !integers_of(&args[2], &parts, 1)) || parts > POWFAST_MAX_PARTS)
        Py_RETURN_NONE;
    challenge.puzzle.parts = args[2] == Py_None ? powfast_default_parts(challenge.puzzle.work)
                                                : (uint32_t)parts;
    challenge.issued = milliseconds(PyFloat_AsDouble(args[3]));
    challenge.expires = challenge.issued + PyLong_AsUnsignedLongLong(args[4]);
    challenge.algorithm = (uint8_t)PyLong_AsLong(args[8]);
    if (PyErr_Occurred())
        return nullptr;
    uint8_t token[POWFAST_MAX_TOKEN_BYTES];
    size_t length;
    if (!utf8_of(args[5], &challenge.account) || !utf8_of(args[6], &challenge.group) ||
        !bytes_of(args[7], &challenge.request) ||
        ring->issue(token, &length, challenge) != POWFAST_OK)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(token), (Py_ssize_t)length);
}

// check(token, solution, seconds, account, request) -> fields, or the error of the status is
// raised: a bare C function as verify_one, for a C++ exception takes longer than the check.
// `self` is a tuple of a capsule of the ring, a dict of status to (class, message), and the ring.
PyObject *check_one(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    auto *ring = static_cast<const Ring *>(PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), "ring"));
    if (!ring || count != 5)
        return misused("check(token, solution, seconds, account, request)");
    uint64_t now = milliseconds(PyFloat_AsDouble(args[2]));
    if (PyErr_Occurred())
        return nullptr;
    powfast_challenge challenge;
    int status = ring->check(&challenge, args[0], args[1], now, args[3], args[4]);
    if (status != POWFAST_OK) {
        PyObject *number = PyLong_FromLong(status);
        PyObject *error = PyObject_GetItem(PyTuple_GET_ITEM(self, 1), number);
        if (error)
            PyErr_SetObject(PyTuple_GET_ITEM(error, 0), PyTuple_GET_ITEM(error, 1));
        Py_XDECREF(error);
        Py_DECREF(number);
        return nullptr;
    }
    return fields_of(challenge).release().ptr();
}

py::capsule pointer_to(const py::object &ring) {
    return py::capsule(&ring.cast<const Ring &>(), "ring");
}

// The ring itself, last, keeps the pointer valid.
py::object issuer(const py::object &ring) {
    return bare<issue_one>("issue", py::make_tuple(pointer_to(ring), ring));
}

py::object checker(const py::object &ring, const py::dict &refusals) {
    return bare<check_one>("check", py::make_tuple(pointer_to(ring), refusals, ring));
}

// The fields of a token and the puzzle's seed, else the status.
py::object decode(const Kernel &kernel, py::handle token) {
    powfast_challenge challenge;
    powfast_field field;
    if (!bytes_of(token.ptr(), &field))
        return py::int_((int)POWFAST_MALFORMED_TOKEN);
    int status = powfast_token_decode(&challenge, kernel.get(), POWFAST_ALGORITHMS, field.bytes,
                                      field.length);
    if (status != POWFAST_OK)
        return py::int_(status);
    powfast_field seed{challenge.puzzle.seed, sizeof challenge.puzzle.seed};
    return py::make_tuple(fields_of(challenge), raw(seed));
}

} // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() = "The C library as Python objects.";
    m.attr("MAX_PARTS") = POWFAST_MAX_PARTS;
    m.attr("MAX_TOKEN_BYTES") = POWFAST_MAX_TOKEN_BYTES;
    m.attr("UNKNOWN_KERNEL") = (int)POWFAST_UNKNOWN_KERNEL;
    m.attr("UNSUPPORTED_KERNEL") = (int)POWFAST_UNSUPPORTED_KERNEL;
    m.def("kernels", &kernels);
    m.def("select_kernel", &select_kernel);
    py::class_<Kernel>(m, "Kernel")
        .def(py::init<const std::string &>())
        .def_property_readonly("name", &Kernel::name)
        .def("walk_selftest", &walk_selftest)
        .def("verifier", &verifier)
        .def("hasher", &hasher)
        .def("field_hasher", &field_hasher)
        .def("verify_tuples", &verify_tuples)
        .def("verify_batch", &verify_batch);
    m.def("decode", &decode);
    m.def("default_parts", &powfast_default_parts);
    define_memory_ledger(m);
    define_held(m);
    define_prices(m);
    define_solver(m);
    define_text(m);
    py::class_<Ring>(m, "Ring")
        .def(py::init<const Kernel &, const py::list &, uint32_t>())
        .def("issuer", &issuer)
        .def("checker", &checker)
        .def("check_many", &Ring::check_many);
}
