// The TensorMap against a model that remembers writer and readers of every single byte.
#include "aicpu/tensor_map.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace simpler {
namespace {

using Ids = std::set<uint64_t>;

struct Access {
  uint64_t begin, end;
  bool writes;
};

class ByteModel {
public:
  explicit ByteModel(size_t nbytes) : bytes_(nbytes) {}
  Ids access(const Access &a, uint64_t task, const Ids &live) {
    Ids found;
    for (uint64_t i = a.begin; i < a.end; ++i) {
      Byte &byte = bytes_[i];
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

Ids access(TensorMap &map, const Access &a, uint64_t task, const Ids &live) {
  Ids found;
  map.access(
      a.begin, a.end, a.writes, task, [&](uint64_t id) { return live.count(id) != 0; },
      [&](uint64_t id) { found.insert(id); });
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
