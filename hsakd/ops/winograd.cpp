// 3x3 convolutions at stride 1 with padding 1 by Winograd's minimal filtering, F(4x4, 3x3):
// 36 multiplications give the 4x4 outputs of a tile that take 144 directly. Lavin and Gray,
// https://arxiv.org/abs/1509.09308, whose transforms these are:
//
//   y = A' [(G w G') * (B' d B)] A      d: 6x6 inputs, w: 3x3 weights, y: 4x4 outputs
//
// summed over input channels, which makes of * a product of matrices for each of the 36 places.
// The gradient of the inputs is the same convolution with turned weights; that of the weights is
// G' [sum over tiles of (B' d B) * (A dy A')] G.
//
// Maps are NHWC (torch's channels_last), float32, and numbers of channels multiples of 16. A block
// of tiles passes all three steps in the cache of its thread. Plain C++ with GCC's vectors and
// OpenMP, called by hsakd/ops/winograd.py.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
constexpr int kRows = 12;  // of a product that stay in registers
#else
constexpr int kLanes = 8;
constexpr int kRows = 6;
#endif
constexpr int kPanel = 16;  // columns of a product that stay in registers
constexpr int kVecs = kPanel / kLanes;
constexpr int kPlaces = 36;
constexpr int64_t kGap = 16;  // between places, so that they do not fall on the same cache lines

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// One-dimensional transforms; elements of source and target are `s` and `t` apart.

// B': 6 inputs to 6
inline void transform_inputs(const Vec* d, int s, Vec* out, int t) {
  const Vec a = d[4 * s] - 4.f * d[2 * s], b = d[3 * s] - 4.f * d[s];
  const Vec c = d[4 * s] - d[2 * s], e = 2.f * (d[3 * s] - d[s]);
  out[0] = 4.f * d[0] - 5.f * d[2 * s] + d[4 * s];
  out[t] = a + b;
  out[2 * t] = a - b;
  out[3 * t] = c + e;
  out[4 * t] = c - e;
  out[5 * t] = 4.f * d[s] - 5.f * d[3 * s] + d[5 * s];
}

// A': 6 products to 4 outputs
inline void transform_products(const Vec* m, int s, Vec* out, int t) {
  const Vec a = m[s] + m[2 * s], b = m[s] - m[2 * s];
  const Vec c = m[3 * s] + m[4 * s], d = m[3 * s] - m[4 * s];
  out[0] = m[0] + a + c;
  out[t] = b + 2.f * d;
  out[2 * t] = a + 4.f * c;
  out[3 * t] = b + 8.f * d + m[5 * s];
}

// A: 4 gradients of outputs to 6 of products
inline void transform_gradients(const Vec* g, int s, Vec* out, int t) {
  const Vec a = g[0] + g[2 * s], b = g[s] + g[3 * s];
  const Vec c = g[0] + 4.f * g[2 * s], d = 2.f * g[s] + 8.f * g[3 * s];
  out[0] = g[0];
  out[t] = a + b;
  out[2 * t] = a - b;
  out[3 * t] = c + d;
  out[4 * t] = c - d;
  out[5 * t] = g[3 * s];
}

// G: 3 weights to 6
inline void transform_weights(const Vec* w, int s, Vec* out, int t) {
  const Vec a = (w[0] + w[2 * s]) * (-1.f / 6), b = w[s] * (1.f / 6);
  const Vec c = w[0] * (1.f / 24) + w[2 * s] * (1.f / 6), d = w[s] * (1.f / 12);
  out[0] = w[0] * .25f;
  out[t] = a - b;
  out[2 * t] = a + b;
  out[3 * t] = c + d;
  out[4 * t] = c - d;
  out[5 * t] = w[2 * s];
}

// G': 6 to the gradients of 3 weights
inline void transform_weight_gradients(const Vec* u, int s, Vec* out, int t) {
  const Vec a = (u[s] + u[2 * s]) * (1.f / 6), b = u[3 * s] + u[4 * s];
  out[0] = .25f * u[0] - a + b * (1.f / 24);
  out[t] = (u[2 * s] - u[s]) * (1.f / 6) + (u[3 * s] - u[4 * s]) * (1.f / 12);
  out[2 * t] = b * (1.f / 6) - a + u[5 * s];
}

// Maps of one size, and the tiles of 4x4 outputs that cover them.
struct Maps {
  int64_t n, h, w;
  int64_t rows() const { return (h + 3) / 4; }
  int64_t columns() const { return (w + 3) / 4; }
  int64_t tiles() const { return n * rows() * columns(); }
};

