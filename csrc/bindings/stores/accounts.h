// What a ledger remembers within one process: accounts, requests and spent challenges by their ids.
#ifndef POWFAST_ACCOUNTS_H
#define POWFAST_ACCOUNTS_H

#include <cmath>
#include <cstdlib>
#include <list>
#include <map>
#include <utility>

#include "records.h"
#include "table.h"

// Sketches of accounts, each packed in a block of its own.
class Sketches {
  public:
    Sketches() = default;
    Sketches(const Sketches &) = delete;

    void read(const Id &id, powfast_sketch *sketch) {
        Block *found = size() ? by_id_.find(id) : nullptr;
        unpack_sketch(found ? found->bytes : nullptr, found ? found->length : 0, sketch);
    }

    // Without a sketch, or where it holds nothing, there is none afterwards.
    void write(const Id &id, const powfast_sketch *sketch) {
        size_t length = packed_bytes(sketch);
        if (length == 0)
            return erase(id);
        Block &block = by_id_[id];
        if (block.length != length) {
            std::free(std::exchange(block, Block{}).bytes);
            block = {allocated(length), length};
        }
        pack_sketch(block.bytes, *sketch);
    }

    void erase(const Id &id) {
        if (Block *found = size() ? by_id_.find(id) : nullptr) {
            std::free(found->bytes);
            by_id_.erase(id);
        }
    }

    size_t size() const { return by_id_.size(); }

  private:
    struct Block {
        uint8_t *bytes = nullptr;
        size_t length = 0;
    };

    static uint8_t *allocated(size_t length) {
        auto *bytes = static_cast<uint8_t *>(std::malloc(length));
        if (!bytes)
            throw std::bad_alloc();
        return bytes;
    }

    Table<Block> by_id_;
};

class Accounts {
  public:
    explicit Accounts(size_t most) : most_(most) {}
    Accounts(const Accounts &) = delete;

    ~Accounts() {
        for (const auto &[id, record] : queue_)
            sketches_.erase(id);
    }

    // Never there, or forgotten: false.
    bool has(const Id &id) { return by_id_.find(id); }

    // Zeros where there is none. sketch: room for its own, or null where none is kept.
    powfast_account read(const Id &id, powfast_sketch *sketch = nullptr) {
        powfast_account account{};
        if (Queue::iterator *found = by_id_.find(id))
            std::memcpy(static_cast<void *>(&account), &(*found)->second, sizeof(Record));
        if (sketch)
            sketches_.read(id, sketch);
        account.sketch = sketch;
        return account;
    }

    // Beyond `most` accounts, forget the one that was written least recently.
    void write(const Id &id, const powfast_account &account) {
        Record record;
        std::memcpy(&record, static_cast<const void *>(&account), sizeof record);
        sketches_.write(id, account.sketch);
        if (Queue::iterator *found = by_id_.find(id)) {
            (*found)->second = record;
            queue_.splice(queue_.end(), queue_, *found);
            return;
        }
        queue_.emplace_back(id, record);
        by_id_[id] = std::prev(queue_.end());
        if (queue_.size() > most_) {
            by_id_.erase(queue_.front().first);
            sketches_.erase(queue_.front().first);
            queue_.pop_front();
        }
    }

  private:
    using Record = std::array<double, kDoubles<powfast_account>>; // without the pointer
    using Queue = std::list<std::pair<Id, Record>>;

    size_t most_;
    Sketches sketches_;
    Queue queue_; // the one that was written last is last
    Table<Queue::iterator> by_id_;
};

// Requests of late: two generations, of which the older one is dropped whole.
class Requests {
  public:
    Requests(double remember, double now) : remember_(remember), turned_(now) {}

    powfast_request find(const Id &id, double now) {
        keep_up(now);
        const powfast_request *found = new_.find(id);
        if (!found)
            found = old_.find(id);
        return found ? *found : powfast_request{};
    }

    void write(const Id &id, const powfast_request &request, double now) {
        keep_up(now);
        if (request.phase == POWFAST_NO_REQUEST)
            new_.erase(id);
        else
            new_[id] = request;
        old_.erase(id);
    }

  private:
    using Generation = Table<powfast_request>;

    void keep_up(double now) {
        if (now - turned_ >= remember_)
            turn(now - turned_);
    }

    void turn(double elapsed) {
        bool follows = elapsed < 2 * remember_;
        Generation next(follows ? new_.size() : 0); // first, for there may be no memory for it
        old_ = follows ? std::move(new_) : Generation();
        new_ = std::move(next);
        turned_ += elapsed;
    }

    double remember_, turned_;
    Generation new_, old_;
};

// Spent challenges, in buckets by when they end, which are dropped whole.
class SpentChallenges {
  public:
    // Null: not spent.
    powfast_spent *find(const Id &id, double expires) {
        auto bucket = buckets_.find(bucket_of(expires));
        return bucket == buckets_.end() ? nullptr : bucket->second.find(id);
    }

    void write(const Id &id, double expires, const powfast_spent &spent) {
        buckets_[bucket_of(expires)][id] = spent;
    }

    void forget(double ended_before) {
        while (!buckets_.empty() && buckets_.begin()->first < bucket_of(ended_before))
            buckets_.erase(buckets_.begin());
    }

  private:
    static constexpr double kSeconds = 10;

    static int64_t bucket_of(double seconds) { return (int64_t)std::floor(seconds / kSeconds); }

    std::map<int64_t, Table<powfast_spent>> buckets_;
};

#endif
