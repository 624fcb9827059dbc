// Orchestration, scheduler and cores together, with kernels that live in this file.
#include "aicpu/graph_builder.h"

#include "simpler/errors.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cstring>
#include <functional>
#include <future>
#include <random>
#include <set>

namespace simpler {
namespace {

using Kernel = std::function<void(Core &, TaskArgsView)>;
using Orchestration = std::function<void(Graph &)>;

constexpr int32_t AIC = 0, AIV = 1; // func_ids; the first scalar is the address of the Kernel to call

void call_kernel(Core &core, TaskArgsView args) { (*reinterpret_cast<const Kernel *>(args.scalars[0]))(core, args); }
void call_orchestration(Graph &graph, TaskArgsView args) {
  (*reinterpret_cast<const Orchestration *>(args.scalars[0]))(graph);
}

struct Chip {
  explicit Chip(uint32_t threads = 2, RingSizes rings = {}, const char *platform = "a2a3sim")
      : info(find_platform(platform)), memory(info), scheduler(info, threads, rings.task_slots),
        builder(memory, scheduler, rings.heap_nbytes) {}

  void run(const Orchestration &orchestration, uint32_t clusters = 0, const InterruptCheck &interrupted = {}) {
    const KernelEntry kernels[] = {{AIC, CoreType::AIC, call_kernel, "cube"},
                                   {AIV, CoreType::AIV, call_kernel, "vector"}};
    const auto scalar = reinterpret_cast<uint64_t>(&orchestration);
    scheduler.begin("graph", clusters == 0 ? info.clusters : clusters, interrupted);
    builder.run("graph", "orchestrate", call_orchestration, kernels, {0, 1, nullptr, &scalar}, {});
  }

  // Cells of device memory, [first, first + count) of them as a tensor.
  ContinuousTensor cells(size_t count) {
    ContinuousTensor t{};
    t.data = memory.allocate(count * 8);
    t.shapes[0] = static_cast<uint32_t>(count);
    t.ndims = 1;
    t.dtype = static_cast<uint8_t>(DataType::INT64);
    return t;
  }

  const PlatformInfo &info;
  DeviceMemory memory;
  Scheduler scheduler;
  GraphBuilder builder;
};

ContinuousTensor part(ContinuousTensor t, size_t first, size_t count) {
  t.data += first * 8;
  t.shapes[0] = static_cast<uint32_t>(count);
  return t;
}

Task task(const Kernel &kernel, int32_t func_id = AIV) {
  return Task(func_id).scalar(reinterpret_cast<uint64_t>(&kernel));
}

template <class Error> std::string message_of(const std::function<void()> &call) {
  try {
    call();
  } catch (const Error &e) {
    return e.what();
  } catch (const std::exception &e) {
    ADD_FAILURE() << "another error: " << e.what();
    return {};
  }
  ADD_FAILURE() << "no error";
  return {};
}

void expect_mentions(const std::string &text, std::initializer_list<const char *> words) {
  for (const char *word : words)
    EXPECT_NE(text.find(word), std::string::npos) << "'" << word << "' is not in: " << text;
}

// A random program over cells, whose result depends on the order of every two tasks that overlap.
struct RandomProgram {
  struct Step {
    size_t in[2], in_count[2], out, out_count;
    bool inout;
    int32_t func_id;
  };

  RandomProgram(unsigned seed, size_t cells, size_t count) {
    std::mt19937 random(seed);
    const auto range = [&](size_t &first, size_t &size) {
      first = random() % cells;
      size = 1 + random() % std::min<size_t>(cells - first, 8);
    };
    for (size_t i = 0; i < count; ++i) {
      Step step{};
      range(step.in[0], step.in_count[0]);
      range(step.in[1], step.in_count[1]);
      range(step.out, step.out_count);
      step.inout = random() % 2 == 0;
      step.func_id = random() % 2 == 0 ? AIC : AIV;
      steps.push_back(step);
    }
  }

