#include "simpler/chip_worker.h"

#include "expect.h"
#include "objects.h"
#include "simpler/errors.h"

#include <gtest/gtest.h>

#include <numeric>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace simpler {
namespace {

ChipCallable callable(const std::string &kernel = "add_kernel", const std::string &orchestration = "add_orchestration",
                      int32_t scalar_count = 0, TensorArgType output = TensorArgType::OUT) {
  return ChipCallable::build({kernel + "_callable",
                              object(orchestration),
                              "orchestrate",
                              {TensorArgType::IN, TensorArgType::IN, output},
                              scalar_count,
                              {{0, kernel, CoreType::AIV, object(kernel), "kernel"}}});
}

ContinuousTensor tensor(const float *data, std::initializer_list<uint32_t> shape, bool child_memory = false) {
  ContinuousTensor t{};
  t.data = reinterpret_cast<uint64_t>(data);
  for (uint32_t extent : shape)
    t.shapes[t.ndims++] = extent;
  t.child_memory = child_memory;
  return t;
}

struct Args {
  std::vector<ContinuousTensor> tensors;
  std::vector<uint64_t> scalars;
  TaskArgsView view() const {
    return {static_cast<int32_t>(tensors.size()), static_cast<int32_t>(scalars.size()), tensors.data(), scalars.data()};
  }
};

class OnEveryPlatform : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
protected:
  OnEveryPlatform() : worker({.platform = std::get<0>(GetParam()), .runtime = std::get<1>(GetParam())}) {
    worker.init();
  }
  ChipWorker worker;
  std::vector<float> a = {1, 2, 3, 4}, b = {10, 20, 30, 40}, c = {-1, -1, -1, -1};
  Args args{{tensor(a.data(), {4}), tensor(b.data(), {4}), tensor(c.data(), {4})}, {}};
};

