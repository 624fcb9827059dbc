#include "graph/heap_ring.h"

#include <gtest/gtest.h>

#include <list>
#include <map>
#include <random>
#include <set>

namespace simpler {
namespace {

constexpr uint64_t BASE = 1 << 20, UNIT = HeapRing::ALIGNMENT;

// A ring, and the tasks that are not through.
struct Ring : HeapRing {
  explicit Ring(uint64_t nbytes) : HeapRing("ring", BASE, nbytes) {}
  Block *take(uint64_t nbytes) {
    return try_alloc(nbytes, 0, [this](TaskId id) { return live.count(id.number()) != 0; }, [](const Block &) {});
  }
  uint64_t use(Block &block) {
    live.insert(++tasks);
    block.users.add(TaskId(tasks, 0), [](TaskId) { return true; });
    return tasks;
  }
  std::set<uint64_t> live; // tasks
  uint64_t tasks = 0;
};

TEST(HeapRing, GivesOutEveryByteAndNoMore) {
  Ring ring(4 * UNIT);
  for (int i = 0; i < 4; ++i)
    EXPECT_NE(ring.take(UNIT), nullptr);
  EXPECT_EQ(ring.take(1), nullptr);
  EXPECT_EQ(ring.used(), 4 * UNIT);
  EXPECT_EQ(ring.live_blocks(), 4u);
}

TEST(HeapRing, ReclaimsOldestFirst) {
  Ring ring(2 * UNIT);
  auto *a = ring.take(UNIT), *b = ring.take(UNIT);
  b->open = false;
  EXPECT_EQ(ring.take(UNIT), nullptr) << "a is in the way";
  const uint64_t task = ring.use(*a);
  a->open = false;
  EXPECT_EQ(ring.take(UNIT), nullptr) << "a task uses a";
  ring.live.erase(task);
  EXPECT_NE(ring.take(2 * UNIT), nullptr);
}

TEST(HeapRing, MoreThanItsSizeNeverFits) {
  Ring ring(2 * UNIT);
  EXPECT_EQ(ring.take(2 * UNIT + 1), nullptr);
  EXPECT_EQ(ring.take(~0ULL), nullptr);
  EXPECT_NE(ring.take(2 * UNIT), nullptr);
}

TEST(HeapRing, RandomUseNeverOverlapsAndLosesNothing) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    const uint64_t nbytes = UNIT * (1 + random() % 40);
    Ring ring(nbytes);
    std::list<HeapRing::Block *> open, held;
    std::map<HeapRing::Block *, uint64_t> users;
    for (int step = 0; step < 3000; ++step) {
      switch (random() % 4) {
      case 0:
      case 1: {
        const uint64_t want = random() % (UNIT * 6);
        auto *block = ring.take(want);
        if (block == nullptr)
          break;
        EXPECT_EQ(block->begin % UNIT, BASE % UNIT);
        EXPECT_GE(block->begin, BASE);
        EXPECT_LE(block->begin + want, BASE + nbytes);
        for (const auto &others : {open, held})
          for (auto *other : others)
            EXPECT_TRUE(block->begin + block->occupied <= other->begin ||
                        other->begin + other->occupied <= block->begin)
                << "seed " << seed;
        open.push_back(block);
        break;
      }
      case 2:
        if (!open.empty()) { // a scope ends while a task still uses the block
          auto it = std::next(open.begin(), static_cast<long>(random() % open.size()));
          users[*it] = ring.use(**it);
          (*it)->open = false;
          held.splice(held.end(), open, it);
        }
        break;
      case 3:
        if (!held.empty()) {
          auto it = std::next(held.begin(), static_cast<long>(random() % held.size()));
          ring.live.erase(users[*it]);
          held.erase(it);
        }
      }
      for (const auto &blocks : {open, held})
        for (auto *block : blocks) {
          EXPECT_EQ(ring.find(block->begin), block);
          EXPECT_EQ(ring.find(block->begin + block->occupied - 1), block);
        }
    }
    for (auto *block : open)
      block->open = false;
    ring.live.clear();
    EXPECT_NE(ring.take(nbytes), nullptr) << "all of it is free again";
  }
}

} // namespace
} // namespace simpler
