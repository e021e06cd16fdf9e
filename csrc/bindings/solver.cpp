// A puzzle's solver and its threads.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernel.h"
#include "objects.h"
#include "scratch.h"

using Clock = std::chrono::steady_clock;

namespace {

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

// One puzzle being solved by the thread that calls run, and by helpers once that takes long.
class Solver {
  public:
    Solver(const Kernel &kernel, const py::bytes &seed, uint64_t work, uint32_t parts,
           int algorithm)
        : parts_(parts), scratches_(algorithm == POWFAST_ALGORITHM_CACHEWALK) {
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
        if (work(own_scratch(), slice()) == POWFAST_OK)
            return true;
        while (helpers_.size() + 1 < threads)
            add_helper();
        auto end = Clock::now() + std::chrono::duration<double>(seconds);
        while (Clock::now() < end)
            if (work(own_scratch(), slice()) == POWFAST_OK)
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
    bool walks() const { return !scratches_.empty(); }

    // Evaluations between looks at the clock: below 10 ms on the slowest machines.
    uint64_t slice() const { return walks() ? 32 : 16384; }

    // Of the thread that calls run; null where no walks are taken.
    uint64_t *own_scratch() const { return walks() ? scratches_.front().words() : nullptr; }

    powfast_status work(uint64_t *scratch, uint64_t budget) {
        return scratch ? powfast_walk_solver_run(&solver_, scratch, budget)
                       : powfast_solver_run(&solver_, budget);
    }

    void add_helper() {
        if (walks())
            scratches_.emplace_back();
        uint64_t *scratch = walks() ? scratches_.back().words() : nullptr;
        helpers_.emplace_back([this, scratch] { work(scratch, UINT64_MAX); });
    }

    powfast_solver solver_{};
    std::vector<powfast_part> parts_;
    std::vector<Scratch> scratches_; // the caller's and the helpers'; none where no walks are taken
    std::vector<std::thread> helpers_;
};

} // namespace

void define_solver(py::module_ &module) {
    py::class_<Solver>(module, "Solver")
        .def(py::init<const Kernel &, const py::bytes &, uint64_t, uint32_t, int>(),
             py::arg("kernel"), py::arg("seed"), py::arg("work"), py::arg("parts"),
             py::arg("algorithm") = (int)POWFAST_ALGORITHM_SHA256)
        .def("run", &Solver::run)
        .def("stop", &Solver::stop)
        .def_property_readonly("evaluations", &Solver::evaluations)
        .def_property_readonly("nonces", &Solver::nonces);
}
