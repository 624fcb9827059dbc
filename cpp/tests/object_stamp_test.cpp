// An object says for which kernel ABI and CPU it was compiled, and is believed before anything of it runs.
#include "platform/object_stamp.h"

#include "expect.h"
#include "objects.h"
#include "simpler/chip_worker.h"
#include "simpler/errors.h"

#include <algorithm>
#include <cstring>

namespace simpler {
namespace {

// The stamp inside an object, to be changed.
ObjectStamp *stamp_in(std::vector<std::byte> &object) {
  const ObjectStamp looked_for;
  const size_t known = offsetof(ObjectStamp, target);
  const auto *p = reinterpret_cast<const std::byte *>(&looked_for);
  const auto it = std::search(object.begin(), object.end(), p, p + known);
  return it == object.end() ? nullptr : reinterpret_cast<ObjectStamp *>(&*it);
}

std::string refusal(const std::vector<std::byte> &object) {
  return message_of<CallableError>([&] { check_stamp(object, "net.kernel"); });
}

TEST(ObjectStamp, IsInEveryObject) {
  for (const char *name : {"add_kernel", "add_orchestration"}) {
    std::vector<std::byte> content = object(name);
    ASSERT_NE(stamp_in(content), nullptr) << name;
    EXPECT_NO_THROW(check_stamp(content, name));
  }
}

TEST(ObjectStamp, AStaleObjectIsRefusedByBothVersions) {
  std::vector<std::byte> content = object("add_kernel");
  stamp_in(content)->abi_version = 1;
  expect_mentions(refusal(content), {"net.kernel", "kernel ABI 1", "kernel ABI 2", "compile it again"});
}

TEST(ObjectStamp, AnObjectForAnotherCpuIsRefusedByBothNames) {
  std::vector<std::byte> content = object("add_kernel");
  std::strcpy(stamp_in(content)->target, "sparc64+vis3");
  expect_mentions(refusal(content), {"net.kernel", "compiled for sparc64+vis3", "this CPU (", "has no sparc64, vis3"});
}

TEST(ObjectStamp, AnObjectWithoutOneIsRefused) {
  expect_mentions(refusal({}), {"no stamp", "kernel ABI 2"});
  std::vector<std::byte> content = object("add_kernel");
  stamp_in(content)->type = 7;
  expect_mentions(refusal(content), {"no stamp"});
}

TEST(ObjectStamp, ATargetIsComparedByWhatThisCpuHas) {
  EXPECT_EQ(missing_of_target(""), "");
  EXPECT_EQ(missing_of_target(detail::TARGET), "") << "what this was compiled for";
  EXPECT_EQ(missing_of_target("z80"), "z80");
  EXPECT_EQ(missing_of_target(std::string(detail::TARGET) + "+teleport"), "teleport");
}

TEST(ObjectStamp, IsReadBeforeACallableIsLoaded) {
  ChipWorker worker({});
  worker.init();
  std::vector<std::byte> foreign = object("add_kernel");
  std::strcpy(stamp_in(foreign)->target, "sparc64");
  const auto make = [&](const std::vector<std::byte> &kernel) {
    return ChipCallable::build(
        {"net", object("add_orchestration"), "orchestrate", {}, 0, {{0, "add", CoreType::AIV, kernel, "kernel"}}});
  };
  expect_mentions(message_of<CallableError>([&] { worker.prepare_callable(0, make(foreign)); }),
                  {"net.add", "sparc64"});
  EXPECT_EQ(worker.aicpu_dlopen_count(), 0u) << "nothing of it was loaded";
  EXPECT_NO_THROW(worker.prepare_callable(0, make(object("add_kernel")))) << "the slot is still free";
}

} // namespace
} // namespace simpler
