// What an orchestration can say beside in, out and inout.
#include "graph_chip.h"

#include "expect.h"
#include "simpler/errors.h"

#include <barrier>

namespace simpler {
namespace {

const Kernel nothing = [](Core &, TaskArgsView) {};
const Kernel add_one = [](Core &, TaskArgsView args) { ++*args.tensors[0].as<int64_t>(); };
const Kernel set = [](Core &, TaskArgsView args) {
  *args.tensors[0].as<int64_t>() = static_cast<int64_t>(args.scalars[1]);
};

TEST_P(Graphs, OutputsCanBeCreatedBySubmit) {
  Chip chip;
  const ContinuousTensor result = chip.cells(1);
  const Kernel copy = [](Core &, TaskArgsView args) {
    *args.tensors[1].as<int64_t>() = *args.tensors[0].as<int64_t>();
  };
  chip.run([&](Graph &graph) {
    ContinuousTensor made{};
    graph.submit(task(set).scalar(42).out(&made, DataType::INT64, {1, 1}));
    EXPECT_EQ(made.ndims, 2u);
    graph.submit(task(copy).in(made).out(result));
  });
  EXPECT_EQ(*result.as<int64_t>(), 42);
}

TEST_P(Graphs, ATaskWaitsForThoseThatItNames) {
  for (uint32_t threads : {1U, 3U}) {
    Chip chip(threads);
    std::atomic<int> before = 0, wrong = 0;
    const Kernel first = [&](Core &, TaskArgsView) { ++before; };
    const Kernel last = [&](Core &, TaskArgsView) { wrong += before != 20; };
    for (int run = 0; run < 20; ++run) {
      before = 0;
      chip.run([&](Graph &graph) {
        Task t = task(last);
        for (int i = 0; i < 20; ++i)
          t.after(graph.submit(task(first)));
        graph.submit(t);
      });
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST_P(Graphs, AJoinIsWaitedForInPlaceOfMany) {
  Chip chip(3);
  std::atomic<int> before = 0, wrong = 0, after = 0;
  const Kernel first = [&](Core &, TaskArgsView) { ++before; };
  const Kernel last = [&](Core &, TaskArgsView) {
    ++after;
    wrong += before != 10;
  };
  chip.run([&](Graph &graph) {
    Task join = Task::join();
    for (int i = 0; i < 10; ++i)
      join.after(graph.submit(task(first)));
    const TaskHandle all = graph.submit(join);
    for (int i = 0; i < 5; ++i)
      graph.submit(task(last).after(all));
  });
  EXPECT_EQ(after, 5);
  EXPECT_EQ(wrong, 0);
}

TEST_P(Graphs, InAManualScopeTagsOrderNothing) {
  Chip chip(2);
  const ContinuousTensor cells = chip.cells(1);
  std::barrier meeting(2); // neither gets through alone
  const Kernel meet = [&](Core &, TaskArgsView) { meeting.arrive_and_wait(); };
  chip.run([&](Graph &graph) {
    const Scope scope(graph, Scope::MANUAL);
    graph.submit(task(meet).inout(cells));
    graph.submit(task(meet).inout(cells));
  });
  *cells.as<int64_t>() = 0;
  chip.run([&](Graph &graph) {
    const Scope outer(graph, Scope::MANUAL);
    const Scope inner(graph); // is manual too
    TaskHandle last;
    for (int i = 0; i < 100; ++i) {
      Task t = task(add_one).inout(cells);
      last = graph.submit(i == 0 ? t : t.after(last));
    }
  });
  EXPECT_EQ(*cells.as<int64_t>(), 100);
}

TEST_P(Graphs, AConditionThatIsZeroSkipsTheKernelAndNothingElse) {
  Chip chip(2);
  const ContinuousTensor cells = chip.cells(2);
  for (int64_t wanted : {0, 1}) {
    std::fill_n(cells.as<int64_t>(), 2, 5);
    chip.run_with({cells}, [&](Graph &graph) {
      const ContinuousTensor flag = part(cells, 0, 1), value = part(cells, 1, 1);
      graph.submit(task(set).scalar(wanted).out(flag));
      graph.submit(task(set).scalar(100).out(value).when(flag));
      graph.submit(task(add_one).inout(value));
    });
    EXPECT_EQ(cells.as<int64_t>()[1], wanted != 0 ? 101 : 6);
  }
}

TEST_P(Graphs, AnElementIsReadAndWrittenInItsTurn) {
  for (uint32_t threads : {1U, 2U}) {
    Chip chip(threads);
    const ContinuousTensor cells = chip.cells(4);
    std::fill_n(cells.as<int64_t>(), 4, 0);
    chip.run([&](Graph &graph) {
      for (int64_t i = 0; i < 50; ++i) {
        graph.submit(task(add_one).inout(part(cells, 2, 1)));
        EXPECT_EQ(graph.read<int64_t>(cells, {2}), 3 * i + 1);
        graph.submit(task(add_one).inout(part(cells, 2, 1)));
        graph.write<int64_t>(cells, {2}, graph.read<int64_t>(cells, {2}) + 1);
      }
      graph.submit(task(add_one).inout(part(cells, 2, 1)));
    });
    EXPECT_EQ(cells.as<int64_t>()[2], 151);
    chip.run([&](Graph &graph) {
      {
        const Scope scope(graph, Scope::MANUAL);
        graph.submit(task(add_one).inout(part(cells, 3, 1)));
      }
      EXPECT_EQ(graph.read<int64_t>(cells, {3}), 1) << "also what tags tell nothing of";
    });
  }
}

TEST_P(Graphs, ALaunchOfManyBlocksRunsEachOnce) {
  for (uint32_t threads : {1U, 3U}) {
    Chip chip(threads);
    std::vector<std::atomic<int>> seen(100);
    std::atomic<int> wrong = 0, after_all = 0;
    const Kernel block_kernel = [&](Core &core, TaskArgsView) {
      wrong += core.block_num != 100;
      ++seen[core.block_idx];
    };
    const ContinuousTensor cells = chip.cells(1);
    const Kernel check = [&](Core &core, TaskArgsView) {
      wrong += core.block_num != 1 || core.block_idx != 0;
      for (const auto &count : seen)
        after_all += count;
    };
    chip.run([&](Graph &graph) {
      graph.submit(task(block_kernel).blocks(100).out(cells));
      graph.submit(task(check).in(cells));
    });
    EXPECT_EQ(after_all, 100);
    EXPECT_EQ(wrong, 0);
    std::atomic<uint32_t> blocks = 0;
    const Kernel count_blocks = [&](Core &core, TaskArgsView) { blocks = core.block_num; };
    chip.run([&](Graph &graph) { graph.submit(task(count_blocks, AIV).blocks(0)); }, 5);
    EXPECT_EQ(blocks, 10u) << "as many as AIV cores in use";
  }
}

TEST_P(Graphs, DisjointBlocksOfOneBufferRunAtTheSameTime) {
  Chip chip(2);
  ContinuousTensor matrix = chip.cells(64);
  matrix.ndims = 2;
  matrix.shapes[0] = matrix.shapes[1] = 8;
  std::barrier meeting(2);
  const Kernel meet = [&](Core &, TaskArgsView) { meeting.arrive_and_wait(); };
  chip.run([&](Graph &graph) { // two columns
    graph.submit(task(meet).out(block(graph, matrix, {8, 4}, {0, 0}, "left")));
    graph.submit(task(meet).out(block(graph, matrix, {8, 4}, {0, 4}, "right")));
  });
}

TEST_P(Graphs, AKernelSeesTheStridesOfItsViews) {
  Chip chip;
  ContinuousTensor matrix = chip.cells(64);
  matrix.ndims = 2;
  matrix.shapes[0] = matrix.shapes[1] = 8;
  std::fill_n(matrix.as<int64_t>(), 64, 0);
  std::atomic<int> wrong = 0;
  const Kernel fill = [&](Core &, TaskArgsView args) {
    const TensorView t = args.view(0), dense = args.view(1);
    wrong += t.strides[0] != 8 || t.strides[1] != 1 || dense.strides[0] != 1 || args.tensors[0].data != 0 ||
             element_count(args.tensors[0]) != 0 || args.tensors[1].data == 0;
    for (uint32_t i = 0; i < t.shapes[0]; ++i)
      for (uint32_t j = 0; j < t.shapes[1]; ++j)
        t.as<int64_t>()[i * t.strides[0] + j * t.strides[1]] += 1;
  };
  const ContinuousTensor other = chip.cells(3);
  chip.run([&](Graph &graph) {
    for (int i = 0; i < 4; ++i)
      graph.submit(task(fill).inout(block(graph, matrix, {4, 4}, {i / 2 * 4, i % 2 * 4}, "tile")).in(other));
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(std::vector<int64_t>(matrix.as<int64_t>(), matrix.as<int64_t>() + 64), std::vector<int64_t>(64, 1));
}

TEST_P(Graphs, ImpossibleViewsAreNamed) {
  Chip chip;
  const ContinuousTensor cells = chip.cells(64);
  const auto submitting = [&](uint64_t stride0, uint64_t stride1, uint32_t rows) {
    return [&, stride0, stride1, rows] {
      chip.run([&](Graph &graph) {
        TensorView t(cells);
        t.ndims = 2;
        t.shapes[0] = rows, t.shapes[1] = 4;
        t.strides[0] = stride0, t.strides[1] = stride1;
        graph.submit(task(nothing).in(t));
      });
    };
  };
  EXPECT_NO_THROW(submitting(8, 1, 8)());
  expect_mentions(message_of<CallableError>(submitting(3, 1, 8)), {"task 0", "tensor 0", "overlaps itself"});
  expect_mentions(message_of<CallableError>(submitting(0, 1, 2)), {"overlaps itself"});
  expect_mentions(message_of<CallableError>(submitting(~0ULL / 2, 1, 8)), {"63 bits"});
  expect_mentions(message_of<DeviceMemoryError>(submitting(8, 1, 9)),
                  {"tensor 0", "544 bytes at 0x", "live allocation"});
  expect_mentions(
      message_of<KernelError>([&] { chip.run([&](Graph &graph) { block(graph, cells, {10}, {60}, "m.py:4"); }); }),
      {"m.py:4", "out of bounds", "dimension 0", "offset 60"});
}

TEST_P(Graphs, ImpossibleDependenciesAreNamed) {
  Chip chip;
  TaskHandle old;
  chip.run([&](Graph &graph) { old = graph.submit(task(nothing)); });
  const auto submitting = [&](TaskHandle handle) {
    return message_of<CallableError>([&] {
      chip.run([&](Graph &graph) {
        graph.submit(task(nothing));
        graph.submit(task(nothing).after(handle));
      });
    });
  };
  expect_mentions(submitting(old), {"task 1", "of another run"});
  expect_mentions(submitting({}), {"of another run"});
  expect_mentions(message_of<CallableError>([&] {
                    chip.run([&](Graph &graph) {
                      TaskHandle handle = graph.submit(task(nothing));
                      handle.id = TaskId(7, 0).bits();
                      graph.submit(task(nothing).after(handle));
                    });
                  }),
                  {"task 1", "task 7", "cycle"});
}

TEST_P(Graphs, ImpossibleConditionsAndElementsAreNamed) {
  Chip chip;
  ContinuousTensor two = chip.cells(2), one = chip.cells(1);
  ContinuousTensor real = one;
  real.dtype = static_cast<uint8_t>(DataType::FLOAT32);
  const auto when = [&](const ContinuousTensor &t) {
    return message_of<CallableError>([&] { chip.run([&](Graph &g) { g.submit(task(nothing).when(t)); }); });
  };
  expect_mentions(when(two), {"condition that is not one integer or bool"});
  expect_mentions(when(real), {"condition that is not one integer or bool"});
  expect_mentions(message_of<CallableError>(
                      [&] { chip.run([&](Graph &g) { g.submit(task(nothing).when(g.alloc(DataType::BOOL, {1}))); }); }),
                  {"condition that nobody writes before"});
  const auto reading = [&](const Orchestration &call) { return message_of<KernelError>([&] { chip.run(call); }); };
  expect_mentions(reading([&](Graph &g) { g.read<int64_t>(two, {2}); }), {"read", "index 2", "dimension 0"});
  expect_mentions(reading([&](Graph &g) { g.read<int64_t>(two, {0, 0}); }), {"2 indices", "1 dimensions"});
  expect_mentions(reading([&](Graph &g) { g.write<float>(two, {0}, 1); }), {"write", "float32", "int64"});
  expect_mentions(reading([&](Graph &g) { g.read<int8_t>(g.alloc(DataType::INT8, {4}), {1}); }), {"nobody wrote"});
}

TEST_P(Graphs, ScopesEndOnce) {
  Chip chip;
  expect_mentions(message_of<KernelError>([&] {
                    chip.run([](Graph &graph) {
                      Scope scope(graph);
                      scope.leave();
                      scope.leave();
                    });
                  }),
                  {"left twice"});
  expect_mentions(message_of<KernelError>([&] { chip.run([](Graph &graph) { graph.services->leave_scope(graph); }); }),
                  {"not open"});
  EXPECT_NO_THROW(chip.run([](Graph &graph) {
    Scope scope(graph);
    scope.leave();
  }));
}

TEST_P(Graphs, TheScopeThatKeepsARingFullIsNamed) {
  Chip chip(2, {.heap_nbytes = 8192, .task_slots = 64});
  try {
    chip.run([&](Graph &graph) {
      const Scope outer(graph), guilty(graph, Scope::INFERRED, "model.py:7");
      graph.alloc(DataType::INT8, {4096});
      for (int i = 0; i < 3; ++i) {
        const Scope harmless(graph), deeper(graph), deepest(graph);
        graph.alloc(DataType::INT8, {4096});
      }
      graph.alloc(DataType::INT8, {8192});
    });
    FAIL() << "expected RingFull";
  } catch (const RingFull &e) {
    EXPECT_EQ(e.ring, "heap ring 2");
    EXPECT_EQ(e.scope, "model.py:7");
    expect_mentions(e.what(), {"scope 'model.py:7'", "depth 2", "holds 4096 bytes"});
  }
}

// What a graph that was kept does with other arguments.
class Replay : public ::testing::Test {
protected:
  Replay() {
    Chip::host_builds = true;
    chip = std::make_unique<Chip>(2);
    chip->keeps_graphs = true;
  }
  // Runs, and tells whether the orchestration ran too.
  bool run(const std::vector<ContinuousTensor> &tensors) {
    const uint64_t built = chip->builder->built();
    args = &tensors;
    chip->run_with(tensors, orchestration);
    return chip->builder->built() != built;
  }
  const std::vector<ContinuousTensor> *args = nullptr;
  std::unique_ptr<Chip> chip;
  Orchestration orchestration = [this](Graph &graph) {
    const ContinuousTensor &out = args->back();
    const ContinuousTensor first = part(out, 0, 1), flag = part(out, 1, 1);
    ContinuousTensor own = graph.alloc(DataType::INT64, {1});
    graph.submit(task(set).scalar(7).out(own));
    graph.submit(task(copy).in(own).out(first));
    graph.submit(task(add_one).inout(first));
    graph.submit(task(add_one).inout(first).when(flag));
  };
  const Kernel copy = [](Core &, TaskArgsView args) {
    *args.tensors[1].as<int64_t>() = *args.tensors[0].as<int64_t>();
  };
};

TEST_F(Replay, TheSameShapesRunWithoutTheOrchestration) {
  const ContinuousTensor a = chip->cells(2), b = chip->cells(2);
  std::fill_n(a.as<int64_t>(), 2, 0);
  EXPECT_TRUE(run({a}));
  EXPECT_EQ(a.as<int64_t>()[0], 8);
  a.as<int64_t>()[1] = 1;
  EXPECT_FALSE(run({a})) << "what is in the arguments makes no difference";
  EXPECT_EQ(a.as<int64_t>()[0], 9);
  std::fill_n(b.as<int64_t>(), 2, 3);
  EXPECT_FALSE(run({b})) << "nor where they are";
  EXPECT_EQ(b.as<int64_t>()[0], 9);
  EXPECT_EQ(a.as<int64_t>()[0], 9);
  EXPECT_EQ(chip->builder->replayed(), 2u);
}

TEST_F(Replay, OtherShapesTypesOrOverlapsBuildAnew) {
  const ContinuousTensor cells = chip->cells(8), other = chip->cells(2);
  std::fill_n(cells.as<int64_t>(), 8, 0);
  std::fill_n(other.as<int64_t>(), 2, 0);
  EXPECT_TRUE(run({part(cells, 0, 4), other}));
  EXPECT_FALSE(run({part(cells, 4, 4), other}));
  EXPECT_TRUE(run({part(cells, 0, 3), other})) << "another shape";
  ContinuousTensor typed = part(cells, 0, 3);
  typed.dtype = static_cast<uint8_t>(DataType::UINT64);
  EXPECT_TRUE(run({typed, other})) << "another type";
  EXPECT_TRUE(run({typed, part(cells, 2, 2)})) << "now they overlap";
  EXPECT_FALSE(run({typed, part(cells, 2, 2)}));
  EXPECT_EQ(cells.as<int64_t>()[2], 8);
}

TEST_F(Replay, AnOrchestrationThatLooksAtDataRunsEachTime) {
  const ContinuousTensor cells = chip->cells(1);
  *cells.as<int64_t>() = 0;
  orchestration = [&](Graph &graph) {
    for (int64_t i = graph.read<int64_t>(cells, {0}); i >= 0; --i)
      graph.submit(task(add_one).inout(cells));
  };
  for (int64_t expected : {1, 3, 7, 15}) {
    EXPECT_TRUE(run({cells}));
    EXPECT_EQ(*cells.as<int64_t>(), expected);
  }
}

TEST_F(Replay, AFailedRunLeavesNoGraphToReplay) {
  const ContinuousTensor cells = chip->cells(1);
  std::atomic<bool> fails = true;
  const Kernel may_fail = [&](Core &core, TaskArgsView) {
    if (fails)
      core.fail(nullptr, "not yet");
  };
  orchestration = [&](Graph &graph) {
    graph.submit(task(may_fail).out(cells));
    graph.submit(task(set).scalar(1).out(cells));
    graph.submit(task(add_one).inout(cells));
  };
  EXPECT_THROW(run({cells}), KernelError);
  fails = false;
  EXPECT_TRUE(run({cells}));
  EXPECT_FALSE(run({cells}));
  fails = true;
  EXPECT_THROW(run({cells}), KernelError);
  fails = false;
  EXPECT_TRUE(run({cells})) << "its tasks had stopped anywhere";
  EXPECT_EQ(*cells.as<int64_t>(), 2);
}

TEST_F(Replay, MemoryOfEndedScopesIsUsedAgainAlsoInAReplay) {
  chip = std::make_unique<Chip>(2, RingSizes{.heap_nbytes = 4096, .task_slots = 64});
  chip->keeps_graphs = true;
  const ContinuousTensor sum = chip->cells(1);
  const Kernel fill = [](Core &, TaskArgsView args) {
    std::fill_n(args.tensors[0].as<int64_t>(), 128, static_cast<int64_t>(args.scalars[1]));
  };
  const Kernel add = [](Core &, TaskArgsView args) {
    for (int i = 0; i < 128; ++i)
      *args.tensors[1].as<int64_t>() += args.tensors[0].as<int64_t>()[i];
  };
  orchestration = [&](Graph &graph) {
    for (int i = 0; i < 50; ++i) {
      const Scope scope(graph);
      const ContinuousTensor own = graph.alloc(DataType::INT64, {128});
      graph.submit(task(fill).scalar(i).out(own));
      graph.submit(task(add).in(own).inout(sum));
    }
  };
  for (bool first : {true, false, false}) {
    *sum.as<int64_t>() = 0;
    EXPECT_EQ(run({sum}), first);
    EXPECT_EQ(*sum.as<int64_t>(), 128 * 50 * 49 / 2);
  }
}

} // namespace
} // namespace simpler
