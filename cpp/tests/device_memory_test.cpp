#include "platform/device_memory.h"

#include "simpler/errors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace simpler {
namespace {

PlatformInfo with_memory(uint64_t nbytes) {
  PlatformInfo info = find_platform("a2a3sim");
  info.device_memory_nbytes = nbytes;
  return info;
}

void *at(uint64_t address) { return reinterpret_cast<void *>(address); }

TEST(DeviceMemory, KnowsTheBoundsOfWhatIsLive) {
  DeviceMemory memory(with_memory(1 << 20));
  const uint64_t a = memory.allocate(1000), b = memory.allocate(1000);
  EXPECT_TRUE(memory.contains(a, 1000));
  EXPECT_TRUE(memory.contains(a + 999, 1));
  EXPECT_TRUE(memory.contains(a + 1000, 0));
  EXPECT_FALSE(memory.contains(a, 1001)) << "not even where the block has room to spare";
  EXPECT_FALSE(memory.contains(a + 1000, 1));
  EXPECT_FALSE(memory.contains(a - 1, 1));
  EXPECT_FALSE(memory.contains(a, b - a + 1)) << "over two blocks";
  EXPECT_FALSE(memory.contains(a + 10, ~0ULL));
  memory.release(a);
  EXPECT_FALSE(memory.contains(a, 1));
  EXPECT_TRUE(memory.contains(b, 1000));
}

TEST(DeviceMemory, RefusesWhatItNeverGave) {
  for (const char *name : {"a2a3sim", "cpu"}) {
    DeviceMemory memory(find_platform(name));
    const uint64_t a = memory.allocate(64);
    EXPECT_THROW(memory.release(a + 1), DeviceMemoryError);
    memory.release(a);
    EXPECT_THROW(memory.release(a), DeviceMemoryError);
  }
}

TEST(DeviceMemory, SaysWhatIsLiveWhenExhausted) {
  DeviceMemory memory(with_memory(1 << 20));
  memory.allocate(1 << 19);
  try {
    memory.allocate((1 << 19) + 1);
    FAIL() << "expected DeviceMemoryError";
  } catch (const DeviceMemoryError &e) {
    EXPECT_NE(std::string(e.what()).find("524289 bytes asked for, 524288 bytes live in 1 blocks"), std::string::npos)
        << e.what();
  }
  EXPECT_THROW(memory.allocate(~0ULL), DeviceMemoryError);
}

TEST(DeviceMemory, IsSparse) {
  DeviceMemory memory(find_platform("a2a3sim"));
  const uint64_t a = memory.allocate(uint64_t{32} << 30);
  std::memset(at(a + (uint64_t{31} << 30)), 1, 100);
  EXPECT_TRUE(memory.contains(a, uint64_t{32} << 30));
  memory.release(a);
}

TEST(DeviceMemory, RandomUseNeverOverlapsAndLosesNothing) {
  constexpr uint64_t NBYTES = 1 << 20;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    DeviceMemory memory(with_memory(NBYTES));
    std::map<uint64_t, uint64_t> live;
    for (int step = 0; step < 2000; ++step) {
      if (random() % 5 < 3) {
        const uint64_t nbytes = random() % 20000;
        uint64_t address = 0;
        try {
          address = memory.allocate(nbytes);
        } catch (const DeviceMemoryError &) {
          continue;
        }
        const auto after = live.upper_bound(address);
        if (after != live.end()) {
          EXPECT_LE(address + nbytes, after->first);
        }
        if (after != live.begin()) {
          EXPECT_LE(std::prev(after)->first + std::prev(after)->second, address);
        }
        EXPECT_TRUE(live.emplace(address, nbytes).second);
        EXPECT_EQ(address % DeviceMemory::ALIGNMENT, 0u);
      } else if (!live.empty()) {
        const auto it = std::next(live.begin(), static_cast<long>(random() % live.size()));
        memory.release(it->first);
        live.erase(it);
      }
    }
    for (const auto &[address, nbytes] : live)
      memory.release(address);
    EXPECT_EQ(memory.live_blocks(), 0u);
    EXPECT_NO_THROW(memory.release(memory.allocate(NBYTES))) << "free blocks have not grown together again";
  }
}

} // namespace
} // namespace simpler
