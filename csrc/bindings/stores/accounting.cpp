// What a ledger does to the records that it keeps as bytes: powfast.h's accounts, record by record.
#include "records.h"

namespace {

// Null, with what is wrong: a record is damaged, or this is not how to call it.
PyObject *refused(const char *usage) { return PyErr_Occurred() ? nullptr : misused(usage); }

// A record with room for its sketch, which is not there before it is read.
struct Party {
    powfast_account account{};
    powfast_sketch sketch;
};

// A record, its half-life and whether it is shared, as (bytes or None, float, bool); aged.
bool read_party(PyObject *object, Party *party, Tariff &tariff, double now) {
    double half_life;
    if (!has_items(object, 3))
        return false;
    PyObject *shared = PySequence_Fast_GET_ITEM(object, 2);
    if (!unpack_account(PySequence_Fast_GET_ITEM(object, 0), &party->account, &party->sketch,
                        tariff.get()) ||
        !number_of(PySequence_Fast_GET_ITEM(object, 1), &half_life))
        return false;
    powfast_account_age(&party->account, half_life, shared == Py_True, now);
    return true;
}

// The same for a group or a pool, which may be None: then *group is null.
bool read_group(PyObject *object, Party *party, powfast_account **group, Tariff &tariff,
                double now) {
    *group = object == Py_None ? nullptr : &party->account;
    return object == Py_None || read_party(object, party, tariff, now);
}

bool read_request(PyObject *object, powfast_request *request, const powfast_account &account,
                  Tariff &tariff) {
    if (!unpack(object, request, tariff.get()))
        return false;
    powfast_request_recall(request, &account);
    return true;
}

PyObject *packed_request(const powfast_request &request) {
    return request.phase == POWFAST_NO_REQUEST ? Py_NewRef(Py_None) : packed(request);
}

// enter(account, group, newcomers, request, spent, again, run, limits, queries, now)
//     -> (verdict, work, run, account, request, spent, sketch, group's sketch); again: whether the
//     solution is unread, None where it is no rerun; None for a spent challenge that stays as it was,
//     and for sketches where nothing runs
PyObject *enter(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own, together, pool;
    powfast_account &account = own.account, *group, *newcomers;
    powfast_request request;
    powfast_spent spent;
    powfast_limits limits;
    uint8_t run[kRunBytes];
    double queries, now, work;
    if (count != 10 || !number_of(args[9], &now) || !read_party(args[0], &own, tariff, now) ||
        !read_group(args[1], &together, &group, tariff, now) ||
        !read_group(args[2], &pool, &newcomers, tariff, now) ||
        !read_request(args[3], &request, account, tariff) ||
        !unpack(args[4], &spent, tariff.get()) || !read_run(args[6], run) ||
        !read_limits(args[7], &limits) || !number_of(args[8], &queries))
        return refused("enter(account, group, newcomers, request, spent, again, run, limits, queries, now)");
    bool again = args[5] != Py_None, shared = PySequence_Fast_GET_ITEM(args[0], 2) == Py_True;
    double reruns = spent.reruns;
    int verdict =
        powfast_enter(&work, run, &account, group, newcomers, &request,
                      again ? &spent : nullptr, args[5] == Py_True, shared, tariff.get(), &limits, queries, now);
    bool runs = verdict == POWFAST_RUN || verdict == POWFAST_COVERED;
    return Py_BuildValue("idNNNNNN", verdict, work, held_run(runs, run), packed_account(account),
                         packed_request(request),
                         spent.reruns == reruns ? Py_NewRef(Py_None) : packed(spent),
                         packed_sketch(runs ? account.sketch : nullptr),
                         packed_sketch(runs && group ? group->sketch : nullptr));
}

// The record of a group or a pool that has advanced, None for one that stays as it was.
PyObject *advanced(const Party &party, double queries) {
    return party.account.state[0] == queries ? Py_NewRef(Py_None) : packed_account(party.account);
}

// charge(account, group, newcomers, request, spent, run, tag, evidence, advance, group's, now)
//     -> (due, price, balance, newcomers' price, surcharge, account, group, newcomers, request,
//     spent), see `Charged`; None for what stays as it was
PyObject *charge(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own, together, pool;
    powfast_account &account = own.account, *group, *newcomers;
    powfast_request request;
    powfast_spent spent;
    powfast_field tag;
    Advance advance, group_advance;
    std::vector<double> evidence;
    uint8_t run[kRunBytes];
    double now, due, price;
    if (count != 11 || !number_of(args[10], &now) || !read_party(args[0], &own, tariff, now) ||
        !read_group(args[1], &together, &group, tariff, now) ||
        !read_group(args[2], &pool, &newcomers, tariff, now) ||
        !read_request(args[3], &request, account, tariff) ||
        !unpack(args[4], &spent, tariff.get()) || !read_run(args[5], run) ||
        !bytes_of(args[6], &tag) || tag.length != sizeof request.tag ||
        !evidence_of(args[7], &evidence) || !advance.read(args[8], evidence.size()) ||
        !group_advance.read(args[9], evidence.size()))
        return refused("charge(account, group, newcomers, request, spent, run, tag, evidence, advance, "
                       "group_advance, now)");
    if (evidence.empty() && !is_running(request, run))
        return Py_BuildValue("dddddOOOOO", 0.0, 0.0, account.balance, 0.0, 0.0, Py_None, Py_None,
                             Py_None, Py_None, Py_None);
    double queries = together.account.state[0], theirs = pool.account.state[0];
    powfast_spent before = spent;
    if (powfast_charge(&due, &price, &account, group, newcomers, &request,
                       args[4] == Py_None ? nullptr : &spent, tariff.get(), run, tag.bytes,
                       evidence.data(), evidence.size(), advance.get(),
                       group_advance.get()) != POWFAST_OK)
        return PyErr_Format(PyExc_ValueError, "a record is damaged");
    return Py_BuildValue("dddddNNNNN", due, price, account.balance,
                         price_after(pool.account, theirs, tariff.get()),
                         unpaid_surcharge(request, run, tag.bytes), packed_account(account),
                         advanced(together, queries), advanced(pool, theirs),
                         packed_request(request),
                         std::memcmp(&spent, &before, sizeof spent) == 0 ? Py_NewRef(Py_None)
                                                                         : packed(spent));
}

// leave(account, request, run, outcome, now) -> (account, request), None where both stay
PyObject *leave(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own;
    powfast_account &account = own.account;
    powfast_request request;
    uint8_t run[kRunBytes];
    uint64_t outcome;
    double now;
    if (count != 5 || !number_of(args[4], &now) || !read_party(args[0], &own, tariff, now) ||
        !read_request(args[1], &request, account, tariff) || !read_run(args[2], run) ||
        !integer_of(args[3], &outcome))
        return refused("leave(account, request, run, outcome, now)");
    if (!powfast_leave(&account, &request, tariff.get(), run, (powfast_outcome)outcome))
        Py_RETURN_NONE;
    return Py_BuildValue("NN", packed_account(account), packed_request(request));
}

// redeem(account, request, bound, work, now)
//     -> (verdict, run, due, balance, account, request, spent); bound: whether the challenge is bound
//     to a request
PyObject *redeem(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own;
    powfast_account &account = own.account;
    powfast_request request;
    powfast_spent spent;
    uint64_t work;
    double now, due;
    if (count != 5 || !number_of(args[4], &now) || !read_party(args[0], &own, tariff, now) ||
        !read_request(args[1], &request, account, tariff) || !integer_of(args[3], &work))
        return refused("redeem(account, request, bound, work, now)");
    int verdict = powfast_redeem(&due, &account, args[2] == Py_True ? &request : nullptr, &spent,
                                 tariff.get(), work);
    return Py_BuildValue("iNddNNN", verdict, held_run(spent.paid, spent.run), due, account.balance,
                         packed_account(account), packed_request(request), packed(spent));
}

// spent_run(spent) -> the run of the request that the challenge has paid for, None for no request
PyObject *spent_run(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    powfast_spent spent;
    if (count != 1 || !unpack(args[0], &spent, tariff.get()))
        return refused("spent_run(spent)");
    return spent.paid ? held_run(true, spent.run) : Py_NewRef(Py_None);
}

// report(account, group, newcomers, request, evidence, paid, now)
//     -> (account, group, newcomers, request), None where it was reported before, and for what stays
PyObject *report(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own, together, pool;
    powfast_account &account = own.account, *group, *newcomers;
    powfast_request request;
    std::vector<double> evidence;
    double paid, now;
    if (count != 7 || !number_of(args[6], &now) || !read_party(args[0], &own, tariff, now) ||
        !read_group(args[1], &together, &group, tariff, now) ||
        !read_group(args[2], &pool, &newcomers, tariff, now) ||
        !read_request(args[3], &request, account, tariff) || !evidence_of(args[4], &evidence) ||
        !number_of(args[5], &paid))
        return refused("report(account, group, newcomers, request, evidence, paid, now)");
    if (request.phase == POWFAST_REPORTED)
        Py_RETURN_NONE;
    double queries = together.account.state[0], theirs = pool.account.state[0];
    bool shared = PySequence_Fast_GET_ITEM(args[0], 2) == Py_True;
    if (powfast_report(&account, group, newcomers, &request, shared, tariff.get(), evidence.data(),
                       evidence.size(), paid) != POWFAST_OK)
        return PyErr_Format(PyExc_ValueError, "a record is damaged");
    return Py_BuildValue("NNNN", packed_account(account), advanced(together, queries),
                         advanced(pool, theirs), packed_request(request));
}

// read_account(account, now) -> as fields_of has it, aged
PyObject *read_account(Tariff &tariff, PyObject *const *args, Py_ssize_t count) {
    Party own, stored;
    powfast_account &account = own.account;
    double now;
    if (count != 2 || !number_of(args[1], &now) || !read_party(args[0], &own, tariff, now) ||
        !unpack_account(PySequence_Fast_GET_ITEM(args[0], 0), &stored.account, &stored.sketch,
                        tariff.get()))
        return refused("read_account(account, now)");
    account.charged = stored.account.charged;
    return fields_of(account);
}

// reset_account(now) -> the record of an account that owes nothing and did nothing unusual
PyObject *reset_account(Tariff &, PyObject *const *args, Py_ssize_t count) {
    double now;
    if (count != 1 || !number_of(args[0], &now))
        return misused("reset_account(now)");
    return packed(reset_record(now));
}

// reset_newcomers(now) -> the record of a pool that nothing unusual has happened to
PyObject *reset_newcomers(Tariff &, PyObject *const *args, Py_ssize_t count) {
    double now;
    if (count != 1 || !number_of(args[0], &now))
        return misused("reset_newcomers(now)");
    return packed(reset_pool(now));
}

} // namespace

void define_accounting(py::class_<Tariff> &type) {
    fast<enter>(type, "enter", "See `Ledger.enter`, over records.");
    fast<charge>(type, "charge", "See `Ledger.charge`, over records.");
    fast<leave>(type, "leave", "See `Ledger.leave`, over records.");
    fast<redeem>(type, "redeem", "See `Ledger.redeem`, over records.");
    fast<report>(type, "report", "See `Ledger.report`, over records.");
    fast<spent_run>(type, "spent_run", "Return the run that a spent challenge has paid for.");
    fast<read_account>(type, "read_account", "Return the fields of an account's record, aged.");
    fast<reset_account>(type, "reset_account", "Return the record of `Ledger.reset`.");
    fast<reset_newcomers>(type, "reset_newcomers",
                          "Return the record of `Ledger.reset_newcomers`.");
}
