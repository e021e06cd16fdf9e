#include "powfast_impl.h"

/* Nonces a thread takes at a time. Small enough to stop at once, large enough that preparing a
 * job, or filling the first walk's memory, does not show. */
enum { CHUNK = 4096, WALKS = 32 };

static int solves(const powfast_puzzle *puzzle, uint32_t part, uint64_t nonce, uint64_t limit) {
    struct powfast_candidate candidate = {puzzle->seed, nonce, part};
    uint64_t digest;
    powfast_kernel_scalar.digest(&digest, &candidate, 1);
    return digest <= limit;
}

powfast_status powfast_search(uint64_t *nonce, const powfast_kernel *kernel,
                              const powfast_puzzle *puzzle, uint32_t part, uint64_t first,
                              uint64_t count) {
    if (!is_range(puzzle, part, first, count))
        return POWFAST_INVALID_ARGUMENT;
    uint64_t limit = powfast_part_limit(puzzle);
    while (count) {
        struct powfast_job job;
        uint32_t block[16], low = (uint32_t)first & 0xffffff;
        uint32_t n = 0x1000000 - low, i = 0;
        if (n > count)
            n = (uint32_t)count;
        powfast_block_seed(block, puzzle->seed);
        powfast_block_tail(block + 8, part, first);
        powfast_job_prepare(&job, block, limit);
        /* A kernel only proposes candidates: the scalar code decides. */
        while ((i += kernel->search(&job, low + i, n - i)) < n) {
            if (solves(puzzle, part, first + i, limit)) {
                *nonce = first + i;
                return POWFAST_OK;
            }
            i++;
        }
        first += n;
        count -= n;
    }
    return POWFAST_NOT_FOUND;
}

powfast_status powfast_solve(uint64_t *nonces, const powfast_kernel *kernel,
                             const powfast_puzzle *puzzle) {
    powfast_status status = powfast_puzzle_check(puzzle);
    for (uint32_t i = 0; i < puzzle->parts && status == POWFAST_OK; i++)
        status = powfast_search(&nonces[i], kernel, puzzle, i, 0, UINT64_MAX);
    return status;
}

powfast_status powfast_solver_init(powfast_solver *solver, powfast_part *parts,
                                   const powfast_kernel *kernel, const powfast_puzzle *puzzle) {
    if (powfast_puzzle_check(puzzle) != POWFAST_OK)
        return POWFAST_INVALID_ARGUMENT;
    memset(parts, 0, puzzle->parts * sizeof *parts);
    *solver = (powfast_solver){
        .kernel = kernel, .puzzle = *puzzle, .parts = parts, .unsolved = puzzle->parts};
    return POWFAST_OK;
}

/* The next part in turn that nobody has solved. So threads begin on different parts and share
 * the last ones; leaving a part half searched costs nothing, for the search has no memory. */
static uint32_t pick(powfast_solver *solver) {
    uint32_t parts = solver->puzzle.parts;
    uint32_t part = __atomic_fetch_add(&solver->turn, 1, __ATOMIC_RELAXED) % parts;
    for (uint32_t i = 0; i < parts; i++) {
        if (!__atomic_load_n(&solver->parts[part].solved, __ATOMIC_RELAXED))
            break;
        part = part + 1 < parts ? part + 1 : 0;
    }
    return part;
}

/* Search one chunk of a part, by walks if there is scratch; returns how many nonces were tried. */
static uint64_t advance(powfast_solver *solver, uint64_t *scratch, uint32_t index) {
    const powfast_kernel *kernel = solver->kernel;
    const powfast_puzzle *puzzle = &solver->puzzle;
    powfast_part *part = &solver->parts[index];
    uint64_t chunk = scratch ? WALKS : CHUNK;
    uint64_t nonce, first = __atomic_fetch_add(&part->next, chunk, __ATOMIC_RELAXED);
    powfast_status status =
        scratch ? powfast_walk_search(&nonce, scratch, kernel, puzzle, index, first, chunk)
                : powfast_search(&nonce, kernel, puzzle, index, first, chunk);
    if (status != POWFAST_OK)
        return chunk;
    if (!__atomic_exchange_n(&part->solved, 1, __ATOMIC_RELAXED)) {
        part->nonce = nonce;
        __atomic_fetch_sub(&solver->unsolved, 1, __ATOMIC_RELEASE);
    }
    return nonce - first + 1;
}

static powfast_status run(powfast_solver *solver, uint64_t *scratch, uint64_t budget) {
    uint32_t part = pick(solver);
    for (uint64_t spent = 0; __atomic_load_n(&solver->unsolved, __ATOMIC_ACQUIRE);) {
        if (__atomic_load_n(&solver->cancelled, __ATOMIC_RELAXED))
            return POWFAST_CANCELLED;
        if (spent >= budget)
            return POWFAST_PENDING;
        if (__atomic_load_n(&solver->parts[part].solved, __ATOMIC_RELAXED))
            part = pick(solver);
        uint64_t tried = advance(solver, scratch, part);
        __atomic_fetch_add(&solver->evaluations, tried, __ATOMIC_RELAXED);
        spent += tried;
    }
    return POWFAST_OK;
}

powfast_status powfast_solver_run(powfast_solver *solver, uint64_t budget) {
    return run(solver, NULL, budget);
}

powfast_status powfast_walk_solver_run(powfast_solver *solver, uint64_t *scratch,
                                       uint64_t budget) {
    return powfast_is_scratch(scratch) ? run(solver, scratch, budget) : POWFAST_INVALID_ARGUMENT;
}

void powfast_solver_cancel(powfast_solver *solver) {
    __atomic_store_n(&solver->cancelled, 1, __ATOMIC_RELAXED);
}

uint64_t powfast_solver_evaluations(const powfast_solver *solver) {
    return __atomic_load_n(&solver->evaluations, __ATOMIC_RELAXED);
}

void powfast_solver_nonces(uint64_t *nonces, const powfast_solver *solver) {
    for (uint32_t i = 0; i < solver->puzzle.parts; i++)
        nonces[i] = solver->parts[i].nonce;
}
