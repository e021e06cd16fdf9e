// The ledger of one process, each operation whole under the GIL: what powfast/stores/memory.py is
// made of.
#include "accounts.h"
#include "kernel.h"

namespace {

class MemoryLedger {
  public:
    static constexpr size_t kMostPools = 4096;

    MemoryLedger(const Kernel &kernel, py::object tariff, std::pair<double, double> half_lives,
                 py::object shared_name, size_t max_accounts, double remember, double skew,
                 double now)
        : kernel(kernel.get()), tariff(tariff.cast<const Tariff &>().get()),
          accounts(max_accounts), pools(kMostPools), requests(remember, now), skew(skew), tariff_(tariff),
          half_lives_(half_lives), shared_name_(shared_name) {}

    MemoryLedger(const MemoryLedger &) = delete;

    bool is_shared(PyObject *name) const {
        return PyObject_TypeCheck(name, reinterpret_cast<PyTypeObject *>(shared_name_.ptr()));
    }

    // The record of an account or group of that id as it stands now; zeros where there is none.
    // sketch: room for its own.
    powfast_account aged(const Id &id, PyObject *name, powfast_sketch *sketch, double now) {
        bool shared = is_shared(name);
        powfast_account account = accounts.read(id, tariff->account_evidence ? sketch : nullptr);
        powfast_account_age(&account, shared ? half_lives_.second : half_lives_.first, shared, now);
        return account;
    }

    // The record of a pool of newcomers.
    powfast_account pool(const Id &id, double now) {
        powfast_account pool = pools.read(id);
        powfast_account_age(&pool, 0, 0, now);
        return pool;
    }

    const powfast_kernel *kernel;
    const powfast_tariff *tariff;
    Accounts accounts, pools;
    Requests requests;
    SpentChallenges spent;
    double skew;

  private:
    py::object tariff_; // keeps what `tariff` points to
    std::pair<double, double> half_lives_; // of an account, and of one that several people share
    py::object shared_name_;
};

// Whose request an operation is about: it begins with account, group and digest.
struct Whose {
    powfast_field names[3];
    PyObject *account, *group;
    Id account_id, group_id, request_id, pool_id;

    bool has_group() const { return names[1].length > 0; }
};

bool read_account(Whose *whose, const MemoryLedger &ledger, PyObject *const *args) {
    whose->account = args[0], whose->group = args[1];
    if (!utf8_of(args[0], &whose->names[0]) || !utf8_of(args[1], &whose->names[1]))
        return false;
    whose->account_id = id_of(ledger.kernel, whose->names, 2);
    powfast_field group[] = {{nullptr, 0}, whose->names[1]};
    if (whose->has_group())
        whose->group_id = id_of(ledger.kernel, group, 2);
    return true;
}

bool read_request(Whose *whose, const MemoryLedger &ledger, PyObject *const *args) {
    if (!bytes_of(args[2], &whose->names[2]) || !read_account(whose, ledger, args))
        return false;
    whose->request_id = id_of(ledger.kernel, whose->names, 3);
    return true;
}

bool read_pool(Id *id, const MemoryLedger &ledger, PyObject *name) {
    powfast_field pool;
    if (!utf8_of(name, &pool))
        return false;
    *id = id_of(ledger.kernel, &pool, 1);
    return true;
}

// What is known of a request; of an account that is forgotten, nothing.
powfast_request known(MemoryLedger &ledger, const Whose &whose, const powfast_account &account,
                      double now) {
    powfast_request request = ledger.requests.find(whose.request_id, now); // drops what is old
    if (!ledger.accounts.has(whose.account_id))
        request = powfast_request{};
    powfast_request_recall(&request, &account);
    return request;
}

// (challenge id, expires), and whatever follows
bool read_paid(PyObject *object, Id *id, double *expires, const MemoryLedger &ledger) {
    powfast_field field;
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) < 2 ||
        !bytes_of(PyTuple_GET_ITEM(object, 0), &field) ||
        !number_of(PyTuple_GET_ITEM(object, 1), expires))
        return false;
    *id = id_of(ledger.kernel, &field, 1);
    return true;
}

