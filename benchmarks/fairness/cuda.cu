/*
 * Both algorithms on an NVIDIA card: known answers, then digests a second.
 *
 *     nvcc -O3 -arch=native -o fairness-cuda benchmarks/fairness/cuda.cu && ./fairness-cuda [seconds]
 *
 * Prints one line of JSON. Rates are those of whole launches, each made until the seconds are over.
 */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>

#include <cuda_runtime.h>

#include "search.cl"

namespace {

constexpr size_t STATE = WORDS * sizeof(u64);
constexpr int LOCAL_BYTES = (LOCAL_WORDS + 8) * sizeof(u64);

struct Known {
    u32 part;
    u64 nonce, digest;
};
const Known HASHES[] = {{3, 5, 0xeb0ae5ce0cf949b3}, {3, 6, 0xcbca136b533351c8}};
const Known WALKS[] = {{0, 0, 0x608545191421d53f},
                       {0, 1, 0xadd2fd42a7ce5824},
                       {3, (1 << 24) + 5, 0xd8ef3e3097ee5f1e},
                       {1023, ~0ull, 0xd45ae0bdf76d411b}};

void check(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
}

/* Starts a search from a nonce of a part, `count` nonces for each of its walkers. */
using Search = std::function<void(u32 part, u64 first, u32 count)>;

template <typename T> T *allocate(size_t count) {
    T *memory = nullptr;
    check(cudaMalloc(reinterpret_cast<void **>(&memory), count * sizeof(T)), "memory");
    return memory;
}

void run(const Search &search, u32 part, u64 first, u32 count) {
    search(part, first, count);
    check(cudaGetLastError(), "launch");
    check(cudaDeviceSynchronize(), "run");
}

template <size_t N>
void require(const Search &search, const u64 *smallest, const Known (&known)[N]) {
    for (const Known &answer : known) {
        u64 digest = 0;
        run(search, answer.part, answer.nonce, 1);
        check(cudaMemcpy(&digest, smallest, sizeof digest, cudaMemcpyDeviceToHost), "copy");
        if (digest == answer.digest)
            continue;
        std::fprintf(stderr, "part %u, nonce %llu: %016llx instead of %016llx\n", answer.part,
                     answer.nonce, digest, answer.digest);
        std::exit(1);
    }
}

double rate(const Search &search, size_t walkers, u32 count, double seconds) {
    using clock = std::chrono::steady_clock;
    run(search, 0, 0, count); /* until clocks and caches have settled */
    const auto begun = clock::now();
    double digests = 0, passed = 0;
    while (passed < seconds) {
        run(search, 0, static_cast<u64>(digests), count);
        digests += static_cast<double>(walkers) * count;
        passed = std::chrono::duration<double>(clock::now() - begun).count();
    }
    return digests / passed;
}

} // namespace

int main(int argc, char **argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 5.0;
    cudaDeviceProp card;
    size_t available = 0, total = 0;
    check(cudaGetDeviceProperties(&card, 0), "card");
    check(cudaMemGetInfo(&available, &total), "memory");

    const u32 group = 32, hashers = 256 * 4096;
    const size_t multiprocessors = card.multiProcessorCount;
    const size_t most = available / 10 * 9 / STATE / group * group;
    u32 *seed = allocate<u32>(8);
    u64 *smallest = allocate<u64>(std::max<size_t>(hashers, most));
    u64 *states = allocate<u64>(most * WORDS);
    const u32 words[8] = {0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f,
                           0x10111213, 0x14151617, 0x18191a1b, 0x1c1d1e1f};
    check(cudaMemcpy(seed, words, sizeof words, cudaMemcpyHostToDevice), "copy");

    const Search hashes = [=](u32 part, u64 first, u32 count) {
        search_hashes<<<hashers / 256, 256>>>(smallest, seed, part, first, count);
    };
    require(hashes, smallest, HASHES);
    std::printf("{\"card\": \"%s\", \"hashes\": %.6g", card.name,
                rate(hashes, hashers, 256, seconds));

    /* from a quarter of the cache to all of the memory: one of them is the best */
    const size_t cached = std::max<size_t>(group, card.l2CacheSize / STATE / 4 / group * group);
    for (size_t walkers = cached; walkers <= most; walkers *= 2) {
        const Search walks = [=](u32 part, u64 first, u32 count) {
            search_walks<<<walkers / group, group>>>(smallest, seed, part, first, count, states);
        };
        require(walks, smallest, WALKS);
        std::printf(", \"walks, %zu states\": %.6g", walkers, rate(walks, walkers, 4, seconds));
    }

    if (card.sharedMemPerBlockOptin >= LOCAL_BYTES) {
        check(cudaFuncSetAttribute(search_walks_locally,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, LOCAL_BYTES),
              "shared memory");
        const Search walks = [=](u32 part, u64 first, u32 count) {
            search_walks_locally<<<multiprocessors, 8, LOCAL_BYTES>>>(smallest, seed, part, first,
                                                                      count);
        };
        require(walks, smallest, WALKS);
        std::printf(", \"walks, shared memory\": %.6g", rate(walks, multiprocessors, 16, seconds));
    }
    std::printf("}\n");
    return 0;
}