// Where a tile is: its map, and the place of its first output in it.
struct Tile {
  int64_t map, y, x;
  bool whole;  // no part of it is outside of the map
  Tile(const Maps& maps, int64_t index)
      : map(index / (maps.rows() * maps.columns())),
        y(index / maps.columns() % maps.rows() * 4),
        x(index % maps.columns() * 4),
        whole(y + 4 <= maps.h && x + 4 <= maps.w) {}
};

// Inputs of a tile, transformed, to `out[place * stride + channel]`.
void read_inputs(const float* in, const Maps& maps, int64_t channels, const Tile& tile, float* out,
                 int64_t stride) {
  const int64_t row = maps.w * channels;
  in += tile.map * maps.h * row + (tile.y - 1) * row + (tile.x - 1) * channels;
  const bool inside = tile.y > 0 && tile.x > 0 && tile.y + 5 <= maps.h && tile.x + 5 <= maps.w;
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec t[36];
    for (int b = 0; b < 6; b++) {
      Vec d[6];
      const float* at = in + b * channels + c;
      if (inside) {
        for (int a = 0; a < 6; a++) d[a] = load(at + a * row);
      } else {
        const int64_t x = tile.x + b - 1;
        for (int a = 0; a < 6; a++) {
          const int64_t y = tile.y + a - 1;
          d[a] = x >= 0 && x < maps.w && y >= 0 && y < maps.h ? load(at + a * row) : Vec{};
        }
      }
      transform_inputs(d, 1, t + b, 6);
    }
    for (int a = 0; a < 6; a++) {
      Vec d[6];
      transform_inputs(t + 6 * a, 1, d, 1);
      for (int b = 0; b < 6; b++) store(out + (6 * a + b) * stride + c, d[b]);
    }
  }
}

// Gradients of a tile's outputs, transformed, as read_inputs writes inputs.
void read_gradients(const float* in, const Maps& maps, int64_t channels, const Tile& tile,
                    float* out, int64_t stride) {
  in += ((tile.map * maps.h + tile.y) * maps.w + tile.x) * channels;
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec g[16], t[24], row[6];
    for (int a = 0; a < 4; a++) {
      for (int b = 0; b < 4; b++) {
        const bool there = tile.whole || (tile.y + a < maps.h && tile.x + b < maps.w);
        g[4 * a + b] = there ? load(in + (a * maps.w + b) * channels + c) : Vec{};
      }
    }
    for (int b = 0; b < 4; b++) transform_gradients(g + b, 4, t + b, 4);
    for (int a = 0; a < 6; a++) {
      transform_gradients(t + 4 * a, 1, row, 1);
      for (int b = 0; b < 6; b++) store(out + (6 * a + b) * stride + c, row[b]);
    }
  }
}

// What is done to outputs before they are written: act(y + bias + residual).
struct Epilogue {
  const float* bias;      // of each channel, or null
  const float* residual;  // as the outputs, or null
  bool relu;
};

// Products of a tile to its outputs.
void write_outputs(float* out, const Maps& maps, int64_t channels, const Tile& tile,
                   const float* in, int64_t stride, const Epilogue& after) {
  const int64_t first = ((tile.map * maps.h + tile.y) * maps.w + tile.x) * channels;
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec t[24];
    for (int b = 0; b < 6; b++) {
      Vec m[6];
      for (int a = 0; a < 6; a++) m[a] = load(in + (6 * a + b) * stride + c);
      transform_products(m, 1, t + b, 6);
    }
    const Vec bias = after.bias ? load(after.bias + c) : Vec{};
    for (int a = 0; a < 4; a++) {
      Vec y[4];
      transform_products(t + 6 * a, 1, y, 1);
      for (int b = 0; b < 4; b++) {
        if (!tile.whole && (tile.y + a >= maps.h || tile.x + b >= maps.w)) continue;
        const int64_t at = first + (a * maps.w + b) * channels + c;
        y[b] += bias;
        if (after.residual) y[b] += load(after.residual + at);
        if (after.relu) y[b] = y[b] < 0.f ? Vec{} : y[b];  // NaN stays
        store(out + at, y[b]);
      }
    }
  }
}

