// The innermost loop of a matrix product: a tile of C = A B whose sums stay in registers.
//
// The tile has up to kTileRows rows and kTileColumns columns. A is read in its own layout or packed
// by k; B is packed: the columns of one k lie side by side. What is multiplied at a time is a cell:
// a float, or two bfloat16 that follow each other in k, which one instruction multiplies and adds
// in float. A row of C depends on that row of A alone: its terms are added in the order of k,
// whatever the number of rows is.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "elementwise.h"

namespace seq2seq {

// As many as the registers hold: kTileRows * 2 sums, two of B, and what A needs.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 14;
#else
constexpr int kLanes = 8, kTileRows = 6;
#endif
constexpr int kTileColumns = 2 * kLanes;
constexpr int kTogether = 3;  // rows of A that share a pointer

typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// The cell of products of type P, 32 bits that travel as a float.
template <typename P>
struct Cell;

template <>
struct Cell<float> {
  static constexpr int kValues = 1;

  static ALWAYS_INLINE Lanes add(Lanes sum, float a, Lanes b) {
    return sum + (a - Lanes{}) * b;  // a - 0 is a, in every lane
  }
  // The cell of values `stride` apart.
  template <typename S>
  static ALWAYS_INLINE uint32_t of(const S* first, int64_t) {
    const float value = as_float(*first);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }
};

#if defined(__AVX512BF16__)
template <>
struct Cell<BFloat16> {
  static constexpr int kValues = 2;

  static ALWAYS_INLINE Lanes add(Lanes sum, float a, Lanes b) {
    int32_t bits;
    std::memcpy(&bits, &a, sizeof bits);
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(bits), (__m512bh)b);
  }
  template <typename S>
  static ALWAYS_INLINE uint32_t of(const S* first, int64_t stride) {
    const uint16_t low = rounded<BFloat16>(as_float(first[0])).x,
                   high = rounded<BFloat16>(as_float(first[stride])).x;
    return low | static_cast<uint32_t>(high) << 16;
  }
  static ALWAYS_INLINE uint32_t of(const BFloat16* first, int64_t stride) {
    return first[0].x | static_cast<uint32_t>(first[stride].x) << 16;
  }
};
#else
template <>
struct Cell<BFloat16> : Cell<float> {
  template <typename S>
  static ALWAYS_INLINE uint32_t of(const S* first, int64_t) {
    return static_cast<uint32_t>(rounded<BFloat16>(as_float(*first)).x) << 16;
  }
};
#endif

// sums += the products of the k-th cells.
template <typename P, int kRows, typename A>
ALWAYS_INLINE void add_products(const A& a, const float* const* at, int k, const float* b,
                                Lanes (&sums)[kRows][2]) {
  const Lanes left = *reinterpret_cast<const Lanes*>(b),
              right = *reinterpret_cast<const Lanes*>(b + kLanes);
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    const float cell = a.cell(at, r, k);
    sums[r][0] = Cell<P>::add(sums[r][0], cell, left);
    sums[r][1] = Cell<P>::add(sums[r][1], cell, right);
  }
}

// A tile C (kRows, kTileColumns), whose rows are `stride` floats apart, of so many cells in k. Adds
// to C if `adds`.
template <typename P, int kRows, typename A>
__attribute__((noinline)) static void tile(A a, const float* b, int64_t cells, float* c,
                                           int64_t stride, bool adds) {
  constexpr int kUnrolled = 4;
  Lanes sums[kRows][2];
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = sums[r][1] = Lanes{};
    __builtin_prefetch(c + r * stride, 1);
    __builtin_prefetch(c + r * stride + kLanes, 1);
  }
  const float* at[(kTileRows + kTogether - 1) / kTogether];
  a.template start<kRows>(at);
  int64_t k = 0;
  for (; k + kUnrolled <= cells; k += kUnrolled) {
#pragma GCC unroll 4
    for (int i = 0; i < kUnrolled; ++i)
      add_products<P, kRows>(a, at, i, b + i * kTileColumns, sums);
    a.template advance<kRows>(at, kUnrolled);
    b += kUnrolled * kTileColumns;
  }
  for (; k < cells; ++k) {
    add_products<P, kRows>(a, at, 0, b, sums);
    a.template advance<kRows>(at, 1);
    b += kTileColumns;
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    Lanes* row = reinterpret_cast<Lanes*>(c + r * stride);
    row[0] = adds ? row[0] + sums[r][0] : sums[r][0];
    row[1] = adds ? row[1] + sums[r][1] : sums[r][1];
  }
}

// A whose rows are `stride` cells apart, and whose cells of a row lie side by side.
struct ByRow {
  const float* first;
  int64_t stride;

  template <int kRows>
  ALWAYS_INLINE void start(const float** at) const {
    for (int i = 0; i < (kRows + kTogether - 1) / kTogether; ++i)
      at[i] = first + i * kTogether * stride;
  }
  ALWAYS_INLINE float cell(const float* const* at, int row, int k) const {
    return at[row / kTogether][row % kTogether * stride + k];
  }
  template <int kRows>
  ALWAYS_INLINE void advance(const float** at, int k) const {
    for (int i = 0; i < (kRows + kTogether - 1) / kTogether; ++i) at[i] += k;
  }

  static bool has(int64_t) { return true; }

  // A tile of a number of rows that is known only now.
  template <typename P, int kRows = kTileRows>
  static ALWAYS_INLINE void tile_of(int64_t rows, const ByRow& a, const float* b, int64_t cells,
                                    float* c, int64_t stride, bool adds) {
    if constexpr (kRows > 1)
      if (rows < kRows) return tile_of<P, kRows - 1>(rows, a, b, cells, c, stride, adds);
    tile<P, kRows>(a, b, cells, c, stride, adds);
  }
};

// A whose rows lie side by side for each k, in room for kStride of them. All kTileRows are
// computed.
template <int kStride>
struct ByColumn {
  const float* first;

  template <int kRows>
  ALWAYS_INLINE void start(const float** at) const {
    at[0] = first;
  }
  ALWAYS_INLINE float cell(const float* const* at, int row, int k) const {
    return at[0][k * kStride + row];
  }
  template <int kRows>
  ALWAYS_INLINE void advance(const float** at, int k) const {
    at[0] += k * kStride;
  }

  static bool has(int64_t rows) { return rows == kTileRows; }

  template <typename P>
  static ALWAYS_INLINE void tile_of(int64_t, const ByColumn& a, const float* b, int64_t cells,
                                    float* c, int64_t stride, bool adds) {
    tile<P, kTileRows>(a, b, cells, c, stride, adds);
  }
};

}  // namespace seq2seq
