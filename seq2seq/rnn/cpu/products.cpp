// Matrix products by tiles: the order of the tiles, and what the threads share.

#include "products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <vector>

#include "panels.h"

namespace seq2seq {
namespace {

using at::Tensor;

// Elsewhere the products are PyTorch's.
#if defined(__AVX512F__) || defined(__AVX2__)
constexpr bool kOwnProducts = true;
#else
constexpr bool kOwnProducts = false;
#endif

constexpr int64_t kPackedFrom = 16;     // rows from which it pays to pack W for one product
constexpr int64_t kPackedFloats = 512;  // the same in float without AVX-512, beside MKL's products
constexpr int64_t kCachedCells = 1 << 18;             // of a packed W, which stay in a cache: 1 MiB
constexpr int kTurnedRows = 64 / kLanes * kTileRows;  // rows of d^T that are packed together

// -- packing ---

template <typename P, typename S>
Tensor packed_from(const Tensor& weight) {
  const int64_t K = weight.size(1), N = weight.size(0), cells = blocks_of(K, Cell<P>::kValues),
                panels = blocks_of(N, kTileColumns), size = cells * kTileColumns;
  const int64_t width = kTileColumns * sizeof(float) / sizeof(P);
  const Tensor packed =
      at::empty({panels, cells, width}, weight.options().dtype(c10::CppTypeToScalarType<P>::value));
  const Source<S> source{weight.const_data_ptr<S>(), K, N, weight.stride(1), weight.stride(0)};
  uint32_t* to = static_cast<uint32_t*>(packed.mutable_data_ptr());
  at::parallel_for(0, panels, blocks_of(kThreadElements, size), [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      pack_columns<P, kTileColumns, kTileColumns>(source, 0, cells, panel * kTileColumns,
                                                  to + panel * size);
  });
  return packed;
}

// -- products of packed matrices ---

// Panels [begin, end) of rows [row, row + rows) of C.
struct Part {
  int64_t row, rows, begin, end;
};

// Calls each(part) on all of C of so many rows and panels, shared by threads along its longer side,
// in parts whose panels stay in a cache.
template <typename F>
void for_parts(int64_t rows, int64_t panels, int64_t cells, const F& each) {
  if (rows == 0) return;
  const int64_t blocks = blocks_of(rows, kTileRows), tile = kTileRows * kTileColumns * cells;
  const int64_t group = std::max<int64_t>(1, kCachedCells / (cells * kTileColumns));
  const bool by_row = rows > panels * kTileColumns;
  const int64_t shares = by_row ? blocks : panels;
  const int64_t grain = blocks_of(kThreadProducts, tile * blocks * panels / shares);
  at::parallel_for(0, shares, grain, [&](int64_t begin, int64_t end) {
    const int64_t first = by_row ? begin * kTileRows : 0,
                  last = by_row ? std::min(end * kTileRows, rows) : rows,
                  until = by_row ? panels : end;
    for (int64_t panel = by_row ? 0 : begin; panel < until; panel += group)
      each(Part{first, last - first, panel, std::min(panel + group, until)});
  });
}

// y (M, N) = x (M, K) W^T + bias; float y if K has more than kBlockCells cells. bias may be null.
template <typename P, typename S, typename Y>
void multiply(const Tensor& x, const Tensor& panels, const float* bias, const Tensor& y) {
  const int64_t M = x.size(0), K = x.size(1), N = y.size(1), cells = panels.size(1);
  const float* b = static_cast<const float*>(panels.const_data_ptr());
  Y* to = y.mutable_data_ptr<Y>();
  for (int64_t from = 0; from < cells; from += kBlockCells) {
    const int64_t size = std::min(kBlockCells, cells - from);
    for_parts(M, panels.size(0), size, [&](const Part& part) {
      Rows<P, S> all(x.const_data_ptr<S>(), K, x.stride(0));
      const int64_t most = blocks_of(part.rows, blocks_of(part.rows, kTileRows));
      for (int64_t row = part.row; row < part.row + part.rows; row += most) {
        const int64_t rows = std::min(most, part.row + part.rows - row);
        const ByRow a = all.of(row, rows, from, size);
        for (int64_t panel = part.begin; panel < part.end; ++panel) {
          const int64_t column = panel * kTileColumns;
          write_tile<P>(rows, N - column, a, b + (panel * cells + from) * kTileColumns, size,
                        to + row * N + column, N, bias && from == 0 ? bias + column : nullptr,
                        from > 0);
        }
      }
    });
  }
}

// C (V, N) = d (M, V)^T x (M, N), for a packed x^T; float C.
template <typename P>
void multiply_turned(const Tensor& d, const Tensor& panels, const Tensor& c) {
  const int64_t V = d.size(1), N = c.size(1), cells = panels.size(1);
  const Source<P> source{d.const_data_ptr<P>(), d.size(0), V, d.stride(0), 1};
  const float* b = static_cast<const float*>(panels.const_data_ptr());
  float* to = c.mutable_data_ptr<float>();
  for (int64_t from = 0; from < cells; from += kBlockCells) {
    const int64_t size = std::min(kBlockCells, cells - from);
    for_parts(V, panels.size(0), size, [&](const Part& part) {
      const int64_t end = part.row + part.rows;
      std::vector<float> room(size * kTurnedRows);
      for (int64_t first = part.row; first < end; first += kTurnedRows) {
        pack_columns<P, kTurnedRows, kTurnedRows>(source, from, size, first,
                                                  reinterpret_cast<uint32_t*>(room.data()));
        for (int64_t row = first; row < std::min(first + kTurnedRows, end); row += kTileRows) {
          const ByColumn<kTurnedRows> a{room.data() + row - first};
          for (int64_t panel = part.begin; panel < part.end; ++panel) {
            const int64_t column = panel * kTileColumns;
            write_tile<P>(std::min<int64_t>(kTileRows, end - row), N - column, a,
                          b + (panel * cells + from) * kTileColumns, size, to + row * N + column, N,
                          nullptr, from > 0);
          }
        }
      }
    });
  }
}

// -- products ---

Tensor rows_side_by_side(const Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

// x W^T + bias of a packed W, of type float or that of W.
Tensor packed_product(const Tensor& given, const Tensor& panels, const float* bias, int64_t N,
                      at::ScalarType type) {
  const Tensor x = rows_side_by_side(given);
  const bool whole = panels.size(1) <= kBlockCells || type == at::kFloat;
  const Tensor y = at::empty({x.size(0), N}, x.options().dtype(whole ? type : at::kFloat));
  const auto run = [&]<typename P, typename S>(P, S) {
    if (y.scalar_type() == at::kFloat)
      multiply<P, S, float>(x, panels, bias, y);
    else
      multiply<P, S, P>(x, panels, bias, y);
  };
  if (panels.scalar_type() == at::kFloat)
    run(float(), float());
  else if (x.scalar_type() == at::kFloat)
    run(BFloat16(), float());
  else
    run(BFloat16(), BFloat16());
  return whole ? y : y.to(type);
}

// Whether it pays to pack W for the product of one x.
bool packs_for(const Tensor& x) {
#if !defined(__AVX512F__)
  if (x.scalar_type() == at::kFloat) return x.size(0) >= kPackedFloats;
#endif
  return x.size(0) >= kPackedFrom;
}

}  // namespace

Tensor packed(const Tensor& weight, at::ScalarType type) {
  if (!kOwnProducts || weight.numel() == 0) return weight.to(type);
  if (type == at::kFloat) return packed_from<float, float>(weight);
  if (weight.scalar_type() == at::kFloat) return packed_from<BFloat16, float>(weight);
  return packed_from<BFloat16, BFloat16>(weight);
}

bool is_packed(const Tensor& weight) { return weight.dim() == 3; }

bool is_weight(const Tensor& weight, int64_t N, int64_t K) {
  if (!is_packed(weight)) return weight.sizes() == at::IntArrayRef({N, K});
  const int64_t values = kTileColumns * sizeof(float) / weight.element_size(),
                cell = weight.scalar_type() == at::kFloat ? 1 : Cell<BFloat16>::kValues;
  return weight.sizes() ==
         at::IntArrayRef({blocks_of(N, kTileColumns), blocks_of(K, cell), values});
}

Product::Product(const Tensor& weight, int64_t N, at::ScalarType type, bool packs)
    : weight_(packs && !is_packed(weight) ? packed(weight, type) : weight.to(type)), N_(N) {}

Tensor Product::operator()(const Tensor& x, at::ScalarType type,
                           const std::optional<Tensor>& bias) const {
  if (is_packed(weight_))
    return packed_product(x, weight_, bias ? bias->const_data_ptr<float>() : nullptr, N_, type);
  const at::ScalarType products = weight_.scalar_type();
  return at::linear(x.to(products), weight_, bias ? bias->to(products) : Tensor()).to(type);
}

Tensor product(const Tensor& x, const Tensor& weight, at::ScalarType type) {
  return Product(weight, weight.size(0), x.scalar_type(), packs_for(x))(x, type);
}

Tensor weight_gradient(const Tensor& given, const Tensor& x) {
  if (!kOwnProducts || x.size(0) < kPackedFrom || x.numel() == 0 || given.numel() == 0)
    return at::mm(given.t(), x).to(at::kFloat);
  const Tensor d = rows_side_by_side(given), panels = packed(x.t(), x.scalar_type()),
               c = at::empty({d.size(1), x.size(1)}, d.options().dtype(at::kFloat));
  if (d.scalar_type() == at::kFloat)
    multiply_turned<float>(d, panels, c);
  else
    multiply_turned<BFloat16>(d, panels, c);
  return c;
}

void check_input_term(const Tensor& x, const Tensor& weight_ih, int64_t width) {
  TORCH_CHECK(x.dim() == 2 && is_weight(weight_ih, width, x.size(1)), "expected x (N, I) and a ",
              "weight (", width, ", I), got ", x.sizes(), " and ", weight_ih.sizes());
}

Tensor input_term(const Tensor& x, const Tensor& weight_ih, int64_t width) {
  check_input_term(x, weight_ih, width);
  const at::ScalarType type = x.scalar_type();
  if (is_packed(weight_ih)) return Product(weight_ih, width, type, false)(x, type);
  return product(x, weight_ih, type);
}

std::tuple<Tensor, Tensor> input_term_backward(const Tensor& du, const Tensor& x,
                                               const Tensor& weight_ih, bool x_grad,
                                               bool weight_grad) {
  const Tensor nothing = at::empty({0}, x.options());
  return {x_grad ? product(du, weight_ih.t(), x.scalar_type()) : nothing,
          weight_grad ? weight_gradient(du, x).to(weight_ih.scalar_type()) : nothing};
}

}  // namespace seq2seq
