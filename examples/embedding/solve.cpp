// A puzzle solved by two threads in C++:
//
//     c++ -std=c++17 -pthread solve.cpp $(python -m powfast --cflags --libs) -o solve
#include <cstdio>
#include <thread>
#include <vector>

#include "powfast.h"

int main() {
    const powfast_kernel *kernel;
    if (powfast_kernel_select(&kernel, nullptr, powfast_cpu_features()) != POWFAST_OK)
        return 1;
    powfast_puzzle puzzle{};
    puzzle.work = 2000000;
    puzzle.parts = powfast_default_parts(puzzle.work);
    std::vector<powfast_part> parts(puzzle.parts);
    powfast_solver solver;
    if (powfast_solver_init(&solver, parts.data(), kernel, &puzzle) != POWFAST_OK)
        return 2;
    auto run = [&solver] { powfast_solver_run(&solver, UINT64_MAX); };
    std::thread first(run), second(run);
    first.join();
    second.join();
    std::vector<std::uint64_t> nonces(puzzle.parts);
    powfast_solver_nonces(nonces.data(), &solver);
    if (powfast_verify(kernel, &puzzle, nonces.data()) != POWFAST_OK)
        return 3;
    std::printf("solved and verified by %s\n", powfast_kernel_name(kernel));
    return 0;
}
