// A kernel: one tile of a product. It sees a row of tiles of a, a column of tiles of b, and its tile of c: parts of
// larger matrices, which are not copied.
#include "simpler/tile.h"

#include "tile_size.h"

using namespace simpler;

extern "C" void kernel(Core &core, TaskArgsView args) {
  const TensorView a = args.view(0), b = args.view(1), c = args.view(2);
  tile::Tile<float, TILE, TILE> left(core), right(core), sum(core);
  for (int64_t k = 0; k < int64_t(a.shapes[1]); k += TILE) {
    tile::load(core, left, a, 0, k, TILE, TILE, "a");
    tile::load(core, right, b, k, 0, TILE, TILE, "b");
    if (k == 0)
      tile::matmul(sum, left, right);
    else
      tile::matmul_acc(sum, sum, left, right);
  }
  tile::store(core, c, sum, 0, 0, "c");
}