  static void execute(const int64_t *a, size_t a_count, const int64_t *b, size_t b_count, int64_t *out, size_t count,
                      bool inout) {
    uint64_t sum = 17;
    for (size_t i = 0; i < a_count; ++i)
      sum = sum * 31 + static_cast<uint64_t>(a[i]);
    for (size_t i = 0; i < b_count; ++i)
      sum = sum * 37 + static_cast<uint64_t>(b[i]);
    for (size_t i = 0; i < count; ++i)
      out[i] = static_cast<int64_t>(sum + i + (inout ? 41 * static_cast<uint64_t>(out[i]) : 0));
  }

  std::vector<int64_t> serially(size_t cells) const {
    std::vector<int64_t> data(cells);
    for (size_t i = 0; i < cells; ++i)
      data[i] = static_cast<int64_t>(i);
    for (const Step &s : steps)
      execute(&data[s.in[0]], s.in_count[0], &data[s.in[1]], s.in_count[1], &data[s.out], s.out_count, s.inout);
    return data;
  }

  std::vector<Step> steps;
};

TEST(Graph, RandomProgramsGiveTheSerialResult) {
  constexpr size_t CELLS = 64;
  const Kernel kernel = [](Core &, TaskArgsView args) {
    const ContinuousTensor &a = args.tensors[0], &b = args.tensors[1], &out = args.tensors[2];
    RandomProgram::execute(a.as<int64_t>(), a.shapes[0], b.as<int64_t>(), b.shapes[0], out.as<int64_t>(), out.shapes[0],
                           args.scalars[1] != 0);
  };
  for (unsigned seed = 0; seed < 24; ++seed) {
    const RandomProgram program(seed, CELLS, 600);
    Chip chip(1 + seed % 4, {.heap_nbytes = 1 << 20, .task_slots = seed % 3 == 0 ? 3U : 256U});
    const ContinuousTensor cells = chip.cells(CELLS);
    for (size_t i = 0; i < CELLS; ++i)
      cells.as<int64_t>()[i] = static_cast<int64_t>(i);
    chip.run(
        [&](Graph &graph) {
          for (const auto &s : program.steps) {
            Task t = task(kernel, s.func_id).scalar(s.inout);
            t.in(part(cells, s.in[0], s.in_count[0])).in(part(cells, s.in[1], s.in_count[1]));
            s.inout ? t.inout(part(cells, s.out, s.out_count)) : t.out(part(cells, s.out, s.out_count));
            graph.submit(t);
          }
        },
        1 + seed % 5);
    const std::vector<int64_t> result(cells.as<int64_t>(), cells.as<int64_t>() + CELLS);
    EXPECT_EQ(result, program.serially(CELLS)) << "seed " << seed;
  }
}

TEST(Graph, ATaskThatIsAloneStaysOnTheCallingThread) {
  Chip chip(4);
  const ContinuousTensor cells = chip.cells(1);
  std::set<std::thread::id> threads;
  const Kernel kernel = [&](Core &, TaskArgsView) { threads.insert(std::this_thread::get_id()); };
  for (int run = 0; run < 10; ++run)
    chip.run([&](Graph &graph) {
      for (int i = 0; i < 5; ++i)
        graph.submit(task(kernel).inout(cells));
    });
  EXPECT_EQ(threads, std::set{std::this_thread::get_id()});
  EXPECT_EQ(chip.scheduler.started_threads(), 0u);
}

TEST(Graph, IndependentTasksRunAtTheSameTime) {
  Chip chip(2);
  std::barrier meeting(2); // neither gets through alone
  const Kernel kernel = [&](Core &, TaskArgsView) { meeting.arrive_and_wait(); };
  for (int run = 0; run < 20; ++run)
    chip.run([&](Graph &graph) {
      graph.submit(task(kernel));
      graph.submit(task(kernel));
    });
  EXPECT_EQ(chip.scheduler.started_threads(), 1u);
}

TEST(Graph, NeverStartsMoreThreadsThanItMay) {
  Chip chip(3);
  const Kernel kernel = [](Core &, TaskArgsView) {};
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 2000; ++i)
      graph.submit(task(kernel));
  });
  EXPECT_LE(chip.scheduler.started_threads(), 2u);
}

