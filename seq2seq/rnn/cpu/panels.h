// The inner loops of products with a packed matrix B: packing its columns, reading the rows of A,
// and writing a tile of C.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tiles.h"

namespace seq2seq {

constexpr int64_t kThreadProducts = 1 << 18;  // multiplications that are worth a thread
constexpr int64_t kBlockCells = 1024;         // of K, summed in registers
constexpr int64_t kPageStride =
    4096;  // bytes; rows so far apart share few lines of the first cache

inline int64_t blocks_of(int64_t size, int64_t block) { return (size + block - 1) / block; }

// A matrix B (K, N) in memory.
template <typename S>
struct Source {
  const S* first;
  int64_t rows, columns, row_stride, column_stride;
};

// Cells [from, from + cells) of kColumns columns of B from `column` on, as (cells, kStride). What
// is beyond the edge of B is zero.
template <typename P, int kColumns, int kStride, typename S>
void pack_columns(const Source<S>& b, int64_t from, int64_t cells, int64_t column, uint32_t* to) {
  constexpr int64_t kValues = Cell<P>::kValues, kStep = 16;  // cells that are read of a column
  const int64_t columns = std::min<int64_t>(kColumns, b.columns - column),
                whole = std::min(cells, b.rows / kValues - from);
  const S* source = b.first + from * kValues * b.row_stride + column * b.column_stride;
  const auto copy = [&](int64_t k, int64_t j, int64_t row_stride, int64_t column_stride) {
    to[k * kStride + j] =
        Cell<P>::of(source + k * kValues * row_stride + j * column_stride, row_stride);
  };
  if (columns < kColumns || whole < cells) std::fill(to, to + cells * kStride, 0);
  if (b.column_stride == 1 && columns == kColumns) {
    for (int64_t k = 0; k < whole; ++k)
      for (int64_t j = 0; j < kColumns; ++j) copy(k, j, b.row_stride, 1);
  } else if (b.row_stride == 1) {
    for (int64_t first = 0; first < whole; first += kStep)
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t k = first; k < std::min(first + kStep, whole); ++k)
          copy(k, j, 1, b.column_stride);
  } else {
    for (int64_t k = 0; k < whole; ++k)
      for (int64_t j = 0; j < columns; ++j) copy(k, j, b.row_stride, b.column_stride);
  }
  if (whole < cells)  // an odd last row, and zeros for the one that it lacks
    for (int64_t j = 0; j < columns; ++j) {
      const S pair[] = {source[whole * kValues * b.row_stride + j * b.column_stride], S(0)};
      to[whole * kStride + j] = Cell<P>::of(pair, 1);
    }
}

// Rows of x (M, K) as cells. They are copied where K or the type does not fit, and where they lie
// so far apart that they would meet in few lines of the first cache.
template <typename P, typename S>
class Rows {
 public:
  Rows(const S* x, int64_t K, int64_t stride) : x_(x), K_(K), stride_(stride) {
    constexpr bool same = std::is_same_v<S, P> && sizeof(S) * kValues == sizeof(float);
    copies_ = !same || K % kValues || stride % kValues || stride * sizeof(S) % kPageStride == 0;
  }

  ByRow of(int64_t row, int64_t rows, int64_t from, int64_t cells) {
    const S* first = x_ + row * stride_ + from * kValues;
    if (!copies_) return {reinterpret_cast<const float*>(first), stride_ / kValues};
    const int64_t stride = cells + kLanes;
    room_.resize(kTileRows * (kBlockCells + kLanes));
    uint32_t* to = reinterpret_cast<uint32_t*>(room_.data());
    for (int64_t r = 0; r < rows; ++r)
      pack_columns<P, 1, 1>(Source<S>{x_ + (row + r) * stride_, K_, 1, 1, stride_}, from, cells, 0,
                            to + r * stride);
    return {room_.data(), stride};
  }

 private:
  static constexpr int64_t kValues = Cell<P>::kValues;
  const S* x_;
  int64_t K_, stride_;
  bool copies_;
  std::vector<float> room_;
};

// A part (rows, columns) of C: a tile, written through memory of its own where C has another type
// or fewer columns, or where the tile may have fewer rows than it computes. It is added to a bias
// of the columns, unless that is null, or to what C holds.
template <typename P, typename A, typename C>
ALWAYS_INLINE void write_tile(int64_t rows, int64_t columns, const A& a, const float* b,
                              int64_t cells, C* c, int64_t stride, const float* bias, bool adds) {
  if constexpr (std::is_same_v<C, float>)
    if (columns >= kTileColumns && A::has(rows)) {
      for (int64_t r = 0; bias && r < rows; ++r) std::copy_n(bias, kTileColumns, c + r * stride);
      return A::template tile_of<P>(rows, a, b, cells, c, stride, adds || bias);
    }
  alignas(64) float own[kTileRows * kTileColumns];
  A::template tile_of<P>(rows, a, b, cells, own, kTileColumns, false);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < std::min<int64_t>(columns, kTileColumns); ++j) {
      const float before = bias ? bias[j] : adds ? as_float(c[r * stride + j]) : 0.0f;
      c[r * stride + j] = rounded<C>(before + own[r * kTileColumns + j]);
    }
}

}  // namespace seq2seq
