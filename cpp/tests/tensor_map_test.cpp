// The TensorMap against a model that remembers writer and readers of every single byte.
#include "graph/tensor_map.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace simpler {
namespace {

using Ids = std::set<uint64_t>;

struct Access {
  uint64_t begin, end;
  bool writes;
  uint64_t rows = 1, pitch = 0; // so many runs, so far apart
};

class ByteModel {
public:
  explicit ByteModel(size_t nbytes) : bytes_(nbytes) {}
  Ids access(const Access &a, uint64_t task, const Ids &live) {
    Ids found;
    for (uint64_t n = 0; n < a.rows * (a.end - a.begin); ++n) {
      Byte &byte = bytes_[a.begin + n / (a.end - a.begin) * a.pitch + n % (a.end - a.begin)];
      found.insert(byte.writer);
      if (a.writes) {
        found.insert(byte.readers.begin(), byte.readers.end());
        byte = {task, {}};
      } else {
        byte.readers.insert(task);
      }
    }
    Ids kept;
    for (uint64_t id : found)
      if (id != task && live.count(id) != 0)
        kept.insert(id);
    return kept;
  }

private:
  struct Byte {
    uint64_t writer = ~0ULL;
    Ids readers;
  };
  std::vector<Byte> bytes_;
};

constexpr uint64_t BUFFER = 4096;

Ids access(TensorMap &map, const Access &a, uint64_t task, const Ids &live) {
  Ids found;
  map.access(
      BUFFER, {BUFFER + a.begin, a.end - a.begin, a.rows, a.pitch}, a.writes, TaskId(task, 0), 0,
      [&](TaskId id) { return live.count(id.number()) != 0; }, [&](TaskId id) { found.insert(id.number()); });
  return found;
}

TEST(TensorMap, WritersAndReadersWaitForEachOther) {
  TensorMap map;
  const Ids live = {0, 1, 2, 3};
  EXPECT_EQ(access(map, {0, 100, true}, 0, live), Ids{});
  EXPECT_EQ(access(map, {0, 100, false}, 1, live), Ids{0}) << "read after write";
  EXPECT_EQ(access(map, {0, 100, false}, 2, live), Ids{0}) << "reads don't wait for each other";
  EXPECT_EQ(access(map, {0, 100, true}, 3, live), (Ids{0, 1, 2})) << "write after read and write";
}

TEST(TensorMap, OneSharedByteIsEnough) {
  TensorMap map;
  const Ids live = {0, 1, 2};
  access(map, {10, 20, true}, 0, live);
  EXPECT_EQ(access(map, {20, 30, true}, 1, live), Ids{}) << "touching is not overlapping";
  EXPECT_EQ(access(map, {19, 21, false}, 2, live), (Ids{0, 1}));
}

TEST(TensorMap, ATaskDoesNotWaitForItself) {
  TensorMap map;
  EXPECT_EQ(access(map, {0, 8, false}, 0, {0}), Ids{});
  EXPECT_EQ(access(map, {0, 8, true}, 0, {0}), Ids{});
  EXPECT_EQ(access(map, {4, 6, false}, 0, {0}), Ids{});
}

TEST(TensorMap, RandomAccessesAgreeWithTheModel) {
  constexpr uint64_t NBYTES = 200;
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    TensorMap map;
    ByteModel model(NBYTES);
    Ids live;
    for (uint64_t task = 0; task < 300; ++task) {
      live.insert(task);
      for (unsigned i = 0; i < 1 + random() % 3; ++i) {
        const uint64_t begin = random() % NBYTES, end = begin + 1 + random() % std::min<uint64_t>(NBYTES - begin, 40);
        const Access a{begin, end, random() % 2 == 0};
        EXPECT_EQ(access(map, a, task, live), model.access(a, task, live)) << "seed " << seed << ", task " << task;
      }
      if (random() % 2 == 0 && live.size() > 1) // some task ends
        live.erase(std::next(live.begin(), static_cast<long>(random() % (live.size() - 1))));
    }
  }
}

