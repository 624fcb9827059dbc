// An orchestration: c = a b, a task for each tile of c. They share no byte of c, so none waits for another.
#include "simpler/orchestration.h"

#include "tile_size.h"

using namespace simpler;

extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  const ContinuousTensor &a = args.tensors[0], &b = args.tensors[1], &c = args.tensors[2];
  const int64_t rows = c.shapes[0], columns = c.shapes[1], depth = a.shapes[1];
  if (rows % TILE != 0 || columns % TILE != 0 || depth % TILE != 0)
    graph.fail("multiply", "extents %lld, %lld, %lld: they must be multiples of %d", static_cast<long long>(rows),
               static_cast<long long>(columns), static_cast<long long>(depth), TILE);
  for (int64_t row = 0; row < rows; row += TILE)
    for (int64_t column = 0; column < columns; column += TILE)
      graph.submit(Task(0)
                       .in(block(graph, a, {TILE, depth}, {row, 0}, "rows of a"))
                       .in(block(graph, b, {depth, TILE}, {0, column}, "columns of b"))
                       .out(block(graph, c, {TILE, TILE}, {row, column}, "tile of c")));
}
