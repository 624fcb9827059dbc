#include "platform/shared_object.h"

#include "objects.h"
#include "simpler/errors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

namespace simpler {
namespace {

// Whether a file with this name is open in this process.
bool is_open(const std::string &name) {
  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored; // the iterator's own one is gone by now
    if (std::filesystem::read_symlink(entry.path(), ignored).string().find("memfd:" + name) != std::string::npos)
      return true;
  }
  return false;
}

float run(const SharedObject &object) {
  auto *kernel = reinterpret_cast<KernelFunction>(object.symbol("kernel", "test"));
  float in = 3, out = 0;
  ContinuousTensor tensors[3] = {};
  for (int i = 0; i < 3; ++i) {
    tensors[i].data = reinterpret_cast<uint64_t>(i < 2 ? &in : &out);
    tensors[i].shapes[0] = tensors[i].ndims = 1;
  }
  Core core{}; // these kernels don't use it
  kernel(core, {3, 0, tensors, nullptr});
  return out;
}

TEST(SharedObject, EqualContentIsLoadedOnce) {
  SharedObjectStore store;
  std::atomic<uint64_t> loaded = 0;
  const auto a = store.load(object("add_kernel"), "a", &loaded), b = store.load(object("add_kernel"), "b", &loaded);
  EXPECT_EQ(a, b);
  EXPECT_EQ(loaded.load(), 1u);
  EXPECT_EQ(store.loaded_objects(), 1u);
  const auto other = store.load(object("scale_kernel"), "other", &loaded);
  EXPECT_NE(a, other);
  EXPECT_EQ(loaded.load(), 2u);
}

TEST(SharedObject, IsUnloadedWithItsLastUser) {
  SharedObjectStore store;
  auto a = store.load(object("add_kernel"), "unloaded-with-last"), b = store.load(object("add_kernel"), "second");
  a.reset();
  EXPECT_EQ(store.loaded_objects(), 1u);
  EXPECT_EQ(run(*b), 6);
  EXPECT_EQ(mapped_objects("unloaded-with-last"), 1u);
  b.reset();
  EXPECT_EQ(store.loaded_objects(), 0u);
  EXPECT_EQ(mapped_objects("unloaded-with-last"), 0u);
}

// The loader knows objects by path: the number of a closed file in it must not bring an old object back.
TEST(SharedObject, NeverIsTheOneThatHadTheSameFileNumber) {
  for (int round = 0; round < 10; ++round) {
    EXPECT_EQ(run(SharedObject(object("add_kernel"), "add")), 6);
    EXPECT_EQ(run(SharedObject(object("scale_kernel"), "scale")), 60);
  }
}

TEST(SharedObject, NeverIsOneThatTheLoaderKeepsForGood) {
  EXPECT_GE(run(SharedObject(object("resident_kernel"), "resident")), 8);
  for (int round = 0; round < 5; ++round)
    EXPECT_EQ(run(SharedObject(object("add_kernel"), "add")), 6);
  EXPECT_GE(run(SharedObject(object("resident_kernel"), "resident")), 8);
}

TEST(SharedObject, TheSameBuildIdOverOtherBytesIsAnotherObject) {
  std::vector<std::byte> changed = object("scale_kernel");
  const std::string marker = "scale-marker-0";
  const auto at = std::search(changed.begin(), changed.end(), marker.begin(), marker.end(),
                              [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
  ASSERT_NE(at, changed.end());
  *(at + 13) = std::byte{'1'};
  ASSERT_FALSE(build_id_of(changed).empty());
  ASSERT_EQ(build_id_of(changed), build_id_of(object("scale_kernel")));

  SharedObjectStore store;
  const auto a = store.load(object("scale_kernel"), "a"), b = store.load(changed, "b");
  EXPECT_NE(a, b);
  EXPECT_STREQ(static_cast<const char *>(a->symbol("SCALE_MARKER", "a")), "scale-marker-0");
  EXPECT_STREQ(static_cast<const char *>(b->symbol("SCALE_MARKER", "b")), "scale-marker-1");
}

TEST(SharedObject, LeavesNoFileToOverwriteNorAFileNumberInUse) {
  const SharedObject loaded(object("add_kernel"), "guarded-object");
  EXPECT_EQ(mapped_objects("guarded-object"), 1u);
  EXPECT_FALSE(is_open("guarded-object"));
  EXPECT_EQ(run(loaded), 6);
}

TEST(SharedObject, SaysWhatIsWrongInTheLoadersWords) {
  const auto message = [](auto call) {
    try {
      call();
    } catch (const CallableError &e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const std::string rubbish = "this is no shared object";
  const auto *p = reinterpret_cast<const std::byte *>(rubbish.data());
  const std::string not_elf = message([&] { SharedObject({p, rubbish.size()}, "rubbish"); });
  EXPECT_NE(not_elf.find("'rubbish'"), std::string::npos) << not_elf;
  EXPECT_NE(not_elf.find("/proc/self/fd"), std::string::npos) << not_elf;
  EXPECT_FALSE(is_open("rubbish"));
  EXPECT_EQ(mapped_objects("rubbish"), 0u);

  const SharedObject loaded(object("add_kernel"), "add");
  const std::string no_symbol = message([&] { loaded.symbol("kernle", "add"); });
  EXPECT_NE(no_symbol.find("'add' has no symbol 'kernle'"), std::string::npos) << no_symbol;
}

TEST(BuildId, OfDamagedImagesNeverReachesOutside) {
  const std::vector<std::byte> image = object("add_kernel");
  ASSERT_EQ(build_id_of(image).size(), 20u);
  for (size_t n = 0; n < std::min<size_t>(image.size(), 2000); ++n)
    build_id_of({image.data(), n});
  std::mt19937 random(3);
  size_t none = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> damaged(image.begin(), image.begin() + 1024);
    for (int i = 0; i < 4; ++i)
      damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    none += build_id_of(damaged).empty();
  }
  EXPECT_GT(none, 0u);
}

} // namespace
} // namespace simpler