TEST(TensorMap, BlocksOfOneBufferMeetOnlyWhereTheyShareBytes) {
  TensorMap map;
  const Ids live = {0, 1, 2, 3, 4};
  EXPECT_EQ(access(map, {0, 8, true, 4, 32}, 0, live), Ids{});
  EXPECT_EQ(access(map, {8, 16, true, 4, 32}, 1, live), Ids{}) << "the columns beside it";
  EXPECT_EQ(access(map, {128, 136, true, 4, 32}, 2, live), Ids{}) << "the rows below it";
  EXPECT_EQ(access(map, {7, 9, false, 2, 32}, 3, live), (Ids{0, 1}));
  EXPECT_EQ(access(map, {0, 32, true, 8, 32}, 4, live), (Ids{0, 1, 2, 3})) << "all of it";
}

TEST(TensorMap, RandomBlocksAgreeWithTheModel) {
  constexpr uint64_t NBYTES = 256;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    TensorMap map;
    ByteModel model(NBYTES);
    Ids live;
    const uint64_t pitches[] = {16, 16, 16, seed % 3 == 0 ? uint64_t{20} : uint64_t{16}, seed % 5 == 0 ? 32U : 16U};
    for (uint64_t task = 0; task < 150; ++task) {
      live.insert(task);
      for (unsigned i = 0; i < 1 + random() % 3; ++i) {
        Access a{random() % NBYTES, 0, random() % 2 == 0, 1, 0};
        const uint64_t pitch = pitches[random() % 5];
        if (random() % 4 == 0) { // a dense range
          a.end = a.begin + 1 + random() % std::min<uint64_t>(NBYTES - a.begin, 60);
        } else {
          a.pitch = pitch;
          a.end = std::min(NBYTES, a.begin + 1 + random() % (pitch - a.begin % pitch));
          a.rows = 1 + random() % ((NBYTES - a.end) / pitch + 1);
        }
        EXPECT_EQ(access(map, a, task, live), model.access(a, task, live)) << "seed " << seed << ", task " << task;
      }
      if (random() % 2 == 0 && live.size() > 1) // some task ends
        live.erase(std::next(live.begin(), static_cast<long>(random() % (live.size() - 1))));
    }
  }
}

// Each window overlaps the next thousand: slow would be fine, a million of millions would not end.
TEST(TensorMap, ManyWindowsThatOverlapStayFewSegments) {
  TensorMap map;
  uint64_t found = 0;
  for (uint64_t task = 0; task < 4096; ++task)
    map.access(
        BUFFER, {BUFFER + task, 1024, 1, 0}, true, TaskId(task, 0), 0, [](TaskId) { return true; },
        [&](TaskId) { ++found; });
  EXPECT_LE(found, 2u * 4096);
  EXPECT_LE(map.segments(), 4096u + 1);
}

TEST(TensorMap, IsUsedAgainAfterItWasLarge) {
  TensorMap map;
  for (int time = 0; time < 3; ++time) {
    uint64_t found = 0;
    for (uint64_t task = 0; task < 70'000; ++task)
      map.access(
          BUFFER, {BUFFER + task * 8, 8, 1, 0}, true, TaskId(task, 0), 0, [](TaskId) { return true; },
          [&](TaskId) { ++found; });
    EXPECT_EQ(found, 0u);
    EXPECT_EQ(map.segments(), 70'000u);
    map.clear();
    EXPECT_EQ(map.segments(), 0u);
  }
}

TEST(TensorMap, WhatIsThroughIsForgotten) {
  TensorMap map;
  const Ids live = {};
  for (uint64_t task = 0; task < 100000; ++task) {
    access(map, {task * 64, task * 64 + 64, true}, task, live);
    access(map, {1, 2, false}, task, live);
  }
  EXPECT_LT(map.segments(), 3000u);
}

} // namespace
} // namespace simpler