// Aged records of an account, its group and its pool of newcomers, written back together.
class Parties {
  public:
    powfast_account account, group_record{}, *group = nullptr, newcomers;

    Parties(const Parties &) = delete;

    Parties(MemoryLedger &ledger, const Whose &whose, double now)
        : account(ledger.aged(whose.account_id, whose.account, &sketch_, now)),
          newcomers(ledger.pool(whose.pool_id, now)) {
        if (whose.has_group()) {
            group_record = ledger.aged(whose.group_id, whose.group, &group_sketch_, now);
            group = &group_record;
        }
        queries_ = group_record.state[0];
        theirs_ = newcomers.state[0];
    }

    // The group's and the pool's only where they have advanced.
    void write(MemoryLedger &ledger, const Whose &whose) const {
        ledger.accounts.write(whose.account_id, account);
        if (group_record.state[0] != queries_)
            ledger.accounts.write(whose.group_id, group_record);
        if (newcomers.state[0] != theirs_)
            ledger.pools.write(whose.pool_id, newcomers);
    }

    // What a newcomer pays now; 0 where its pool has not advanced.
    double newcomers_price(const MemoryLedger &ledger) const {
        return price_after(newcomers, theirs_, ledger.tariff);
    }

  private:
    double queries_, theirs_; // of the group and the pool, before
    powfast_sketch sketch_, group_sketch_; // nothing, until they are read
};

// enter(account, group, digest, run, limits, again, queries, newcomers, now)
//     -> (verdict, work, run, sketch, group's sketch), None where nothing runs or nothing is there
PyObject *enter(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    powfast_limits limits;
    uint8_t run[kRunBytes];
    double queries, now, expires = 0, work;
    Id challenge;
    bool again = count == 9 && args[5] != Py_None;
    if (count != 9 || !read_request(&whose, ledger, args) || !read_run(args[3], run) ||
        !read_limits(args[4], &limits) || !number_of(args[6], &queries) ||
        !read_pool(&whose.pool_id, ledger, args[7]) || !number_of(args[8], &now) ||
        (again && !read_paid(args[5], &challenge, &expires, ledger)))
        return misused("enter(account, group, digest, run, limits, again, queries, newcomers, now)");
    Parties parties(ledger, whose, now);
    powfast_request request = known(ledger, whose, parties.account, now);
    bool unread = again && PyTuple_GET_SIZE(args[5]) == 3 &&
                  PyTuple_GET_ITEM(args[5], 2) == Py_True;
    powfast_spent none{}, *spent = again ? ledger.spent.find(challenge, expires) : nullptr;
    if (again && !spent)
        spent = &none;
    powfast_verdict verdict = powfast_enter(&work, run, &parties.account, parties.group,
                                            &parties.newcomers, &request, spent, unread, ledger.is_shared(whose.account),
                                            ledger.tariff, &limits, queries, now);
    bool runs = verdict == POWFAST_RUN || verdict == POWFAST_COVERED;
    bool refused =
        verdict == POWFAST_OWED || verdict == POWFAST_TOO_HIGH || verdict == POWFAST_DEBT;
    if (runs || (refused && ledger.accounts.has(whose.account_id))) {
        ledger.accounts.write(whose.account_id, parties.account);
        ledger.requests.write(whose.request_id, request, now);
    }
    return Py_BuildValue("idNNN", (int)verdict, work, held_run(runs, run),
                         packed_sketch(runs ? parties.account.sketch : nullptr),
                         packed_sketch(runs ? parties.group_record.sketch : nullptr));
}

// Eight bytes of the SHA-256 of the evidence's doubles, little-endian.
void tag_of(uint8_t tag[8], const MemoryLedger &ledger, const std::vector<double> &evidence) {
    std::vector<uint8_t> bytes(evidence.size() * sizeof(double));
    for (size_t i = 0; i < bytes.size(); i += sizeof(double))
        copy_number(&bytes[i], reinterpret_cast<const uint8_t *>(evidence.data()) + i);
    uint8_t digest[32];
    powfast_sha256(digest, ledger.kernel, bytes.data(), bytes.size());
    std::memcpy(tag, digest, 8);
}