INSTANTIATE_TEST_SUITE_P(Platforms, OnEveryPlatform,
                         ::testing::Combine(::testing::Values("a2a3sim", "a5sim", "cpu"),
                                            ::testing::Values(HOST_BUILD_GRAPH, TENSORMAP_AND_RINGBUFFER)),
                         [](const auto &info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

TEST_P(OnEveryPlatform, RunsAPreparedCallableAgainAndAgain) {
  worker.prepare_callable(0, callable());
  for (int i = 0; i < 100; ++i) {
    a[0] = static_cast<float>(i);
    worker.run_prepared(0, args.view(), {});
    EXPECT_EQ(c, (std::vector<float>{static_cast<float>(i + 10), 22, 33, 44}));
  }
}

TEST_P(OnEveryPlatform, RunsAGraphWithTensorsOfItsOwn) {
  worker.prepare_callable(1, callable("add_kernel", "chain_orchestration", 1));
  const uint32_t rows = 50, columns = 30;
  std::vector<float> x(rows * columns), y(rows * columns), z(rows * columns), expected(rows * columns);
  std::iota(x.begin(), x.end(), 0.0F);
  std::iota(y.begin(), y.end(), 100.0F);
  for (size_t i = 0; i < x.size(); ++i)
    expected[i] = x[i] + 5 * y[i];
  Args chain{{tensor(x.data(), {rows, columns}), tensor(y.data(), {rows, columns}), tensor(z.data(), {rows, columns})},
             {5}};
  worker.run_prepared(1, chain.view(), {.clusters = 2});
  EXPECT_EQ(z, expected);
}

TEST_P(OnEveryPlatform, WhatAKernelDoesNotWriteKeepsItsBytes) {
  worker.prepare_callable(0, callable("add_kernel", "add_orchestration", 0, TensorArgType::OUTPUT_EXISTING));
  args.tensors[0] = tensor(a.data(), {2}); // it writes as many elements as this one has
  worker.run_prepared(0, args.view(), {});
  EXPECT_EQ(c, (std::vector<float>{11, 22, -1, -1}));
}

TEST_P(OnEveryPlatform, ArgumentsThatOverlapOnTheHostOverlapOnTheChip) {
  worker.prepare_callable(0, callable());
  Args twice{{tensor(a.data(), {4}), tensor(a.data(), {4}), tensor(a.data(), {4})}, {}};
  worker.run_prepared(0, twice.view(), {});
  EXPECT_EQ(a, (std::vector<float>{2, 4, 6, 8}));
  // c[i + 1] = c[i] + b[i], one after the other: only right when both ranges are one memory
  c = {1, 0, 0, 0};
  Args shifted{{tensor(c.data(), {3}), tensor(b.data(), {3}), tensor(c.data() + 1, {3})}, {}};
  worker.run_prepared(0, shifted.view(), {});
  EXPECT_EQ(c, (std::vector<float>{1, 11, 31, 61}));
}

TEST_P(OnEveryPlatform, ChildMemoryIsUsedInPlace) {
  worker.prepare_callable(0, callable());
  const uint64_t device = worker.malloc(16);
  worker.copy_to(device, a.data(), 16);
  args.tensors[0] = tensor(reinterpret_cast<const float *>(device), {4}, true);
  a = {0, 0, 0, 0};
  worker.run_prepared(0, args.view(), {});
  EXPECT_EQ(c, (std::vector<float>{11, 22, 33, 44}));
  args.tensors[2] = args.tensors[0];
  worker.run_prepared(0, args.view(), {});
  std::vector<float> back(4);
  worker.copy_from(back.data(), device, 16);
  EXPECT_EQ(back, c);
  worker.free(device);
  expect_mentions(message_of<DeviceMemoryError>([&] { worker.run_prepared(0, args.view(), {}); }),
                  {"argument 0", "16 bytes at 0x"});
}

TEST_P(OnEveryPlatform, DeviceMemoryIsBoundsChecked) {
  const uint64_t device = worker.malloc(16);
  float value[5] = {};
  EXPECT_THROW(worker.copy_to(device, value, 20), DeviceMemoryError);
  EXPECT_THROW(worker.copy_from(value, device + 4, 16), DeviceMemoryError);
  EXPECT_THROW(worker.free(device + 4), DeviceMemoryError);
  args.tensors[0] = tensor(reinterpret_cast<const float *>(device + 4), {4}, true);
  worker.prepare_callable(0, callable());
  expect_mentions(message_of<DeviceMemoryError>([&] { worker.run_prepared(0, args.view(), {}); }), {"child_memory"});
}

// Host tensors that are written whole are not copied to the chip: what is in them does not matter.
TEST(ChipWorker, WhatIsWrittenWholeIsNotCopiedToTheChip) {
  ChipWorker worker({.platform = "a2a3sim"});
  worker.init();
  std::vector<float> a = {1, 2}, c = {-1, -1};
  const Args args{{tensor(a.data(), {1}), tensor(a.data() + 1, {1}), tensor(c.data(), {2})}, {}}; // writes one element
  worker.prepare_callable(0, callable());
  worker.run_prepared(0, args.view(), {});
  EXPECT_EQ(c[0], 3);
  EXPECT_EQ(c[1], 0) << "what the chip's memory held";
  c = {-1, -1};
  worker.prepare_callable(1, callable("add_kernel", "add_orchestration", 0, TensorArgType::OUTPUT_EXISTING));
  worker.run_prepared(1, args.view(), {});
  EXPECT_EQ(c, (std::vector<float>{3, -1}));
}

TEST_P(OnEveryPlatform, MemoryAndCountersDoNotWaitForARun) {
  worker.prepare_callable(3, ChipCallable::build({"waits",
                                                  object("waiting_orchestration"),
                                                  "orchestrate",
                                                  {},
                                                  1,
                                                  {{0, "waits", CoreType::AIV, object("waiting_kernel"), "kernel"}}}));
  std::atomic<bool> flags[2] = {};
  std::thread run([&] {
    const Args flags_only{{}, {reinterpret_cast<uint64_t>(flags)}};
    worker.run_prepared(3, flags_only.view(), {});
  });
  while (!flags[0])
    std::this_thread::yield();
  // All of this ends while the kernel waits, or never.
  const uint64_t device = worker.malloc(16);
  std::vector<float> back(4);
  worker.copy_to(device, a.data(), 16);
  worker.copy_from(back.data(), device, 16);
  worker.free(device);
  EXPECT_EQ(back, a);
  EXPECT_EQ(worker.aicpu_dlopen_count() + worker.host_dlopen_count(), 1u);
  worker.prepare_callable(0, callable());
  worker.unregister_callable(3);
  flags[1] = true;
  run.join();
  EXPECT_NO_THROW(worker.run_prepared(0, args.view(), {}));
}

TEST_P(OnEveryPlatform, GraphsAreReplayedWhereTheyAreBuiltFirst) {
  const bool replays = std::get<1>(GetParam()) == HOST_BUILD_GRAPH;
  worker.prepare_callable(1, callable("add_kernel", "chain_orchestration", 1));
  std::vector<float> x(12, 1), y(12, 2), z(12), w(12);
  const auto run = [&](std::vector<float> &out, uint32_t rows, uint64_t n) {
    const Args chain{{tensor(x.data(), {rows, 3}), tensor(y.data(), {rows, 3}), tensor(out.data(), {rows, 3})}, {n}};
    worker.run_prepared(1, chain.view(), {});
  };
  run(z, 4, 3);
  run(w, 4, 3);
  EXPECT_EQ(z, std::vector<float>(12, 7));
  EXPECT_EQ(w, z);
  EXPECT_EQ(worker.graph_counts().built, replays ? 1u : 2u);
  EXPECT_EQ(worker.graph_counts().replayed, replays ? 1u : 0u);
  run(z, 4, 4);
  EXPECT_EQ(z, std::vector<float>(12, 9)) << "another scalar, another graph";
  run(w, 2, 4);
  EXPECT_EQ(w, (std::vector<float>{9, 9, 9, 9, 9, 9, 7, 7, 7, 7, 7, 7})) << "another shape too";
  EXPECT_EQ(worker.graph_counts().built, replays ? 3u : 4u);
}

TEST_P(OnEveryPlatform, RingsCanBeSmallerInOneRun) {
  worker.prepare_callable(1, callable("add_kernel", "chain_orchestration", 1));
  std::vector<float> x(4096, 1), z(4096);
  const Args chain{{tensor(x.data(), {1, 4096}), tensor(x.data(), {1, 4096}), tensor(z.data(), {1, 4096})}, {9}};
  expect_mentions(message_of<RingFull>([&] { worker.run_prepared(1, chain.view(), {.heap_ring_nbytes = 65536}); }),
                  {"heap ring 1", "65536", "scope"});
  EXPECT_NO_THROW(worker.run_prepared(1, chain.view(), {.heap_ring_nbytes = 1 << 20, .task_ring_slots = 2}));
  EXPECT_EQ(z, std::vector<float>(4096, 10));
  EXPECT_NO_THROW(worker.run_prepared(1, chain.view(), {}));
}

TEST_P(OnEveryPlatform, EmptyTensorsAreFine) {
  worker.prepare_callable(0, callable());
  Args none{{tensor(nullptr, {0}), tensor(nullptr, {0}), tensor(nullptr, {0, 5})}, {}};
  EXPECT_NO_THROW(worker.run_prepared(0, none.view(), {}));
}

TEST_P(OnEveryPlatform, AFailedKernelIsNamedAndTheWorkerStaysUsable) {
  worker.prepare_callable(0, callable("failing_kernel"));
  worker.prepare_callable(1, callable());
  try {
    worker.run_prepared(0, args.view(), {});
    FAIL() << "expected KernelError";
  } catch (const KernelError &e) {
    EXPECT_EQ(e.callable, "failing_kernel_callable");
    EXPECT_EQ(e.kernel, "failing_kernel");
    EXPECT_EQ(e.task, 0);
    EXPECT_EQ(e.message, "model.py:12: value 42 is too large");
  }
  if (std::get<0>(GetParam()) != "cpu") {
    EXPECT_EQ(c[0], -1) << "nothing of a failed run reaches the host";
  }
  worker.run_prepared(1, args.view(), {});
  EXPECT_EQ(c, (std::vector<float>{11, 22, 33, 44}));
}

TEST_P(OnEveryPlatform, TwoCallablesMayUseTheSameFuncIdForDifferentKernels) {
  worker.prepare_callable(0, callable("add_kernel"));
  worker.prepare_callable(1, callable("scale_kernel"));
  for (int round = 0; round < 3; ++round) {
    worker.run_prepared(0, args.view(), {});
    EXPECT_EQ(c[0], 11);
    worker.run_prepared(1, args.view(), {});
    EXPECT_EQ(c[0], 110);
  }
  worker.unregister_callable(0);
  worker.run_prepared(1, args.view(), {});
  EXPECT_EQ(c[0], 110);
}

TEST_P(OnEveryPlatform, OnlyItsSlotsExist) {
  const Args none;
  for (int32_t slot : {-1, MAX_CALLABLES, MAX_CALLABLES + 1, std::numeric_limits<int32_t>::max(),
                       std::numeric_limits<int32_t>::min()}) {
    expect_mentions(message_of<CallableError>([&] { worker.prepare_callable(slot, callable()); }),
                    {std::to_string(slot).c_str(), "0 to 63"});
    EXPECT_THROW(worker.run_prepared(slot, none.view(), {}), CallableError);
    EXPECT_THROW(worker.unregister_callable(slot), CallableError);
  }
  EXPECT_NO_THROW(worker.prepare_callable(MAX_CALLABLES - 1, callable()));
}

TEST_P(OnEveryPlatform, ASlotHoldsOneCallable) {
  const Args none;
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared(5, none.view(), {}); }), {"slot 5"});
  worker.prepare_callable(5, callable());
  expect_mentions(message_of<CallableError>([&] { worker.prepare_callable(5, callable("scale_kernel")); }),
                  {"slot 5", "add_kernel_callable"});
  worker.unregister_callable(5);
  EXPECT_THROW(worker.unregister_callable(5), CallableError);
  EXPECT_THROW(worker.run_prepared(5, none.view(), {}), CallableError);
  EXPECT_NO_THROW(worker.prepare_callable(5, callable("scale_kernel")));
}