TEST(Graph, OneThreadGetsThroughEverything) {
  Chip chip(1);
  std::atomic<int> count = 0;
  const Kernel kernel = [&](Core &, TaskArgsView) { ++count; };
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 5000; ++i)
      graph.submit(task(kernel, i % 2));
  });
  EXPECT_EQ(count, 5000);
  EXPECT_EQ(chip.scheduler.started_threads(), 0u);
}

TEST(Graph, TasksRunOnCoresOfTheirTypeWithinTheClustersInUse) {
  constexpr uint32_t CLUSTERS = 2;
  Chip chip(4);
  std::mutex mutex;
  std::set<uint32_t> busy, seen[CORE_TYPE_COUNT];
  const Kernel kernel = [&](Core &core, TaskArgsView args) {
    const auto wanted = static_cast<CoreType>(args.scalars[1]);
    {
      const std::lock_guard lock(mutex);
      EXPECT_EQ(core.type, wanted);
      EXPECT_TRUE(busy.insert(core.core_id).second) << "two tasks on one core";
      seen[args.scalars[1]].insert(core.core_id);
    }
    std::this_thread::yield();
    const std::lock_guard lock(mutex);
    busy.erase(core.core_id);
  };
  chip.run(
      [&](Graph &graph) {
        for (int i = 0; i < 500; ++i)
          graph.submit(task(kernel, i % 2).scalar(i % 2));
      },
      CLUSTERS);
  for (uint32_t core : seen[AIC])
    EXPECT_LT(core, CLUSTERS);
  for (uint32_t core : seen[AIV]) {
    EXPECT_GE(core, chip.info.cores(CoreType::AIC));
    EXPECT_LT(core, chip.info.cores(CoreType::AIC) + 2 * CLUSTERS);
  }
}

TEST(Graph, MoreTasksThanSlotsPushBack) {
  Chip chip(2, {.heap_nbytes = 1 << 20, .task_slots = 2});
  const ContinuousTensor cells = chip.cells(1);
  cells.as<int64_t>()[0] = 0;
  const Kernel kernel = [](Core &, TaskArgsView args) { ++*args.tensors[0].as<int64_t>(); };
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 3000; ++i)
      graph.submit(task(kernel).inout(cells));
  });
  EXPECT_EQ(cells.as<int64_t>()[0], 3000);
}

TEST(Graph, MemoryOfEndedScopesIsUsedAgain) {
  Chip chip(2, {.heap_nbytes = 4096, .task_slots = 64});
  std::atomic<int> wrong = 0;
  const Kernel fill = [](Core &, TaskArgsView args) {
    std::fill_n(args.tensors[0].as<int64_t>(), 256, static_cast<int64_t>(args.scalars[1]));
  };
  const Kernel check = [&](Core &, TaskArgsView args) {
    for (int i = 0; i < 256; ++i)
      wrong += args.tensors[0].as<int64_t>()[i] != static_cast<int64_t>(args.scalars[1]);
  };
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 500; ++i) { // a thousand times the ring's size
      const Scope scope(graph);
      const ContinuousTensor a = graph.alloc(DataType::INT64, {256}), b = graph.alloc(DataType::INT64, {16, 16});
      graph.submit(task(fill).scalar(i).out(a));
      graph.submit(task(fill).scalar(-i).out(b));
      graph.submit(task(check).scalar(i).in(a));
      graph.submit(task(check).scalar(-i).in(b));
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Graph, AHeapRingThatNobodyCanFreeIsNamed) {
  Chip chip(2, {.heap_nbytes = 8192, .task_slots = 64});
  const Kernel kernel = [](Core &, TaskArgsView) {};
  const auto overfill = [&](Graph &graph) {
    for (int i = 0; i < 3; ++i)
      graph.submit(task(kernel).out(graph.alloc(DataType::INT8, {4096})));
  };
  expect_mentions(message_of<RingFullError>([&] { chip.run(overfill); }),
                  {"heap ring 0", "8192", "4096", "heap_ring_nbytes"});
  expect_mentions(message_of<RingFullError>([&] {
                    chip.run([&](Graph &graph) {
                      const Scope scope(graph);
                      overfill(graph);
                    });
                  }),
                  {"heap ring 1"});
  EXPECT_NO_THROW(chip.run([&](Graph &graph) { graph.alloc(DataType::INT8, {8192}); })) << "the next run is not harmed";
}

