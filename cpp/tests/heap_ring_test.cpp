#include "aicpu/heap_ring.h"

#include <gtest/gtest.h>

#include <list>
#include <random>

namespace simpler {
namespace {

constexpr uint64_t BASE = 1 << 20, UNIT = HeapRing::ALIGNMENT;

TEST(HeapRing, GivesOutEveryByteAndNoMore) {
  HeapRing ring("ring", BASE, 4 * UNIT);
  for (int i = 0; i < 4; ++i)
    EXPECT_NE(ring.try_alloc(UNIT), nullptr);
  EXPECT_EQ(ring.try_alloc(1), nullptr);
  EXPECT_EQ(ring.used(), 4 * UNIT);
  EXPECT_EQ(ring.live(), 4u);
}

TEST(HeapRing, ReclaimsOldestFirst) {
  HeapRing ring("ring", BASE, 2 * UNIT);
  auto *a = ring.try_alloc(UNIT), *b = ring.try_alloc(UNIT);
  b->open = false;
  EXPECT_EQ(ring.try_alloc(UNIT), nullptr) << "a is in the way";
  a->hold();
  a->open = false;
  EXPECT_EQ(ring.try_alloc(UNIT), nullptr) << "a task holds a";
  a->drop();
  EXPECT_NE(ring.try_alloc(2 * UNIT), nullptr);
}

TEST(HeapRing, MoreThanItsSizeNeverFits) {
  HeapRing ring("ring", BASE, 2 * UNIT);
  EXPECT_EQ(ring.try_alloc(2 * UNIT + 1), nullptr);
  EXPECT_EQ(ring.try_alloc(~0ULL), nullptr);
  EXPECT_NE(ring.try_alloc(2 * UNIT), nullptr);
}

TEST(HeapRing, RandomUseNeverOverlapsAndLosesNothing) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    const uint64_t nbytes = UNIT * (1 + random() % 40);
    HeapRing ring("ring", BASE, nbytes);
    std::list<HeapRing::Block *> open, held;
    for (int step = 0; step < 3000; ++step) {
      switch (random() % 4) {
      case 0:
      case 1: {
        const uint64_t want = random() % (UNIT * 6);
        auto *block = ring.try_alloc(want);
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
          (*it)->hold();
          (*it)->open = false;
          held.splice(held.end(), open, it);
        }
        break;
      case 3:
        if (!held.empty()) {
          auto it = std::next(held.begin(), static_cast<long>(random() % held.size()));
          (*it)->drop();
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
    for (auto *block : held)
      block->drop();
    EXPECT_NE(ring.try_alloc(nbytes), nullptr) << "all of it is free again";
  }
}

} // namespace
} // namespace simpler