// charge(account, group, digest, run, evidence, (challenge id, expires) or None, newcomers, advance,
//     group's advance, now) -> (due, price, balance, newcomers, surcharge), see `Charged`
PyObject *charge(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    uint8_t run[kRunBytes], tag[8];
    std::vector<double> evidence;
    Advance advance, group_advance;
    Id challenge;
    double now, due, price, expires = 0;
    bool paid = count == 10 && args[5] != Py_None;
    if (count != 10 || !read_request(&whose, ledger, args) || !read_run(args[3], run) ||
        !evidence_of(args[4], &evidence) || !read_pool(&whose.pool_id, ledger, args[6]) ||
        !advance.read(args[7], evidence.size()) || !group_advance.read(args[8], evidence.size()) ||
        !number_of(args[9], &now) ||
        (paid && !read_paid(args[5], &challenge, &expires, ledger)))
        return misused("charge(account, group, digest, run, evidence, paid, newcomers, advance, "
                       "group_advance, now)");
    tag_of(tag, ledger, evidence);
    Parties parties(ledger, whose, now);
    powfast_request request = known(ledger, whose, parties.account, now);
    if (evidence.empty() && !is_running(request, run))
        return Py_BuildValue("ddddd", 0.0, 0.0, parties.account.balance, 0.0, 0.0);
    powfast_spent *spent = paid ? ledger.spent.find(challenge, expires) : nullptr;
    if (powfast_charge(&due, &price, &parties.account, parties.group, &parties.newcomers, &request,
                       spent, ledger.tariff, run, tag, evidence.data(), evidence.size(),
                       advance.get(), group_advance.get()) != POWFAST_OK)
        return misused("evidence is a list of nonnegative floats, an advance one of a sketch");
    parties.write(ledger, whose);
    ledger.requests.write(whose.request_id, request, now);
    return Py_BuildValue("ddddd", due, price, parties.account.balance,
                         parties.newcomers_price(ledger), unpaid_surcharge(request, run, tag));
}

// leave(account, group, digest, run, outcome, now)
PyObject *leave(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    uint8_t run[kRunBytes];
    uint64_t outcome;
    double now;
    if (count != 6 || !read_request(&whose, ledger, args) || !read_run(args[3], run) ||
        !integer_of(args[4], &outcome) || !number_of(args[5], &now))
        return misused("leave(account, group, digest, run, outcome, now)");
    powfast_sketch sketch;
    powfast_account account = ledger.aged(whose.account_id, whose.account, &sketch, now);
    powfast_request request = known(ledger, whose, account, now);
    if (powfast_leave(&account, &request, ledger.tariff, run, (powfast_outcome)outcome)) {
        ledger.accounts.write(whose.account_id, account);
        ledger.requests.write(whose.request_id, request, now);
    }
    Py_RETURN_NONE;
}

// redeem(account, group, digest, (challenge id, expires), work, now) -> (verdict, run, due, balance)
PyObject *redeem(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    Id challenge;
    double expires, now, due;
    uint64_t work;
    if (count != 6 || !read_request(&whose, ledger, args) ||
        !read_paid(args[3], &challenge, &expires, ledger) || !integer_of(args[4], &work) ||
        !number_of(args[5], &now))
        return misused("redeem(account, group, digest, (challenge id, expires), work, now)");
    ledger.spent.forget(now - ledger.skew);
    if (now >= expires)
        return Py_BuildValue("iydd", (int)POWFAST_SPENT, "", 0.0, 0.0);
    powfast_sketch sketch;
    powfast_account account = ledger.aged(whose.account_id, whose.account, &sketch, now);
    if (const powfast_spent *known = ledger.spent.find(challenge, expires))
        return Py_BuildValue("iNdd", (int)(known->paid ? POWFAST_AGAIN : POWFAST_SPENT),
                             held_run(known->paid, known->run), 0.0,
                             known->paid ? account.balance : 0.0);
    powfast_request request = known(ledger, whose, account, now);
    powfast_spent spent;
    powfast_request *bound = whose.names[2].length ? &request : nullptr;
    int verdict = powfast_redeem(&due, &account, bound, &spent, ledger.tariff, work);
    ledger.spent.write(challenge, expires, spent);
    ledger.accounts.write(whose.account_id, account);
    ledger.requests.write(whose.request_id, request, now);
    return Py_BuildValue("iNdd", verdict, held_run(spent.paid, spent.run), due, account.balance);
}

