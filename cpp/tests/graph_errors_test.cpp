// How runs end that can not go on: failures, full rings, impossible tensors.
#include "graph_chip.h"

#include "expect.h"
#include "simpler/errors.h"

namespace simpler {
namespace {

TEST_P(Graphs, AHeapRingThatNobodyCanFreeIsNamed) {
  Chip chip(2, {.heap_nbytes = 8192, .task_slots = 64});
  const Kernel kernel = [](Core &, TaskArgsView) {};
  const auto overfill = [&](Graph &graph) {
    for (int i = 0; i < 3; ++i)
      graph.submit(task(kernel).out(graph.alloc(DataType::INT8, {4096})));
  };
  expect_mentions(message_of<RingFull>([&] { chip.run(overfill); }),
                  {"heap ring 0", "8192", "4096", "heap_ring_nbytes"});
  expect_mentions(message_of<RingFull>([&] {
                    chip.run([&](Graph &graph) {
                      const Scope scope(graph);
                      overfill(graph);
                    });
                  }),
                  {"heap ring 1"});
  EXPECT_NO_THROW(chip.run([&](Graph &graph) { graph.alloc(DataType::INT8, {8192}); })) << "the next run is not harmed";
}

TEST_P(Graphs, AFailingKernelEndsTheRunAndIsNamed) {
  for (uint32_t threads : {1U, 3U}) {
    Chip chip(threads);
    const ContinuousTensor cells = chip.cells(2);
    std::atomic<bool> dependent_ran = false;
    const Kernel fails = [](Core &core, TaskArgsView) { core.fail("net.py:7", "%s is %d", "row", 12); };
    const Kernel dependent = [&](Core &, TaskArgsView) { dependent_ran = true; };
    const Kernel harmless = [](Core &, TaskArgsView) {};
    try {
      chip.run([&](Graph &graph) {
        graph.submit(task(harmless).inout(part(cells, 1, 1)));
        graph.submit(task(fails).out(cells));
        graph.submit(task(dependent).in(cells));
      });
      FAIL() << "expected KernelError";
    } catch (const KernelError &e) {
      EXPECT_EQ(e.callable, "graph");
      EXPECT_EQ(e.kernel, "vector");
      EXPECT_EQ(e.task, 1);
      EXPECT_GE(e.core, chip.info.cores(CoreType::AIC));
      EXPECT_EQ(e.message, "net.py:7: row is 12");
      expect_mentions(e.what(), {"graph", "vector", "task 1", "net.py:7: row is 12"});
    }
    EXPECT_FALSE(dependent_ran);
    EXPECT_NO_THROW(chip.run([&](Graph &graph) { graph.submit(task(harmless)); })) << "the chip stays usable";
  }
}

TEST_P(Graphs, AnyExceptionOfAKernelIsCaught) {
  Chip chip;
  const Kernel standard = [](Core &, TaskArgsView) { throw std::out_of_range("index 9"); };
  const Kernel other = [](Core &, TaskArgsView) { throw 5; };
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(standard)); }); }), {"index 9"});
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(other)); }); }),
                  {"unknown type"});
}

