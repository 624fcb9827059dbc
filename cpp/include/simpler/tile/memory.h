// Between tensors and tiles: load, store; full and copy.
#pragma once

#include "simpler/tile/tile.h"

namespace simpler::tile {
namespace detail {

// What a load or store wants of a tensor.
struct Access {
  const char *verb;
  DataType dtype;
  int64_t row, col, rows, cols;
};

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_access(Core &core, const char *where, const Access &access,
                                                               const TensorView &tensor) {
  using ll = long long;
  if (tensor.type() != access.dtype)
    core.fail(where, "%s of a %s tile, but the tensor is %s", access.verb, name_of(access.dtype),
              name_of(tensor.type()));
  if (tensor.ndims != 2)
    core.fail(where, "%s needs a tensor of 2 dimensions, this one has %u", access.verb, tensor.ndims);
  if (tensor.shapes[1] > 1 && tensor.strides[1] != 1)
    core.fail(where, "%s needs a tensor whose rows are dense, in this one %llu elements lie between neighbours",
              access.verb, static_cast<unsigned long long>(tensor.strides[1]));
  core.fail(where, "%s of %lldx%lld at [%lld, %lld] leaves the tensor of %ux%u", access.verb, ll(access.rows),
            ll(access.cols), ll(access.row), ll(access.col), tensor.shapes[0], tensor.shapes[1]);
}

inline void check_access(Core &core, const char *where, const Access &access, const TensorView &tensor) {
  const int64_t height = tensor.shapes[0], width = tensor.shapes[1];
  // rows and cols are within a tile by now, so the subtractions can't overflow, as additions to row and col could.
  if (tensor.type() != access.dtype || tensor.ndims != 2 || access.row < 0 || access.col < 0 ||
      access.row > height - access.rows || access.col > width - access.cols || (width > 1 && tensor.strides[1] != 1))
    fail_access(core, where, access, tensor);
}

// rows x cols elements; the strides count elements.
template <class T>
inline void copy_rows(T *to, int64_t to_stride, const T *from, int64_t from_stride, int64_t rows, int64_t cols) {
  if (to_stride == cols && from_stride == cols) {
    cols *= rows;
    rows = rows != 0;
  }
  for (int64_t r = 0; r < rows; ++r) {
    if constexpr (is_bool<T>) {
      // A tensor's bool may hold any byte; in a tile it is 0 or 1, whatever the compiler makes of that.
      auto *bytes = reinterpret_cast<unsigned char *>(to + r * to_stride);
      const auto *source = reinterpret_cast<const unsigned char *>(from + r * from_stride);
      for (int64_t c = 0; c < cols; ++c)
        bytes[c] = source[c] != 0;
    } else {
      __builtin_memcpy(to + r * to_stride, from + r * from_stride, static_cast<size_t>(cols) * sizeof(T));
    }
  }
}

} // namespace detail

// out = tensor[row : row + valid_rows, col : col + valid_cols]. The tensor has 2 dimensions and out's element type, its
// rows are dense, and it holds the whole range; the range fits the tile. Otherwise the kernel fails, naming `where`
// ("file.py:12").
template <class T, int R, int C>
inline void load(Core &core, Tile<T, R, C> &out, const TensorView &tensor, int64_t row, int64_t col, int64_t valid_rows,
                 int64_t valid_cols, const char *where) {
  if (valid_rows < 0 || valid_rows > R || valid_cols < 0 || valid_cols > C)
    core.fail(where, "load of %lldx%lld does not fit a tile of %dx%d", static_cast<long long>(valid_rows),
              static_cast<long long>(valid_cols), R, C);
  detail::check_access(core, where, {"load", detail::Element<T>::dtype, row, col, valid_rows, valid_cols}, tensor);
  out.rows = static_cast<int>(valid_rows);
  out.cols = static_cast<int>(valid_cols);
  const auto step = static_cast<int64_t>(tensor.strides[0]);
  if (valid_rows != 0 && valid_cols != 0)
    detail::copy_rows<T>(out.data, C, tensor.as<const T>() + row * step + col, step, valid_rows, valid_cols);
}

// tensor[row : row + tile.rows, col : col + tile.cols] = the valid region of the tile; checked as load is.
template <class T, int R, int C>
inline void store(Core &core, const TensorView &tensor, const Tile<T, R, C> &tile, int64_t row, int64_t col,
                  const char *where) {
  detail::check_access(core, where, {"store", detail::Element<T>::dtype, row, col, tile.rows, tile.cols}, tensor);
  const auto step = static_cast<int64_t>(tensor.strides[0]);
  if (tile.rows != 0 && tile.cols != 0)
    detail::copy_rows<T>(tensor.as<T>() + row * step + col, step, tile.data, C, tile.rows, tile.cols);
}

// out = a.
template <class T, int R, int C> inline void copy(Tile<T, R, C> &out, const Tile<T, R, C> &a) {
  out.rows = a.rows;
  out.cols = a.cols;
  if (out.data != a.data)
    detail::copy_rows<T>(out.data, C, a.data, C, a.rows, a.cols);
}

} // namespace simpler::tile