TEST(ChipWorker, WrongArgumentsAreNamed) {
  ChipWorker worker({});
  worker.init();
  worker.prepare_callable(0, callable("add_kernel", "chain_orchestration", 1));
  float x[4] = {};
  Args args{{tensor(x, {1, 4}), tensor(x, {1, 4})}, {1}};
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared(0, args.view(), {}); }),
                  {"add_kernel_callable", "takes 3 tensors, got 2"});
  args.tensors.push_back(tensor(x, {1, 4}));
  args.scalars.clear();
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared(0, args.view(), {}); }),
                  {"add_kernel_callable", "takes 1 scalar, got 0"});
  args.scalars = {1};
  args.tensors[1].dtype = 200;
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared(0, args.view(), {}); }), {"unknown dtype"});
  args.tensors[1] = tensor(nullptr, {1, 4});
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared(0, args.view(), {}); }),
                  {"argument 1", "address 0"});
}

TEST(ChipWorker, ConfigsBeyondThePlatformAreNamed) {
  ChipWorker worker({.platform = "a2a3sim"});
  worker.init();
  worker.prepare_callable(0, callable());
  float x[1] = {};
  const Args args{{tensor(x, {1}), tensor(x, {1}), tensor(x, {1})}, {}};
  const auto error = [&](CallConfig config) {
    return message_of<CallConfigError>([&] { worker.run_prepared(0, args.view(), config); });
  };
  expect_mentions(error({.clusters = 25}), {"clusters is 25", "a2a3sim", "24 clusters"});
  expect_mentions(error({.block_dim = -1}), {"block_dim is -1"});
  expect_mentions(error({.clusters = -1}), {"clusters is -1"});
  expect_mentions(error({.heap_ring_nbytes = uint64_t{1} << 40}), {"heap_ring_nbytes is 1099511627776", "1073741824"});
  expect_mentions(error({.task_ring_slots = 2000}), {"task_ring_slots is 2000", "1024"});
  expect_mentions(error({.aicpu_thread_num = 5}), {"aicpu_thread_num is 5", "1 to 4"});
  expect_mentions(error({.aicpu_thread_num = 0}), {"aicpu_thread_num is 0"});
  expect_mentions(error({.enable_pmu = 2}), {"enable_pmu is 2", "a2a3sim", "does not"});
  EXPECT_NO_THROW(worker.run_prepared(0, args.view(), {.block_dim = 1000, .aicpu_thread_num = 4, .clusters = 24}));
}

