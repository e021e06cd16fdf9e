// The memory of a thread that takes walks (powfast.h, cachewalk).
#ifndef POWFAST_SCRATCH_H
#define POWFAST_SCRATCH_H

#include <memory>
#include <new>

#include "powfast.h"

class Scratch {
  public:
    uint64_t *words() const { return words_.get(); }

  private:
    static constexpr std::align_val_t kLine{64}; // a row is a line of the cache

    struct Release {
        void operator()(uint64_t *words) const { ::operator delete[](words, kLine); }
    };

    std::unique_ptr<uint64_t[], Release> words_{new (kLine) uint64_t[POWFAST_WALK_WORDS]};
};

#endif
