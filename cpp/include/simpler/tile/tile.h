// Tile: a small matrix in core-local memory, of which a leading part is valid.
#pragma once

#include "simpler/kernel.h"
#include "simpler/tile/types.h"

// Before a loop whose iterations do not depend on each other: operands are either the same tile, read and written at
// the same index, or do not overlap.
#if defined(__clang__)
#define SIMPLER_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define SIMPLER_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace simpler::tile {

// R x C elements of T, row-major with a row stride of C, in local memory of `core` for as long as the tile lives.
// The valid region is rows x cols (from the upper left corner); what lies outside it is never read as a value.
// Memory is given back last in, first out: tiles are local variables.
template <class T, int R, int C> struct Tile {
  static_assert(R > 0 && C > 0, "a tile has at least one row and one column");
  static constexpr DataType dtype = detail::Element<T>::dtype;

  explicit Tile(Core &core, int rows = R, int cols = C) : data(nullptr), rows(rows), cols(cols), core(&core) {
    if (rows < 0 || rows > R || cols < 0 || cols > C)
      core.fail("tile", "a valid region of %dx%d does not fit a tile of %dx%d", rows, cols, R, C);
    data = static_cast<T *>(core.alloc_local(sizeof(T) * R * C));
  }
  ~Tile() { core->free_local(data); }
  Tile(const Tile &) = delete;
  Tile &operator=(const Tile &) = delete;

  T *data;
  int rows, cols;
  Core *core;
};

namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_regions(Core &core, const char *op, int rows_a, int cols_a,
                                                                int rows_b, int cols_b) {
  core.fail(op, "the valid regions of the operands are %dx%d and %dx%d; they must be equal", rows_a, cols_a, rows_b,
            cols_b);
}

// Operands of an element-by-element operation must be valid in the same region.
template <class A, class B> inline void check_regions(const char *op, const A &a, const B &b) {
  if (a.rows != b.rows || a.cols != b.cols)
    fail_regions(*a.core, op, a.rows, a.cols, b.rows, b.cols);
}

// Makes the elements of `out` final: without it the compiler could carry an unrounded product of one operation into
// the next (a fused multiply-add), and a kernel's result would depend on how it was optimised.
template <class T> inline void publish(T *data) { asm volatile("" : : "r"(data) : "memory"); }

// The valid region as runs of consecutive elements: one run where whole rows are valid, else a run a row.
template <int C> struct Runs {
  int count, length;
  Runs(int rows, int cols) : count(cols == C ? 1 : rows), length(cols == C ? rows * C : cols) {}
};

} // namespace detail
} // namespace simpler::tile
