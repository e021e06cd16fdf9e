// Answers that wait for their payment, or that may be asked for again: powfast/stores/held.py. Each
// operation is whole under the GIL.
#include "held_answer.h"
#include "held_places.h"
#include "kernel.h"

namespace {

using namespace held;

struct HeldAnswers {
    const powfast_kernel *kernel;
    size_t overhead; // bytes that each answer counts beside its own
    Places places;
};

// An account is the first 24 bytes of its SHA-256; a place, 8 of them and the run, which is random.
bool read_names(Id *place, Id *account, const HeldAnswers &self, PyObject *const *args) {
    powfast_field name, run;
    if (!utf8_of(args[0], &name) || !bytes_of(args[1], &run) || run.length != 16)
        return false;
    uint8_t digest[32];
    powfast_sha256(digest, self.kernel, name.bytes, name.length);
    std::copy_n(digest, account->size(), account->begin());
    std::copy_n(digest, 8, place->begin());
    std::copy_n(run.bytes, run.length, place->begin() + 8);
    return true;
}

PyObject *put(HeldAnswers &self, PyObject *const *args, Py_ssize_t count) {
    Id place, account;
    double now, expires;
    auto answer = std::make_shared<Answer>();
    if (count != 5 || !read_names(&place, &account, self, args) || !number_of(args[3], &now) ||
        !number_of(args[4], &expires) || !answer->pack(args[2]))
        return misused("put(account: str, run: 16 bytes, answer: (int, headers, bytes),"
                       " now: float, expires: float)");
    self.places.expire(now);
    size_t size = answer->size() + self.overhead;
    return PyBool_FromLong(
        self.places.put(place, account, now, expires, size, std::move(answer)));
}

PyObject *get(HeldAnswers &self, PyObject *const *args, Py_ssize_t count) {
    Id id, account;
    double now, until = 0;
    if (count != 4 || !read_names(&id, &account, self, args) || !number_of(args[2], &now) ||
        (args[3] != Py_None && !number_of(args[3], &until)))
        return misused("get(account: str, run: 16 bytes, now: float, until: float | None)");
    self.places.expire(now);
    Place *place = self.places.find(id, now);
    if (!place)
        Py_RETURN_NONE;
    if (args[3] != Py_None)
        self.places.pay(*place, until);
    // making Python objects may run others, which may drop the place
    std::shared_ptr<const Answer> answer = place->answer;
    return answer->unpack().release().ptr();
}

PyObject *usage(HeldAnswers &self, PyObject *const *, Py_ssize_t count) {
    if (count != 0)
        return misused("usage()");
    Places &places = self.places;
    return Py_BuildValue("nnnn", (Py_ssize_t)places.count(), (Py_ssize_t)places.bytes(),
                         (Py_ssize_t)places.abandoned(), (Py_ssize_t)places.evicted());
}

} // namespace

void define_held(py::module_ &module) {
    py::class_<HeldAnswers> type(module, "HeldAnswers", py::is_final());
    type.def(py::init([](const Kernel &kernel, size_t overhead, size_t all_bytes,
                         size_t answer_bytes, size_t expire_at_once, size_t evict_at_once) {
        Limits limits{all_bytes, answer_bytes, expire_at_once, evict_at_once};
        return new HeldAnswers{kernel.get(), overhead, Places(limits)};
    }));
    fast<put>(type, "put", "Keep an answer where there is room for it; return whether.");
    fast<get>(type, "get", 
              "Return an answer that is held; `until`: it was paid, keep it at least until then.");
    fast<usage>(type, "usage", 
                "Return answers, bytes, and since the last call how many were abandoned, evicted.");
}
