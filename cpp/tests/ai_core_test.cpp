// Local memory of the cores.
#include "graph_chip.h"

#include "expect.h"
#include "simpler/errors.h"

#include <cstring>

namespace simpler {
namespace {

TEST(LocalMemory, IsAlignedLimitedAndGivenBack) {
  Chip chip(1);
  const Kernel fits = [](Core &core, TaskArgsView) {
    for (int round = 0; round < 3; ++round) {
      void *a = core.alloc_local(100), *b = core.alloc_local(192 * 1024 - 128);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
      EXPECT_EQ(static_cast<char *>(b) - static_cast<char *>(a), 128);
      core.free_local(b);
      core.free_local(a);
    }
    core.alloc_local(1000); // what a kernel forgets does not harm the next one
  };
  const Kernel too_much = [](Core &core, TaskArgsView) {
    core.alloc_local(64);
    core.alloc_local(192 * 1024);
  };
  const Kernel out_of_order = [](Core &core, TaskArgsView) {
    void *a = core.alloc_local(1);
    core.alloc_local(1);
    core.free_local(a);
  };
  for (int i = 0; i < 3; ++i)
    EXPECT_NO_THROW(chip.run([&](Graph &g) { g.submit(task(fits)); }, 1));
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(too_much)); }, 1); }),
                  {"exhausted", "196608 bytes needed", "64 of 196608"});
  EXPECT_NO_THROW(chip.run([&](Graph &g) { g.submit(task(too_much, AIC)); })) << "an AIC core has 512 KiB";
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(out_of_order)); }); }),
                  {"not the last one"});
}

TEST(LocalMemory, HasNoLimitOnTheCpu) {
  Chip chip(1, {}, "cpu");
  const Kernel kernel = [](Core &core, TaskArgsView) {
    std::vector<void *> blocks;
    for (size_t nbytes : {size_t{10}, size_t{5} << 20, size_t{100}, size_t{1} << 20}) {
      blocks.push_back(core.alloc_local(nbytes));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks.back()) % 64, 0u);
      std::memset(blocks.back(), 1, nbytes);
    }
    for (; !blocks.empty(); blocks.pop_back())
      core.free_local(blocks.back());
  };
  for (int i = 0; i < 3; ++i)
    EXPECT_NO_THROW(chip.run([&](Graph &g) { g.submit(task(kernel)); }));
}

} // namespace
} // namespace simpler