TEST_P(OnEveryPlatform, CountsOneLoadForEachDistinctOrchestration) {
  const bool on_host = std::get<1>(GetParam()) == HOST_BUILD_GRAPH;
  worker.prepare_callable(0, callable());
  worker.prepare_callable(1, callable("scale_kernel")); // the same orchestration
  EXPECT_EQ((on_host ? worker.host_dlopen_count() : worker.aicpu_dlopen_count()), 1u);
  worker.prepare_callable(2, callable("add_kernel", "chain_orchestration", 1));
  EXPECT_EQ((on_host ? worker.host_dlopen_count() : worker.aicpu_dlopen_count()), 2u);
  float x[1] = {};
  const Args args{{tensor(x, {1}), tensor(x, {1}), tensor(x, {1})}, {}};
  for (int i = 0; i < 5; ++i)
    worker.run_prepared(i % 2, args.view(), {});
  EXPECT_EQ((on_host ? worker.host_dlopen_count() : worker.aicpu_dlopen_count()), 2u) << "running loads nothing";
  worker.unregister_callable(0);
  worker.prepare_callable(0, callable());
  EXPECT_EQ((on_host ? worker.host_dlopen_count() : worker.aicpu_dlopen_count()), 2u) << "slot 1 kept it loaded";
  worker.unregister_callable(0);
  worker.unregister_callable(1);
  worker.prepare_callable(1, callable());
  EXPECT_EQ((on_host ? worker.host_dlopen_count() : worker.aicpu_dlopen_count()), 3u);
  EXPECT_EQ(on_host ? worker.aicpu_dlopen_count() : worker.host_dlopen_count(), 0u);
}

