// A tile with a column (one value a row) or with a row (one value a column).
//
// The column's valid region is [rows of a] x 1, the row's 1 x [columns of a]; otherwise the kernel fails. `out` may be
// `a`.
#pragma once

#include "simpler/tile/elementwise.h"

namespace simpler::tile {
namespace detail {

template <class Op, class T, int R, int C>
inline void with_column(const char *op, Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, 1> &column) {
  if (column.rows != a.rows || column.cols != 1)
    a.core->fail(op, "a valid region of %dx%d needs a column of %dx1, not %dx%d", a.rows, a.cols, a.rows, column.rows,
                 column.cols);
  for (int r = 0; r < a.rows; ++r) {
    const Value<T> y = get(column.data[r]);
    map(out.data + r * C, a.cols, [y](Value<T> x) { return Op::apply(x, y); }, a.data + r * C);
  }
  out.rows = a.rows;
  out.cols = a.cols;
  publish(out.data);
}

template <class Op, class T, int R, int C>
inline void with_row(const char *op, Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, 1, C> &row) {
  if (row.rows != 1 || row.cols != a.cols)
    a.core->fail(op, "a valid region of %dx%d needs a row of 1x%d, not %dx%d", a.rows, a.cols, a.cols, row.rows,
                 row.cols);
  for (int r = 0; r < a.rows; ++r)
    map(out.data + r * C, a.cols, [](Value<T> x, Value<T> y) { return Op::apply(x, y); }, a.data + r * C, row.data);
  out.rows = a.rows;
  out.cols = a.cols;
  publish(out.data);
}

} // namespace detail

// out[r, c] = a[r, c] op column[r, 0].
template <class T, int R, int C>
inline void row_expand_add(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, 1> &column) {
  detail::with_column<detail::Add<T>>("row_expand_add", out, a, column);
}
template <class T, int R, int C>
inline void row_expand_sub(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, 1> &column) {
  detail::with_column<detail::Sub<T>>("row_expand_sub", out, a, column);
}
template <class T, int R, int C>
inline void row_expand_mul(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, 1> &column) {
  detail::with_column<detail::Mul<T>>("row_expand_mul", out, a, column);
}
template <class T, int R, int C>
inline void row_expand_div(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, R, 1> &column) {
  detail::check_divisor("row_expand_div", column);
  detail::with_column<detail::Div<T>>("row_expand_div", out, a, column);
}

// out[r, c] = a[r, c] op row[0, c].
template <class T, int R, int C>
inline void col_expand_add(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, 1, C> &row) {
  detail::with_row<detail::Add<T>>("col_expand_add", out, a, row);
}
template <class T, int R, int C>
inline void col_expand_sub(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, 1, C> &row) {
  detail::with_row<detail::Sub<T>>("col_expand_sub", out, a, row);
}
template <class T, int R, int C>
inline void col_expand_mul(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, 1, C> &row) {
  detail::with_row<detail::Mul<T>>("col_expand_mul", out, a, row);
}
template <class T, int R, int C>
inline void col_expand_div(Tile<T, R, C> &out, const Tile<T, R, C> &a, const Tile<T, 1, C> &row) {
  detail::check_divisor("col_expand_div", row);
  detail::with_row<detail::Div<T>>("col_expand_div", out, a, row);
}

} // namespace simpler::tile