TEST(Graph, AFailingKernelEndsTheRunAndIsNamed) {
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

TEST(Graph, AnyExceptionOfAKernelIsCaught) {
  Chip chip;
  const Kernel standard = [](Core &, TaskArgsView) { throw std::out_of_range("index 9"); };
  const Kernel other = [](Core &, TaskArgsView) { throw 5; };
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(standard)); }); }), {"index 9"});
  expect_mentions(message_of<KernelError>([&] { chip.run([&](Graph &g) { g.submit(task(other)); }); }),
                  {"unknown type"});
}

TEST(Graph, AFailureReachesAnOrchestrationThatGoesOnSubmitting) {
  Chip chip(2, {.heap_nbytes = 1 << 20, .task_slots = 4});
  const Kernel fails = [](Core &core, TaskArgsView) { core.fail(nullptr, "no"); };
  uint64_t submitted = 0;
  EXPECT_THROW(chip.run([&](Graph &graph) {
    for (;; ++submitted)
      graph.submit(task(fails));
  }),
               KernelError);
  EXPECT_LT(submitted, 100u);
}

TEST(Graph, AFailingOrchestrationLeavesNothingRunning) {
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

TEST(Graph, AnErrorTheOrchestrationSwallowsStillEndsTheRun) {
  Chip chip;
  EXPECT_THROW(chip.run([&](Graph &graph) {
    try {
      graph.submit(Task(99));
    } catch (...) {
    }
  }),
               CallableError);
}

TEST(Graph, AnUnknownFuncIdIsNamedWithThoseThereAre) {
  Chip chip;
  expect_mentions(message_of<CallableError>([&] { chip.run([](Graph &graph) { graph.submit(Task(2)); }); }),
                  {"graph", "func_id 2", "0, 1"});
}

TEST(Graph, TooManyArgumentsAreNamed) {
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

TEST(Graph, TensorsOutsideLiveMemoryAreRefused) {
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

TEST(Graph, TensorsOfEndedScopesAndBeyondTheirEndAreRefused) {
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

TEST(Graph, SlicesMustBeInsideAndContiguous) {
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

TEST(Graph, AllocSaysWhatIsImpossible) {
  Chip chip;
  expect_mentions(message_of<KernelError>([&] { chip.run([](Graph &g) { g.alloc(DataType::FLOAT32, {-1}); }); }),
                  {"extent -1", "dimension 0"});
  expect_mentions(
      message_of<KernelError>([&] { chip.run([](Graph &g) { g.alloc(DataType::FLOAT32, {1, 1, 1, 1, 1, 1}); }); }),
      {"6 dimensions"});
}

TEST(Graph, AnInterruptEndsTheRunBetweenTwoTasks) {
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

TEST(Graph, ScalarsKeepTheirBits) {
  Chip chip;
  std::vector<uint64_t> got;
  const Kernel kernel = [&](Core &, TaskArgsView args) {
    got.assign(args.scalars + 1, args.scalars + args.scalar_count);
  };
  chip.run([&](Graph &graph) {
    graph.submit(task(kernel).scalar(-3).scalar(uint64_t{1} << 63).scalar(0.5).scalar(true).scalar(2U).scalar(0.25F));
  });
  const auto bits = [](double value) {
    uint64_t word;
    std::memcpy(&word, &value, 8);
    return word;
  };
  EXPECT_EQ(got, (std::vector<uint64_t>{static_cast<uint64_t>(-3), uint64_t{1} << 63, bits(0.5), 1, 2, bits(0.25)}));
}

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
