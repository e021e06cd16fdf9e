// Which answers wait, how long and whose: accounts share a bounded number of bytes. What ends
// first, of all and of each account, and who holds most are found at once.
#ifndef POWFAST_HELD_PLACES_H
#define POWFAST_HELD_PLACES_H

#include <cstdint>
#include <memory>
#include <random>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ids.h"

namespace held {

class Answer;

// A binary heap whose elements know where in it they are, so that any of them can move or leave.
template <typename Element, size_t Element::*position,
          bool (*before)(const Element &, const Element &)>
class Heap {
  public:
    bool empty() const { return elements_.empty(); }
    Element &first() const { return *elements_.front(); }

    void push(Element *element) {
        elements_.push_back(element);
        element->*position = elements_.size() - 1;
        moved(element);
    }

    // An element that is not there is none the less gone.
    void erase(Element *element) {
        size_t hole = std::exchange(element->*position, SIZE_MAX);
        if (hole == SIZE_MAX)
            return;
        Element *last = elements_.back();
        elements_.pop_back();
        if (last != element) {
            set(hole, last);
            moved(last);
        }
    }

    // Bring an element whose order has changed to where it belongs.
    void moved(Element *element) {
        size_t at = element->*position;
        for (; at > 0 && before(*element, *elements_[(at - 1) / 2]); at = (at - 1) / 2)
            set(at, elements_[(at - 1) / 2]);
        for (size_t child; (child = first_child(at)) && before(*elements_[child], *element);
             at = child)
            set(at, elements_[child]);
        set(at, element);
    }

  private:
    // 0: it has none.
    size_t first_child(size_t at) const {
        size_t left = 2 * at + 1, right = left + 1;
        if (left >= elements_.size())
            return 0;
        return right < elements_.size() && before(*elements_[right], *elements_[left]) ? right
                                                                                        : left;
    }

    void set(size_t at, Element *element) {
        elements_[at] = element;
        element->*position = at;
    }

    std::vector<Element *> elements_;
};

struct Account;

struct Place {
    Id id;
    Account *account;
    double expires = 0;
    size_t size = 0;
    bool paid = false;
    std::shared_ptr<const Answer> answer{};
    size_t among_all = SIZE_MAX, in_account = SIZE_MAX;
};

inline bool ends_before(const Place &one, const Place &other) {
    return std::tie(one.expires, one.id) < std::tie(other.expires, other.id);
}

struct Account {
    Id id;
    size_t bytes = 0;
    Heap<Place, &Place::in_account, ends_before> places{};
    size_t among_all = SIZE_MAX;
};

inline bool holds_more(const Account &one, const Account &other) {
    return std::tie(one.bytes, one.id) > std::tie(other.bytes, other.id);
}

// Multiplied by what nobody knows, lest accounts are chosen to meet in one bucket.
struct IdHash {
    uint64_t secret = (uint64_t)std::random_device()() << 32 | std::random_device()() | 1;

    size_t operator()(const Id &id) const {
        uint64_t word;
        std::memcpy(&word, id.end() - sizeof word, sizeof word); // where runs are random
        return (size_t)(word * secret >> 16);
    }
};

struct Limits {
    size_t all_bytes, answer_bytes; // an answer's overhead counts in both
    size_t expire_at_once, evict_at_once;
};

class Places {
  public:
    explicit Places(const Limits &limits) : limits_(limits) {}

    size_t count() const { return places_.size(); }
    size_t bytes() const { return bytes_; }

    // Of those that ended since the last call, how many had not been paid; how many made room.
    size_t abandoned() { return std::exchange(abandoned_, 0); }
    size_t evicted() { return std::exchange(evicted_, 0); }

    // Drop answers that have ended; no more at once than others can wait for.
    void expire(double now) {
        for (size_t i = 0; i < limits_.expire_at_once && !ends_.empty(); i++) {
            if (ends_.first().expires > now)
                return;
            end(ends_.first());
        }
    }

    // Whether the answer is kept. One that is known has the same time left as before.
    bool put(const Id &id, const Id &account, double now, double expires, size_t size,
             std::shared_ptr<const Answer> answer) {
        bool paid = false;
        if (Place *known = find(id, now)) {
            expires = known->expires;
            paid = known->paid;
            drop(*known);
        }
        if (size > limits_.answer_bytes || !make_room(account, size))
            return false;
        Place &place = add(id, account, expires);
        place.paid = paid;
        place.answer = std::move(answer);
        count(place, size);
        return true;
    }

    // Null: it is not held.
    Place *find(const Id &id, double now) {
        auto found = places_.find(id);
        if (found == places_.end())
            return nullptr;
        Place &place = found->second;
        if (place.expires > now)
            return &place;
        end(place);
        return nullptr;
    }

    void pay(Place &place, double until) {
        place.paid = true;
        if (until > place.expires) {
            place.expires = until;
            ends_.moved(&place);
            place.account->places.moved(&place);
        }
    }

  private:
    // An account may hold as much as is left free (dynamic thresholds: Choudhury and Hahne, 1998),
    // and half of an equal share in any case: then whoever holds most makes room. It holds more
    // than this account, since no answer is larger than a sixteenth of all.
    bool make_room(const Id &account, size_t size) {
        auto found = accounts_.find(account);
        bool is_new = found == accounts_.end();
        size_t mine = is_new ? 0 : found->second.bytes, sharing = accounts_.size() + is_new;
        if (mine > free() && mine > limits_.all_bytes / sharing / 2)
            return false;
        for (size_t i = 0; i < limits_.evict_at_once && size > free() && !largest_.empty(); i++) {
            drop(largest_.first().places.first());
            evicted_++;
        }
        return size <= free();
    }

    size_t free() const { return limits_.all_bytes - bytes_; }

    // A place that counts nothing yet; without memory, all stays as it was.
    Place &add(const Id &id, const Id &account_id, double expires) {
        Account &account = accounts_.try_emplace(account_id, Account{account_id}).first->second;
        Place *place = nullptr;
        try {
            place = &places_.try_emplace(id, Place{id, &account, expires}).first->second;
            ends_.push(place);
            account.places.push(place);
            if (account.among_all == SIZE_MAX)
                largest_.push(&account);
        } catch (...) {
            if (place)
                drop(*place);
            else
                forget_if_empty(account);
            throw;
        }
        return *place;
    }

    void count(Place &place, size_t size) {
        bytes_ += size - place.size;
        place.account->bytes += size - place.size;
        place.size = size;
        largest_.moved(place.account);
    }

    void end(Place &place) {
        abandoned_ += !place.paid;
        drop(place);
    }

    void drop(Place &place) {
        Account &account = *place.account;
        Id id = place.id;
        bytes_ -= place.size;
        account.bytes -= place.size;
        ends_.erase(&place);
        account.places.erase(&place);
        places_.erase(id);
        forget_if_empty(account);
    }

    void forget_if_empty(Account &account) {
        if (account.places.empty()) {
            Id id = account.id;
            largest_.erase(&account);
            accounts_.erase(id);
        } else {
            largest_.moved(&account);
        }
    }

    Limits limits_;
    std::unordered_map<Id, Place, IdHash> places_{};
    std::unordered_map<Id, Account, IdHash> accounts_{};
    Heap<Place, &Place::among_all, ends_before> ends_{};
    Heap<Account, &Account::among_all, holds_more> largest_{};
    size_t bytes_ = 0, abandoned_ = 0, evicted_ = 0;
};

} // namespace held

#endif