TEST_P(OnEveryPlatform, UnloadsWhatItsUserForgot) {
  const size_t before = mapped_objects("_kernel_callable");
  {
    ChipWorker worker({.platform = std::get<0>(GetParam()), .runtime = std::get<1>(GetParam())});
    worker.init();
    worker.prepare_callable(0, callable());
    worker.prepare_callable(7, callable("scale_kernel"));
    EXPECT_EQ(mapped_objects("_kernel_callable"), before + 3);
    worker.finalize();
    EXPECT_EQ(mapped_objects("_kernel_callable"), before);
    worker.init();
    EXPECT_NO_THROW(worker.prepare_callable(7, callable())) << "a chip that was closed can be opened again";
  }
  EXPECT_EQ(mapped_objects("_kernel_callable"), before);
}

TEST_P(OnEveryPlatform, ACallableThatCanNotBeLoadedLeavesTheSlotFree) {
  const ChipCallable broken = ChipCallable::build({"broken",
                                                   object("add_orchestration"),
                                                   "orchestrate",
                                                   {},
                                                   0,
                                                   {{0, "k", CoreType::AIV, object("add_kernel"), "nope"}}});
  expect_mentions(message_of<CallableError>([&] { worker.prepare_callable(0, broken); }), {"broken.k", "nope"});
  EXPECT_NO_THROW(worker.prepare_callable(0, callable()));
}

