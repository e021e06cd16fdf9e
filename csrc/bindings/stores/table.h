// What is known of ids, in one block of memory: nodes of their own would miss the cache at every
// step, and make an event loop wait while a million of them move or are freed.
#ifndef POWFAST_TABLE_H
#define POWFAST_TABLE_H

#include <cstdlib>
#include <memory>
#include <random>
#include <type_traits>

#include "ids.h"

// Open addressing with linear probing. A pointer to a value holds until an id comes or goes.
template <typename Value> class Table {
    static_assert(std::is_trivially_copyable<Value>::value, "slots move, and begin as zeros");

  public:
    // Room for `expected` ids before any has to move.
    explicit Table(size_t expected = 0) {
        while (expected > room())
            bits_++;
        slots_ = allocated();
    }

    size_t size() const { return size_; }

    // Null: the id is not there.
    Value *find(const Id &id) {
        Slot &slot = slots_[index_of(id)];
        return slot.taken() ? &slot.value : nullptr;
    }

    // The value of an id; zeros, where it is new.
    Value &operator[](const Id &id) {
        if (Value *found = find(id))
            return *found;
        if (size_ == room())
            grow();
        Slot &slot = slots_[index_of(id)];
        slot.id = id;
        size_++;
        return slot.value;
    }

    void erase(const Id &id) {
        size_t hole = index_of(id);
        if (!slots_[hole].taken())
            return;
        // who was kept from the hole by those before it moves there, and leaves the next one
        for (size_t at = after(hole); slots_[at].taken(); at = after(at)) {
            size_t from_home = at - home(slots_[at].id), from_hole = at - hole;
            if ((from_home & mask()) >= (from_hole & mask())) {
                slots_[hole] = slots_[at];
                hole = at;
            }
        }
        slots_[hole] = Slot();
        size_--;
    }

  private:
    struct Slot {
        Id id{}; // zeros: free, for nobody finds names with such an id
        Value value{};

        bool taken() const { return id != Id(); }
    };

    struct Free {
        void operator()(Slot *slots) const { std::free(slots); }
    };
    using Slots = std::unique_ptr<Slot[], Free>;

    size_t mask() const { return ((size_t)1 << bits_) - 1; }
    size_t room() const { return ((size_t)5 << bits_) / 8; }
    size_t after(size_t index) const { return (index + 1) & mask(); }

    // Multiplied by what nobody knows, lest requests are chosen to meet at one home.
    size_t home(const Id &id) const {
        uint64_t word;
        std::memcpy(&word, id.data(), sizeof word);
        return (size_t)(word * secret_ >> (64 - bits_));
    }

    // Where an id is, or would come.
    size_t index_of(const Id &id) const {
        size_t index = home(id);
        while (slots_[index].taken() && slots_[index].id != id)
            index = after(index);
        return index;
    }

    void grow() {
        Table larger(room() + 1);
        for (size_t i = 0; i <= mask(); i++)
            if (slots_[i].taken())
                larger.slots_[larger.index_of(slots_[i].id)] = slots_[i];
        larger.size_ = size_;
        *this = std::move(larger);
    }

    // Zeros of the system's, which take memory only once they are written.
    Slots allocated() const {
        Slots slots(static_cast<Slot *>(std::calloc(mask() + 1, sizeof(Slot))));
        if (!slots)
            throw std::bad_alloc();
        return slots;
    }

    static uint64_t secret() {
        static const uint64_t odd =
            (uint64_t)std::random_device()() << 32 | std::random_device()() | 1;
        return odd;
    }

    uint64_t secret_ = secret();
    unsigned bits_ = 4;
    size_t size_ = 0;
    Slots slots_;
};

#endif
