// Orchestration, scheduler and cores together: what runs when, and where.
#include "graph_chip.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cstring>
#include <random>
#include <set>

namespace simpler {
namespace {

// For the tests of all files.
INSTANTIATE_TEST_SUITE_P(Runtimes, Graphs, ::testing::Bool(),
                         [](const auto &which) { return which.param ? HOST_BUILD_GRAPH : TENSORMAP_AND_RINGBUFFER; });

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

TEST_P(Graphs, RandomProgramsGiveTheSerialResult) {
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

// For each 1,000 tasks of a chain: which of them ran elsewhere depends on the machine, that all did would be a mistake.
TEST_P(Graphs, TasksThatAreAloneMostlyStayOnTheCallingThread) {
  Chip chip(4);
  const ContinuousTensor cells = chip.cells(1);
  size_t here = 0;
  const auto caller = std::this_thread::get_id();
  const Kernel kernel = [&](Core &, TaskArgsView) { here += std::this_thread::get_id() == caller; };
  for (int run = 0; run < 200; ++run)
    chip.run([&](Graph &graph) {
      for (int i = 0; i < 5; ++i)
        graph.submit(task(kernel).inout(cells));
    });
  EXPECT_GT(here, 500u);
}

TEST(TensormapAndRingbuffer, ATaskThatIsAloneStartsWhileTheOrchestrationWorks) {
  Chip::host_builds = false;
  for (const char *platform : {"cpu", "a2a3sim"})
    for (uint32_t clusters : {0U, 1U}) {
      Chip chip(2, {}, platform);
      std::atomic<bool> started = false;
      const Kernel kernel = [&](Core &, TaskArgsView) { started = true; };
      for (int run = 0; run < 3; ++run) {
        started = false;
        chip.run(
            [&](Graph &graph) {
              graph.submit(task(kernel, AIC));
              while (!started) // for ever, if it has to wait for this loop
                std::this_thread::yield();
            },
            clusters);
      }
    }
}

TEST(TensormapAndRingbuffer, OneLongTaskDoesNotStopTheSubmissionOfManyShortOnes) {
  Chip::host_builds = false;
  Chip chip(2, {.heap_nbytes = 1 << 20, .task_slots = 64});
  std::atomic<bool> all_submitted = false, long_started = false;
  std::atomic<int> count = 0;
  const Kernel takes_long = [&](Core &, TaskArgsView) {
    long_started = true;
    while (!all_submitted)
      std::this_thread::yield();
  };
  const Kernel takes_no_time = [&](Core &, TaskArgsView) { ++count; };
  chip.run([&](Graph &graph) {
    graph.submit(task(takes_long));
    while (!long_started) // elsewhere: this thread has to go on
      std::this_thread::yield();
    for (int i = 0; i < 50'000; ++i)
      graph.submit(task(takes_no_time));
    all_submitted = true;
  });
  EXPECT_EQ(count, 50'000);
}

TEST_P(Graphs, IndependentTasksRunAtTheSameTime) {
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

TEST_P(Graphs, NeverStartsMoreThreadsThanItMay) {
  Chip chip(3);
  const Kernel kernel = [](Core &, TaskArgsView) {};
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 2000; ++i)
      graph.submit(task(kernel));
  });
  EXPECT_LE(chip.scheduler.started_threads(), 2u);
}

TEST_P(Graphs, OneThreadGetsThroughEverything) {
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

TEST_P(Graphs, TasksRunOnCoresOfTheirTypeWithinTheClustersInUse) {
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

TEST_P(Graphs, MoreTasksThanSlotsPushBack) {
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

TEST_P(Graphs, MemoryOfEndedScopesIsUsedAgain) {
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

TEST_P(Graphs, ScalarsKeepTheirBits) {
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

} // namespace
} // namespace simpler
