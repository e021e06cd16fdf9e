// powfast._native: the C library as Python objects. No logic of its own: it checks shapes,
// releases the GIL, and hands over.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "powfast.h"

namespace py = pybind11;
using Clock = std::chrono::steady_clock;
template <typename T> using Array = py::array_t<T, py::array::c_style>;

namespace {

const powfast_kernel *kernel_named(const std::string &name) {
    for (size_t i = 0; i < powfast_kernel_count(); i++)
        if (name == powfast_kernel_name(powfast_kernel_at(i)))
            return powfast_kernel_at(i);
    throw std::invalid_argument("no kernel " + name);
}

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

// The name of the kernel chosen by the environment or by rank, and why there is none.
py::tuple select_kernel() {
    const powfast_kernel *kernel;
    int status = powfast_kernel_select(&kernel, nullptr, powfast_cpu_features());
    return py::make_tuple(kernel ? py::cast(powfast_kernel_name(kernel)) : py::none(), status);
}

powfast_puzzle make_puzzle(const py::bytes &seed, uint64_t work, uint32_t parts) {
    std::string_view view = seed;
    powfast_puzzle puzzle{};
    puzzle.work = work;
    puzzle.parts = parts;
    if (view.size() != sizeof puzzle.seed || powfast_puzzle_check(&puzzle) != POWFAST_OK)
        throw std::invalid_argument("no such puzzle");
    std::copy(view.begin(), view.end(), puzzle.seed);
    return puzzle;
}

class Kernel {
  public:
    explicit Kernel(const std::string &name) : kernel_(kernel_named(name)) {
        if (!powfast_kernel_supported(kernel_, powfast_cpu_features()))
            throw std::invalid_argument("this CPU cannot run " + name);
    }

    const powfast_kernel *get() const { return kernel_; }
    const char *name() const { return powfast_kernel_name(kernel_); }

    bool verify(const py::bytes &seed, uint64_t work, const py::tuple &solution) const {
        uint64_t nonces[POWFAST_MAX_PARTS];
        if (solution.empty() || solution.size() > POWFAST_MAX_PARTS)
            return false;
        for (size_t i = 0; i < solution.size(); i++) {
            nonces[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(solution.ptr(), (Py_ssize_t)i));
            if (nonces[i] == ~0ull && PyErr_Occurred())
                throw py::error_already_set();
        }
        powfast_puzzle puzzle = make_puzzle(seed, work, (uint32_t)solution.size());
        return powfast_verify(kernel_, &puzzle, nonces) == POWFAST_OK;
    }

    // seeds (n, 32) uint8, works (n,) uint64, nonces (n, parts) uint64 -> (n,) bool
    py::array_t<bool> verify_batch(const Array<uint8_t> &seeds, const Array<uint64_t> &works,
                                   const Array<uint64_t> &nonces) const {
        if (seeds.ndim() != 2 || works.ndim() != 1 || nonces.ndim() != 2 || seeds.shape(1) != 32 ||
            seeds.shape(0) != works.shape(0) || nonces.shape(0) != works.shape(0) ||
            nonces.shape(1) < 1 || nonces.shape(1) > POWFAST_MAX_PARTS)
            throw std::invalid_argument("shapes must be (n, 32), (n,) and (n, parts)");
        py::array_t<bool> ok(works.shape(0));
        auto *out = reinterpret_cast<uint8_t *>(ok.mutable_data());
        py::gil_scoped_release release;
        powfast_verify_batch(out, kernel_, seeds.data(), works.data(), nonces.data(),
                             (size_t)works.shape(0), (uint32_t)nonces.shape(1));
        return ok;
    }

  private:
    const powfast_kernel *kernel_;
};

// One puzzle being solved by the thread that calls run, and by helpers once that takes long.
class Solver {
  public:
    Solver(const Kernel &kernel, const py::bytes &seed, uint64_t work, uint32_t parts)
        : parts_(parts) {
        powfast_puzzle puzzle = make_puzzle(seed, work, parts);
        powfast_solver_init(&solver_, parts_.data(), kernel.get(), &puzzle);
    }

    ~Solver() { stop(); }

    // Cancel, and wait for the helpers to have noticed.
    void stop() {
        powfast_solver_cancel(&solver_);
        for (std::thread &helper : helpers_)
            helper.join();
        helpers_.clear();
    }

    // Work for about `seconds` with `threads` threads; true when solved. The helpers work on
    // between calls, until the puzzle is solved or `stop`.
    bool run(double seconds, unsigned threads) {
        py::gil_scoped_release release;
        if (powfast_solver_run(&solver_, kSlice) == POWFAST_OK)
            return true;
        while (helpers_.size() + 1 < threads)
            helpers_.emplace_back([this] { powfast_solver_run(&solver_, UINT64_MAX); });
        auto end = Clock::now() + std::chrono::duration<double>(seconds);
        while (Clock::now() < end)
            if (powfast_solver_run(&solver_, kSlice) == POWFAST_OK)
                return true;
        return false;
    }

    uint64_t evaluations() const { return powfast_solver_evaluations(&solver_); }

    py::tuple nonces() const {
        py::tuple solution(parts_.size());
        for (size_t i = 0; i < parts_.size(); i++)
            solution[i] = parts_[i].nonce;
        return solution;
    }

  private:
    // Evaluations between looks at the clock: below 10 ms on the slowest machines.
    static constexpr uint64_t kSlice = 16384;

    powfast_solver solver_{};
    std::vector<powfast_part> parts_;
    std::vector<std::thread> helpers_;
};

} // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() = "The C library as Python objects.";
    m.attr("MAX_PARTS") = POWFAST_MAX_PARTS;
    m.attr("UNKNOWN_KERNEL") = (int)POWFAST_UNKNOWN_KERNEL;
    m.attr("UNSUPPORTED_KERNEL") = (int)POWFAST_UNSUPPORTED_KERNEL;
    m.def("kernels", &kernels);
    m.def("select_kernel", &select_kernel);
    py::class_<Kernel>(m, "Kernel")
        .def(py::init<const std::string &>())
        .def_property_readonly("name", &Kernel::name)
        .def("verify", &Kernel::verify)
        .def("verify_batch", &Kernel::verify_batch);
    py::class_<Solver>(m, "Solver")
        .def(py::init<const Kernel &, const py::bytes &, uint64_t, uint32_t>())
        .def("run", &Solver::run)
        .def("stop", &Solver::stop)
        .def_property_readonly("evaluations", &Solver::evaluations)
        .def_property_readonly("nonces", &Solver::nonces);
}