// C[R][kPanel] = A[R][depth] B[depth][kPanel]
template <int R>
inline void multiply_rows(const float* A, int64_t a_row, const float* B, float* C, int64_t c_row,
                          int64_t depth) {
  Vec sum[R][kVecs] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vec b[kVecs];
    for (int v = 0; v < kVecs; v++) b[v] = load(B + kPanel * k + kLanes * v);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < kVecs; v++) sum[r][v] += A[r * a_row + k] * b[v];
    }
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVecs; v++) store(C + r * c_row + kLanes * v, sum[r][v]);
  }
}

// C[R][kPanel] += A[depth][R]' B[depth][kPanel]
template <int R>
inline void add_products(const float* A, int64_t a_row, const float* B, int64_t b_row, float* C,
                         int64_t c_row, int64_t depth) {
  Vec sum[R][kVecs];
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVecs; v++) sum[r][v] = load(C + r * c_row + kLanes * v);
  }
  for (int64_t k = 0; k < depth; k++) {
    Vec b[kVecs];
    for (int v = 0; v < kVecs; v++) b[v] = load(B + k * b_row + kLanes * v);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < kVecs; v++) sum[r][v] += A[k * a_row + r] * b[v];
    }
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < kVecs; v++) store(C + r * c_row + kLanes * v, sum[r][v]);
  }
}

// Call `work.template run<R>(row)` for `rows` rows, kRows and then what is left at once.
template <int R, class Work>
inline void by_rows(int64_t row, int64_t rows, const Work& work) {
  for (; rows - row >= R; row += R) work.template run<R>(row);
  if constexpr (R > 1) {
    if (row < rows) by_rows<R - 1>(row, rows, work);
  }
}

// C[rows][columns] = A[rows][depth] B, B in panels: [columns / kPanel][depth][kPanel]
struct Product {
  const float *A, *B;
  float* C;
  int64_t columns, depth;
  template <int R>
  void run(int64_t row) const {
    multiply_rows<R>(A + row * depth, depth, B, C + row * columns, columns, depth);
  }
};

void multiply(const float* A, const float* B, float* C, int64_t rows, int64_t columns,
              int64_t depth) {
  for (int64_t p = 0; p < columns; p += kPanel) {
    by_rows<kRows>(0, rows, Product{A, B + p * depth, C + p, columns, depth});
  }
}

// C[rows][columns] += A[depth][rows]' B[depth][columns]
struct TransposedProduct {
  const float *A, *B;
  float* C;
  int64_t rows, columns, depth;
  template <int R>
  void run(int64_t row) const {
    add_products<R>(A + row, rows, B, columns, C + row * columns, columns, depth);
  }
};

void add_transposed(const float* A, const float* B, float* C, int64_t rows, int64_t columns,
                    int64_t depth) {
  for (int64_t p = 0; p < columns; p += kPanel) {
    by_rows<kRows>(0, rows, TransposedProduct{A, B + p, C + p, rows, columns, depth});
  }
}

// Memory of a thread, kept from call to call.
struct Scratch {
  float* data = nullptr;
  int64_t size = 0;
  ~Scratch() { std::free(data); }
  float* at_least(int64_t floats) {
    if (size < floats) {
      std::free(data);
      data = static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
      size = floats;
    }
    return data;
  }
};
thread_local Scratch inputs_of_thread, products_of_thread;

}  // namespace