TEST_P(Graphs, AFailureReachesAnOrchestrationThatGoesOnSubmitting) {
  Chip chip(2, {.heap_nbytes = 1 << 20, .task_slots = 4});
  const Kernel fails = [](Core &core, TaskArgsView) { core.fail(nullptr, "no"); };
  uint64_t submitted = 0;
  EXPECT_THROW(chip.run([&](Graph &graph) {
    for (;; ++submitted)
      graph.submit(task(fails));
  }),
               KernelError);
  EXPECT_LT(submitted, GetParam() ? 300'000u : 100u) << "a graph that is built first may get large";
}

TEST_P(Graphs, AFailingOrchestrationLeavesNothingRunning) {
  Chip chip(2);
  std::atomic<int> running = 0;
  const Kernel kernel = [&](Core &, TaskArgsView) {
    ++running;
    std::this_thread::yield();
    --running;
  };
  const std::string message = message_of<KernelError>([&] {
    chip.run([&](Graph &graph) {
      for (int i = 0; i < 100; ++i)
        graph.submit(task(kernel));
      graph.fail("model.py:3", "bad %s", "shape");
    });
  });
  expect_mentions(message, {"orchestration", "graph", "model.py:3: bad shape"});
  EXPECT_EQ(running, 0);
  expect_mentions(message_of<KernelError>([&] { chip.run([](Graph &) { throw std::runtime_error("oops"); }); }),
                  {"orchestration", "oops"});
}

TEST_P(Graphs, AnErrorTheOrchestrationSwallowsStillEndsTheRun) {
  Chip chip;
  EXPECT_THROW(chip.run([&](Graph &graph) {
    try {
      graph.submit(Task(99));
    } catch (...) {
    }
  }),
               CallableError);
}

TEST_P(Graphs, AnUnknownFuncIdIsNamedWithThoseThereAre) {
  Chip chip;
  expect_mentions(message_of<CallableError>([&] { chip.run([](Graph &graph) { graph.submit(Task(2)); }); }),
                  {"graph", "func_id 2", "0, 1"});
}

TEST_P(Graphs, TooManyArgumentsAreNamed) {
  Chip chip;
  const ContinuousTensor cells = chip.cells(1);
  expect_mentions(message_of<CallableError>([&] {
                    chip.run([&](Graph &graph) {
                      Task t(AIV);
                      for (int i = 0; i < 40; ++i)
                        t.in(cells);
                      graph.submit(t);
                    });
                  }),
                  {"40 tensors", "32"});
}

TEST_P(Graphs, TensorsOutsideLiveMemoryAreRefused) {
  Chip chip;
  const Kernel kernel = [](Core &, TaskArgsView) {};
  const ContinuousTensor cells = chip.cells(4);
  int64_t host[4] = {};
  ContinuousTensor stray = cells;
  stray.data = reinterpret_cast<uint64_t>(host);
  const auto submitting = [&](const ContinuousTensor &t) {
    return [&chip, &kernel, t] { chip.run([&](Graph &graph) { graph.submit(task(kernel).in(t)); }); };
  };
  EXPECT_NO_THROW(submitting(cells)());
  expect_mentions(message_of<DeviceMemoryError>(submitting(part(cells, 0, 5))),
                  {"tensor 0", "task 0", "vector", "40 bytes at 0x", "live allocation"});
  expect_mentions(message_of<DeviceMemoryError>(submitting(stray)), {"32 bytes at 0x"});
  chip.memory.release(cells.data);
  message_of<DeviceMemoryError>(submitting(cells));
}

TEST_P(Graphs, TensorsOfEndedScopesAndBeyondTheirEndAreRefused) {
  Chip chip;
  const Kernel kernel = [](Core &, TaskArgsView) {};
  expect_mentions(message_of<DeviceMemoryError>([&] {
                    chip.run([&](Graph &graph) {
                      ContinuousTensor t{};
                      {
                        const Scope scope(graph);
                        t = graph.alloc(DataType::INT64, {4});
                      }
                      graph.submit(task(kernel).in(t));
                    });
                  }),
                  {"scope has ended"});
  expect_mentions(
      message_of<DeviceMemoryError>([&] {
        chip.run([&](Graph &graph) { graph.submit(task(kernel).in(part(graph.alloc(DataType::INT64, {4}), 1, 4))); });
      }),
      {"beyond the end"});
}

TEST_P(Graphs, SlicesMustBeInsideAndContiguous) {
  Chip chip;
  const auto slicing = [&](std::initializer_list<int64_t> shape, std::initializer_list<int64_t> offset) {
    return message_of<KernelError>([&] {
      chip.run([&](Graph &graph) { slice(graph, graph.alloc(DataType::FLOAT32, {4, 8, 2}), shape, offset, "f.py:9"); });
    });
  };
  expect_mentions(slicing({2, 8, 2}, {3, 0, 0}), {"f.py:9", "dimension 0", "offset 3", "extent 2"});
  expect_mentions(slicing({1, 8, 2}, {-1, 0, 0}), {"out of bounds"});
  expect_mentions(slicing({2, 4, 2}, {0, 0, 0}), {"f.py:9", "not contiguous", "dimension 1"});
  expect_mentions(slicing({2, 8}, {0, 0}), {"3-dimensional"});
  chip.run([](Graph &graph) {
    const ContinuousTensor t = graph.alloc(DataType::FLOAT32, {4, 8, 2});
    EXPECT_EQ(slice(graph, t, {2, 8, 2}, {1, 0, 0}, "").data, t.data + 16 * 4);
    EXPECT_EQ(slice(graph, t, {1, 3, 2}, {2, 5, 0}, "").data, t.data + (2 * 16 + 5 * 2) * 4)
        << "one row may be cut further";
    EXPECT_EQ(nbytes_of(slice(graph, t, {0, 8, 2}, {4, 0, 0}, "")), 0u);
  });
}

TEST_P(Graphs, AllocSaysWhatIsImpossible) {
  Chip chip;
  expect_mentions(message_of<KernelError>([&] { chip.run([](Graph &g) { g.alloc(DataType::FLOAT32, {-1}); }); }),
                  {"extent -1", "dimension 0"});
  expect_mentions(
      message_of<KernelError>([&] { chip.run([](Graph &g) { g.alloc(DataType::FLOAT32, {1, 1, 1, 1, 1, 1}); }); }),
      {"6 dimensions"});
}

TEST_P(Graphs, AnInterruptEndsTheRunBetweenTwoTasks) {
  Chip chip(2, {.heap_nbytes = 1 << 20, .task_slots = 16});
  const Kernel kernel = [](Core &, TaskArgsView) {};
  std::atomic<int> asked = 0;
  EXPECT_THROW(chip.run(
                   [&](Graph &graph) {
                     for (;;) // would never end by itself
                       graph.submit(task(kernel));
                   },
                   0, [&] { return ++asked == 2; }),
               Interrupted);
  EXPECT_NO_THROW(chip.run([&](Graph &graph) { graph.submit(task(kernel)); }));
}

} // namespace
} // namespace simpler
