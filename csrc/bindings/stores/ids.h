// What the stores of one process know accounts and requests by.
#ifndef POWFAST_IDS_H
#define POWFAST_IDS_H

#include <algorithm>
#include <array>

#include "objects.h"

// The first 192 bits of the SHA-256 of names, however long they are: nobody finds two that agree.
using Id = std::array<uint8_t, 24>;

inline Id id_of(const powfast_kernel *kernel, const powfast_field *names, size_t count) {
    static thread_local std::string block; // keeps its memory for the next one
    block.clear();
    for (size_t i = 0; i < count; i++)
        append(&block, names[i]);
    uint8_t digest[32];
    powfast_sha256(digest, kernel, reinterpret_cast<const uint8_t *>(block.data()), block.size());
    Id id;
    std::copy_n(digest, id.size(), id.begin());
    return id;
}

#endif