extern "C" {

// Transformed weights [36][outputs / kPanel][inputs][kPanel] of weights at
// w[output * so + input * si + row * sy + column * sx].
void hsakd_winograd_weights(const float* w, int64_t outputs, int64_t inputs, int64_t so, int64_t si,
                            int64_t sy, int64_t sx, float* out) {
#pragma omp parallel for if (outputs * inputs >= 4096)
  for (int64_t p = 0; p < outputs / kPanel; p++) {
    for (int64_t i = 0; i < inputs; i++) {
      for (int v = 0; v < kPanel; v += kLanes) {
        Vec g[9], t[18], row[6];
        for (int k = 0; k < 9; k++) {
          const float* at = w + (p * kPanel + v) * so + i * si + k / 3 * sy + k % 3 * sx;
          for (int l = 0; l < kLanes; l++) g[k][l] = at[l * so];
        }
        for (int b = 0; b < 3; b++) transform_weights(g + b, 3, t + b, 3);
        for (int a = 0; a < 6; a++) {
          transform_weights(t + 3 * a, 1, row, 1);
          for (int b = 0; b < 6; b++) {
            const int64_t panel = (6 * a + b) * (outputs / kPanel) + p;
            store(out + (panel * inputs + i) * kPanel + v, row[b]);
          }
        }
      }
    }
  }
}

// Outputs [n][h][w][outputs] of maps [n][h][w][inputs] and transformed weights.
void hsakd_winograd_forward(const float* in, const float* weights, const float* bias,
                            const float* residual, int relu, float* out, int64_t n, int64_t h,
                            int64_t w, int64_t inputs, int64_t outputs) {
  const Maps maps{n, h, w};
  const Epilogue after{bias, residual, relu != 0};
  // So few that what they become stays in a cache of 512 KiB, beside the weights where possible.
  const int64_t block = inputs + outputs <= 128 ? 4 * kRows : 12;
  const int64_t in_stride = block * inputs + kGap, out_stride = block * outputs + kGap;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t first = 0; first < maps.tiles(); first += block) {
    const int64_t count = std::min(block, maps.tiles() - first);
    float* d = inputs_of_thread.at_least(kPlaces * in_stride);
    float* m = products_of_thread.at_least(kPlaces * out_stride);
    for (int64_t t = 0; t < count; t++) {
      read_inputs(in, maps, inputs, Tile(maps, first + t), d + t * inputs, in_stride);
    }
    for (int k = 0; k < kPlaces; k++) {
      const float* weights_k = weights + k * inputs * outputs;
      multiply(d + k * in_stride, weights_k, m + k * out_stride, count, outputs, inputs);
    }
    for (int64_t t = 0; t < count; t++) {
      const Tile tile(maps, first + t);
      write_outputs(out, maps, outputs, tile, m + t * outputs, out_stride, after);
    }
  }
}

// Gradient of the weights at dw[output * so + input * si + row * sy + column * sx], of maps
// [n][h][w][inputs] and gradients of outputs [n][h][w][outputs].
// `sums` has room for [threads][36][inputs][outputs].
void hsakd_winograd_weight_gradient(const float* in, const float* gradients, float* dw, int64_t n,
                                    int64_t h, int64_t w, int64_t inputs, int64_t outputs,
                                    int64_t so, int64_t si, int64_t sy, int64_t sx, float* sums,
                                    int threads) {
  const Maps maps{n, h, w};
  const int64_t size = kPlaces * inputs * outputs;
  const int64_t block = inputs + outputs <= 128 ? 64 : 32;
  const int64_t in_stride = block * inputs + kGap, out_stride = block * outputs + kGap;
#pragma omp parallel num_threads(threads)
  {
    float* sum = sums + omp_get_thread_num() * size;
    std::memset(sum, 0, size * sizeof(float));
    float* d = inputs_of_thread.at_least(kPlaces * in_stride);
    float* g = products_of_thread.at_least(kPlaces * out_stride);
    // Static: which thread adds up what is the same in every run, and so is the rounding.
#pragma omp for schedule(static)
    for (int64_t first = 0; first < maps.tiles(); first += block) {
      const int64_t count = std::min(block, maps.tiles() - first);
      for (int64_t t = 0; t < count; t++) {
        const Tile tile(maps, first + t);
        read_inputs(in, maps, inputs, tile, d + t * inputs, in_stride);
        read_gradients(gradients, maps, outputs, tile, g + t * outputs, out_stride);
      }
      for (int k = 0; k < kPlaces; k++) {
        float* sum_k = sum + k * inputs * outputs;
        add_transposed(d + k * in_stride, g + k * out_stride, sum_k, inputs, outputs, count);
      }
    }
    const int team = omp_get_num_threads();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < inputs; i++) {
      for (int64_t o = 0; o < outputs; o += kLanes) {
        Vec u[36], t[18], g_w[9];
        for (int k = 0; k < kPlaces; k++) {
          const float* at = sums + (k * inputs + i) * outputs + o;
          u[k] = load(at);
          for (int other = 1; other < team; other++) u[k] += load(at + other * size);
        }
        for (int b = 0; b < 6; b++) transform_weight_gradients(u + b, 6, t + b, 6);
        for (int a = 0; a < 3; a++) transform_weight_gradients(t + 6 * a, 1, g_w + 3 * a, 1);
        for (int k = 0; k < 9; k++) {
          float* at = dw + o * so + i * si + k / 3 * sy + k % 3 * sx;
          for (int l = 0; l < kLanes; l++) at[l * so] = g_w[k][l];
        }
      }
    }
  }
}
}
