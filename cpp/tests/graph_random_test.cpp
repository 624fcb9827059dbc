// Random graphs of strided blocks give what their tasks give one after the other.
#include "graph_chip.h"

#include <cstdlib>
#include <random>

namespace simpler {
namespace {

// All of them in the full product, a share of them every day and under sanitizers, which take twenty times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t MANY = 3'000;
#else
constexpr size_t MANY = 100'000;
#endif
size_t graph_count() { return std::getenv("SIMPLER_TEST_ALL") != nullptr ? MANY : 1'500; }

constexpr uint32_t SIDE = 12, CELLS = SIDE * SIDE;

// Part of a buffer of SIDE x SIDE cells, also seen as SIDE x 4 x 3 of them.
TensorView random_view(std::mt19937 &random, const ContinuousTensor &buffer) {
  const auto below = [&](uint64_t n) { return random() % n; };
  TensorView t(buffer);
  if (below(8) == 0) { // consecutive cells
    const uint64_t first = below(CELLS), count = 1 + below(std::min<uint64_t>(CELLS - first, 40));
    t.ndims = 1;
    t.data += first * 8;
    t.shapes[0] = static_cast<uint32_t>(count);
    t.strides[0] = 1;
    return t;
  }
  const bool three = below(4) == 0;
  const uint32_t shape[3] = {SIDE, three ? 4 : SIDE, 3};
  const uint64_t strides[3] = {SIDE, three ? uint64_t{3} : uint64_t{1}, 1};
  t.ndims = three ? 3 : 2;
  for (uint32_t i = 0; i < t.ndims; ++i) {
    const uint64_t first = below(shape[i]), step = below(6) == 0 ? 2 : 1;
    t.data += first * strides[i] * 8;
    t.shapes[i] = static_cast<uint32_t>(1 + below((shape[i] - first - 1) / step + 1));
    t.strides[i] = strides[i] * step;
  }
  if (below(6) == 0) { // its transpose
    std::swap(t.shapes[0], t.shapes[1]);
    std::swap(t.strides[0], t.strides[1]);
  }
  return t;
}

template <class Call> void each_cell(const TensorView &t, uint64_t move, Call &&call) {
  for (uint32_t i = 0; i < t.shapes[0]; ++i)
    for (uint32_t j = 0; j < (t.ndims > 1 ? t.shapes[1] : 1); ++j)
      for (uint32_t k = 0; k < (t.ndims > 2 ? t.shapes[2] : 1); ++k)
        call(*reinterpret_cast<uint64_t *>(
            t.data + move +
            8 * (i * t.strides[0] + (t.ndims > 1 ? j * t.strides[1] : 0) + (t.ndims > 2 ? k * t.strides[2] : 0))));
}

// Whatever runs before or after makes another result. `move`: from where the views are to where the cells are.
void compute(const TensorView *views, int32_t count, bool keeps, uint64_t seed, uint64_t move) {
  uint64_t sum = seed;
  for (int32_t i = 0; i + 1 < count; ++i)
    each_cell(views[i], move, [&](uint64_t cell) { sum = (sum ^ cell) * 1099511628211ULL; });
  each_cell(views[count - 1], move, [&](uint64_t &cell) { cell = (keeps ? cell * 31 : 0) + ++sum; });
}

struct Step {
  std::vector<TensorView> views; // the last one is written
  bool keeps;
  int32_t func_id;
};

TEST_P(Graphs, RandomGraphsOfStridedBlocksGiveTheSerialResult) {
  const Kernel kernel = [](Core &, TaskArgsView args) {
    TensorView views[3];
    for (int32_t i = 0; i < args.tensor_count; ++i)
      views[i] = args.view(i);
    compute(views, args.tensor_count, args.scalars[1] != 0, args.scalars[2], 0);
  };
  Chip few_slots(2, {.heap_nbytes = 1 << 20, .task_slots = 3}), alone(1), many(3);
  for (unsigned seed = 0; seed < graph_count(); ++seed) {
    std::mt19937 random(seed);
    Chip &chip = seed % 8 == 0 ? few_slots : seed % 8 == 1 ? alone : many;
    const ContinuousTensor buffer = chip.cells(CELLS);
    std::vector<Step> steps(5 + random() % 30);
    for (Step &step : steps) {
      for (uint64_t i = 0, count = 1 + random() % 3; i < count; ++i)
        step.views.push_back(random_view(random, buffer));
      step.keeps = random() % 2 == 0;
      step.func_id = random() % 2 == 0 ? AIC : AIV;
    }
    std::vector<uint64_t> expected(CELLS, seed), result(CELLS);
    std::fill_n(buffer.as<uint64_t>(), CELLS, seed);
    for (size_t i = 0; i < steps.size(); ++i)
      compute(steps[i].views.data(), static_cast<int32_t>(steps[i].views.size()), steps[i].keeps, i,
              reinterpret_cast<uint64_t>(expected.data()) - buffer.data);
    chip.run_with(
        {buffer},
        [&](Graph &graph) {
          for (size_t i = 0; i < steps.size(); ++i) {
            Task t = task(kernel, steps[i].func_id).scalar(steps[i].keeps).scalar(i);
            for (size_t v = 0; v + 1 < steps[i].views.size(); ++v)
              t.in(steps[i].views[v]);
            steps[i].keeps ? t.inout(steps[i].views.back()) : t.out(steps[i].views.back());
            graph.submit(t);
          }
        },
        1 + seed % 3);
    std::copy_n(buffer.as<uint64_t>(), CELLS, result.begin());
    ASSERT_EQ(result, expected) << "seed " << seed;
    chip.memory.release(buffer.data);
  }
}

} // namespace
} // namespace simpler
