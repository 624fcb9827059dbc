#include "simpler/orchestration.h"

using namespace simpler;

// c = a + n b, row by row, through tensors of its own.
extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  const ContinuousTensor &a = args.tensors[0], &b = args.tensors[1], &c = args.tensors[2];
  const auto n = static_cast<int64_t>(args.scalars[0]);
  const int64_t rows = c.shapes[0], columns = c.shapes[1];
  for (int64_t row = 0; row < rows; ++row) {
    const Scope scope(graph);
    ContinuousTensor sum = slice(graph, a, {1, columns}, {row, 0}, "a");
    const ContinuousTensor more = slice(graph, b, {1, columns}, {row, 0}, "b");
    for (int64_t i = 0; i < n; ++i) {
      const ContinuousTensor next =
          i + 1 < n ? graph.alloc(c.type(), {1, columns}) : slice(graph, c, {1, columns}, {row, 0}, "c");
      graph.submit(Task(0).in(sum).in(more).out(next));
      sum = next;
    }
  }
}