// report(account, group, report, evidence, paid, newcomers, now)
PyObject *report(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    std::vector<double> evidence;
    double paid, now;
    if (count != 7 || !read_request(&whose, ledger, args) || !evidence_of(args[3], &evidence) ||
        !number_of(args[4], &paid) || !read_pool(&whose.pool_id, ledger, args[5]) ||
        !number_of(args[6], &now))
        return misused("report(account, group, report, evidence, paid, newcomers, now)");
    Parties parties(ledger, whose, now);
    powfast_request request = known(ledger, whose, parties.account, now);
    if (request.phase == POWFAST_REPORTED || evidence.empty())
        Py_RETURN_NONE;
    if (powfast_report(&parties.account, parties.group, &parties.newcomers, &request, ledger.is_shared(whose.account),
                       ledger.tariff, evidence.data(), evidence.size(), paid) != POWFAST_OK)
        return misused("evidence is a list of nonnegative floats");
    parties.write(ledger, whose);
    ledger.requests.write(whose.request_id, request, now);
    Py_RETURN_NONE;
}

// account(account, group, now) -> as fields_of has it, None where there is none
PyObject *account(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    double now;
    if (count != 3 || !read_account(&whose, ledger, args) || !number_of(args[2], &now))
        return misused("account(account, group, now)");
    if (!ledger.accounts.has(whose.account_id))
        Py_RETURN_NONE;
    PyObject *name = whose.names[0].length ? whose.account : whose.group;
    powfast_sketch sketch;
    powfast_account account = ledger.aged(whose.account_id, name, &sketch, now);
    account.charged = ledger.accounts.read(whose.account_id).charged;
    return fields_of(account);
}

// reset(account, group, now)
PyObject *reset(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Whose whose;
    double now;
    if (count != 3 || !read_account(&whose, ledger, args) || !number_of(args[2], &now))
        return misused("reset(account, group, now)");
    ledger.accounts.write(whose.account_id, reset_record(now));
    Py_RETURN_NONE;
}

// newcomers(pool) -> as account()
PyObject *newcomers(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Id id;
    if (count != 1 || !read_pool(&id, ledger, args[0]))
        return misused("newcomers(pool)");
    return ledger.pools.has(id) ? fields_of(ledger.pools.read(id)) : Py_NewRef(Py_None);
}

// reset_newcomers(pool, now)
PyObject *reset_newcomers(MemoryLedger &ledger, PyObject *const *args, Py_ssize_t count) {
    Id id;
    double now;
    if (count != 2 || !read_pool(&id, ledger, args[0]) || !number_of(args[1], &now))
        return misused("reset_newcomers(pool, now)");
    ledger.pools.write(id, reset_pool(now));
    Py_RETURN_NONE;
}

} // namespace

void define_memory_ledger(py::module_ &module) {
    py::class_<MemoryLedger> type(module, "MemoryLedger", py::is_final());
    type.def(py::init<const Kernel &, py::object, std::pair<double, double>, py::object, size_t,
                      double, double, double>());
    fast<enter>(type, "enter", "See `Ledger.enter`.");
    fast<charge>(type, "charge", "See `Ledger.charge`.");
    fast<leave>(type, "leave", "See `Ledger.leave`.");
    fast<redeem>(type, "redeem", "See `Ledger.redeem`.");
    fast<report>(type, "report", "See `Ledger.report`.");
    fast<account>(type, "account", "See `Ledger.account`.");
    fast<reset>(type, "reset", "See `Ledger.reset`.");
    fast<newcomers>(type, "newcomers", "See `Ledger.newcomers`.");
    fast<reset_newcomers>(type, "reset_newcomers", "See `Ledger.reset_newcomers`.");
}