TEST(ChipWorker, UnknownPlatformsAndRuntimesListThoseThatWork) {
  const auto error = [](const char *platform, const char *runtime) {
    return message_of<PlatformError>([&] { ChipWorker({.platform = platform, .runtime = runtime}); });
  };
  expect_mentions(error("a4", "tensormap_and_ringbuffer"), {"'a4'", "a2a3sim", "a5sim", "cpu"});
  expect_mentions(error("a2a3", "tensormap_and_ringbuffer"), {"hardware", "a2a3sim"});
  expect_mentions(error("a5", "tensormap_and_ringbuffer"), {"hardware", "a5sim"});
  expect_mentions(error("a2a3sim", "ring"), {"'ring'", "host_build_graph", "tensormap_and_ringbuffer"});
}

TEST(ChipWorker, SaysThatItMustBeOpened) {
  ChipWorker worker({});
  expect_mentions(message_of<ChipError>([&] { worker.malloc(1); }), {"init()"});
  worker.finalize();
}

TEST_P(OnEveryPlatform, RunsFromABlob) {
  worker.prepare_callable(0, callable());
  std::vector<float> a = {1, 2}, c = {0, 0};
  const uint64_t device = worker.malloc(8);
  worker.copy_to(device, a.data(), 8);
  // child_memory is at offset 33 of the tensor: lost on the way, the device address would be taken for a host one
  const Args args{{tensor(reinterpret_cast<float *>(device), {2}, true), tensor(a.data(), {2}), tensor(c.data(), {2})},
                  {}};
  std::vector<uint64_t> blob(blob_nbytes(3, 0) / 8 + 10);
  write_blob(args.view(), blob.data());
  worker.run_prepared_from_blob(0, blob.data(), blob.size() * 8, {});
  EXPECT_EQ(c, (std::vector<float>{2, 4}));
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared_from_blob(0, blob.data(), 100, {}); }),
                  {"100 bytes", "damaged"});
  expect_mentions(message_of<CallableError>([&] { worker.run_prepared_from_blob(0, nullptr, 4096, {}); }),
                  {"damaged", "null pointer"});
}

TEST_P(OnEveryPlatform, ServesSeveralThreadsOneAtATime) {
  worker.prepare_callable(0, callable());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const float a = static_cast<float>(i), b = 100;
      for (int round = 0; round < 200; ++round) {
        float c = 0;
        const Args args{{tensor(&a, {1}), tensor(&b, {1}), tensor(&c, {1})}, {}};
        worker.run_prepared(0, args.view(), {});
        wrong += c != a + b;
      }
    });
  for (auto &thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ChipWorker, AForkOfItsProcessIsToldSoAndNeverHangs) {
  ChipWorker worker({.platform = "a2a3sim", .threads = 3});
  worker.init();
  worker.prepare_callable(0, callable("add_kernel", "chain_orchestration", 1));
  std::vector<float> x(400), z(400);
  const Args args{{tensor(x.data(), {100, 4}), tensor(x.data(), {100, 4}), tensor(z.data(), {100, 4})}, {3}};
  worker.run_prepared(0, args.view(), {}); // starts threads
  const pid_t child = fork();
  if (child == 0) {
    int status = 1;
    try {
      worker.run_prepared(0, args.view(), {});
    } catch (const ChipError &) {
      worker.finalize();                                     // must not wait for threads that are not here
      ChipWorker own({.platform = "a2a3sim", .threads = 1}); // the race detector allows no more here
      own.init();
      own.prepare_callable(0, callable());
      status = 0;
    }
    _exit(status);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_NO_THROW(worker.run_prepared(0, args.view(), {}));
}

} // namespace
} // namespace simpler
