// 3x3 convolutions with padding 1 by Winograd's minimal filtering. Lavin and Gray,
// https://arxiv.org/abs/1509.09308:
//
//   y = A' [(G w G') * (B' d B)] A      d: inputs of a tile, w: weights, y: 4x4 outputs
//
// summed over input channels, which makes of * a product of matrices for each place of a window.
// The gradient of the inputs is the same with turned weights; that of the weights is
// G' [sum over tiles of (B' d B) * (A dy A')] G.
//
// At stride 1 this is F(4x4, 3x3): windows of 6x6, and 36 multiplications for what takes 144.
//
// At stride 2 rows and columns are taken apart into phases: outputs need the weights 0 and 2 of
// a row from the odd inputs (phase 0), and weight 1 from the even ones (phase 1). So there are four
// maps that are convolved at stride 1 with 2x2, 2x1, 1x2 and 1x1 weights: F(4x4, 2x2), windows of
// 5x5. Where a phase has one weight, the last place of its windows is multiplied by 0 and left out:
// 25 + 20 + 20 + 16 = 81 multiplications for what takes 144.
//
// Maps are NHWC (torch's channels_last), float32, and numbers of channels multiples of 16. A block
// of tiles passes all three steps in the cache of its thread. Plain C++ with GCC's vectors and
// OpenMP, called by hsakd/ops/winograd.py.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

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
constexpr int64_t kGap = 16;  // between places, so that they do not fall on the same cache lines

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));

// The products lose a tenth of their speed where a compiler decides otherwise.
#define INLINE inline __attribute__((always_inline))

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// As load, kept in a register where the compiler would rather read again for each use.
template <class T>
inline Vec take(const T* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
#ifdef __AVX__
  asm("" : "+x"(v));
#endif
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// One-dimensional transforms for windows of P (6: three weights, 5: two), to targets `t` apart.

// B': P inputs to P
template <int P>
inline void transform_inputs(const Vec (&d)[P], Vec* out, int t) {
  if constexpr (P == 6) {
    const Vec a = d[4] - 4.f * d[2], b = d[3] - 4.f * d[1];
    const Vec c = d[4] - d[2], e = 2.f * (d[3] - d[1]);
    out[0] = 4.f * d[0] - 5.f * d[2] + d[4];
    out[t] = a + b;
    out[2 * t] = a - b;
    out[3 * t] = c + e;
    out[4 * t] = c - e;
    out[5 * t] = 4.f * d[1] - 5.f * d[3] + d[5];
  } else {
    const Vec a = d[3] - d[2], b = d[3] - d[1];
    out[0] = 2.f * (d[0] - d[2]) + b;
    out[t] = a - 2.f * d[1];
    out[2 * t] = a - 2.f * (d[2] - d[1]);
    out[3 * t] = b;
    out[4 * t] = d[4] - d[2] - 2.f * b;
  }
}

// A': P products to 4 outputs
template <int P>
inline void transform_products(const Vec (&m)[P], Vec* out, int t) {
  const Vec a = m[1] + m[2], b = m[1] - m[2];
  if constexpr (P == 6) {
    const Vec c = m[3] + m[4], d = m[3] - m[4];
    out[0] = m[0] + a + c;
    out[t] = b + 2.f * d;
    out[2 * t] = a + 4.f * c;
    out[3 * t] = b + 8.f * d + m[5];
  } else {
    out[0] = m[0] + a + m[3];
    out[t] = b + 2.f * m[3];
    out[2 * t] = a + 4.f * m[3];
    out[3 * t] = b + 8.f * m[3] + m[4];
  }
}

// A: 4 gradients of outputs to P of products
template <int P>
inline void transform_gradients(const Vec (&g)[4], Vec* out, int t) {
  const Vec a = g[0] + g[2], b = g[1] + g[3];
  const Vec c = g[0] + 4.f * g[2], d = 2.f * g[1] + 8.f * g[3];
  out[0] = g[0];
  out[t] = a + b;
  out[2 * t] = a - b;
  out[3 * t] = c + d;
  if constexpr (P == 6) out[4 * t] = c - d;
  out[(P - 1) * t] = g[3];
}

// G: 3 or 2 weights to P
template <int P>
inline void transform_weights(const Vec (&w)[P - 3], Vec* out, int t) {
  if constexpr (P == 6) {
    const Vec a = (w[0] + w[2]) * (-1.f / 6), b = w[1] * (1.f / 6);
    const Vec c = w[0] * (1.f / 24) + w[2] * (1.f / 6), d = w[1] * (1.f / 12);
    out[0] = w[0] * .25f;
    out[t] = a - b;
    out[2 * t] = a + b;
    out[3 * t] = c + d;
    out[4 * t] = c - d;
    out[5 * t] = w[2];
  } else {
    out[0] = w[0] * .5f;
    out[t] = (w[0] + w[1]) * -.5f;
    out[2 * t] = (w[1] - w[0]) * (1.f / 6);
    out[3 * t] = w[0] * (1.f / 6) + w[1] * (1.f / 3);
    out[4 * t] = w[1];
  }
}

// G': P to the gradients of 3 or 2 weights
template <int P>
inline void transform_weight_gradients(const Vec (&u)[P], Vec* out, int t) {
  if constexpr (P == 6) {
    const Vec a = (u[1] + u[2]) * (1.f / 6), b = u[3] + u[4];
    out[0] = .25f * u[0] - a + b * (1.f / 24);
    out[t] = (u[2] - u[1]) * (1.f / 6) + (u[3] - u[4]) * (1.f / 12);
    out[2 * t] = b * (1.f / 6) - a + u[5];
  } else {
    out[0] = (u[0] - u[1]) * .5f + (u[3] - u[2]) * (1.f / 6);
    out[t] = u[1] * -.5f + u[2] * (1.f / 6) + u[3] * (1.f / 3) + u[4];
  }
}

// Maps of one size.
struct Maps {
  int64_t n, h, w;
  Maps strided(int stride) const { return {n, (h + stride - 1) / stride, (w + stride - 1) / stride}; }
  // Tiles of 4x4 that cover them
  int64_t rows() const { return (h + 3) / 4; }
  int64_t columns() const { return (w + 3) / 4; }
  int64_t tiles() const { return n * rows() * columns(); }
};

// Where a tile is: its map, and the place of its first output in it.
struct Tile {
  int64_t map, y, x;
  Tile(const Maps& maps, int64_t index)
      : map(index / (maps.rows() * maps.columns())),
        y(index / maps.columns() % maps.rows() * 4),
        x(index % maps.columns() * 4) {}
};

// At a place (a, b) of windows of P, the phases of Q in each direction that are not 0: phase (v, u)
// is the `at(a, b, v, u)`-th of `count(a, b)`.
template <int P, int Q>
struct Phases {
  static constexpr int size(int phase) { return P - phase; }  // of its windows
  static constexpr int count(int a, int b) { return along(a) * along(b); }
  static constexpr int at(int, int b, int v, int u) { return v * along(b) + u; }
  static constexpr int all = (Q * P - Q + 1) * (Q * P - Q + 1);  // at all places together

 private:
  static constexpr int along(int a) { return a < P - 1 ? Q : 1; }
};

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

// N x N places of a map, of which some may be outside.
template <int N>
struct Window {
  const float* rows[N];  // each from column 0 on; those outside of the map are zeros
  int64_t begin, end;    // columns inside of the map
  // From (y, x) on; `zeros`: as many as a row is long.
  Window(const float* in, const Maps& maps, int64_t channels, int64_t map, int64_t y, int64_t x,
         const float* zeros)
      : begin(std::max<int64_t>(0, -x)), end(std::min<int64_t>(N, maps.w - x)) {
    in += ((map * maps.h + y) * maps.w + x) * channels;
    for (int a = 0; a < N; a++) {
      const bool inside = y + a >= 0 && y + a < maps.h;
      rows[a] = inside ? in + a * maps.w * channels : zeros;
    }
  }
};

// Not by an initializer, which would run, as compilers have it, where all is written anyway.
template <int N>
inline void clear(Vec (&values)[N]) {
  for (Vec& value : values) value = Vec{};
}

// Inputs at the places of `in` that are in phase (V, U), transformed; see read_inputs.
template <int P, int Q, int V, int U>
void read_phase(const Window<Q * P - Q + 1>& in, int64_t channels, float* out, int64_t stride,
                int64_t t) {
  using Phase = Phases<P, Q>;
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec half[P * P];
    if (U) clear(half);
    for (int b = 0; b < Phase::size(U); b++) {
      const int64_t column = Q * b + U;
      Vec d[P];
      if (column < in.begin || column >= in.end) {
        for (int a = 0; a < P; a++) half[P * a + b] = Vec{};
        continue;
      }
      if (V) clear(d);
      const int64_t offset = column * channels + c;
      for (int a = 0; a < Phase::size(V); a++) d[a] = take(in.rows[Q * a + V] + offset);
      transform_inputs<P>(d, half + b, P);
    }
    for (int a = 0; a < Phase::size(V); a++) {
      Vec d[P], result[P];
      for (int b = 0; b < P; b++) d[b] = take(half + P * a + b);
      transform_inputs<P>(d, result, 1);
      for (int b = 0; b < Phase::size(U); b++) {
        const int64_t phase = t * Phase::count(a, b) + Phase::at(a, b, V, U);
        store(out + (P * a + b) * stride + phase * channels + c, result[b]);
      }
    }
  }
}

// Inputs of the `t`-th tile of a block, transformed, to
// `out[place * stride + (t * phases + phase) * channels + channel]`. Those of phase (v, u) are the
// places from (v, u) on that are Q apart.
template <int P, int Q>
void read_inputs(const Window<Q * P - Q + 1>& in, int64_t channels, float* out, int64_t stride,
                 int64_t t) {
  read_phase<P, Q, 0, 0>(in, channels, out, stride, t);
  if constexpr (Q > 1) {
    read_phase<P, Q, 0, 1>(in, channels, out, stride, t);
    read_phase<P, Q, 1, 0>(in, channels, out, stride, t);
    read_phase<P, Q, 1, 1>(in, channels, out, stride, t);
  }
}

// Gradients of a tile's outputs, transformed, to `out[place * stride + channel]`.
template <int P>
void read_gradients(const Window<4>& in, int64_t channels, float* out, int64_t stride) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec half[4 * P];
    for (int b = 0; b < 4; b++) {
      Vec g[4] = {};
      if (b < in.end) {
        for (int a = 0; a < 4; a++) g[a] = take(in.rows[a] + b * channels + c);
      }
      transform_gradients<P>(g, half + b, 4);
    }
    for (int a = 0; a < P; a++) {
      Vec g[4], result[P];
      for (int b = 0; b < 4; b++) g[b] = take(half + 4 * a + b);
      transform_gradients<P>(g, result, 1);
      for (int b = 0; b < P; b++) store(out + (P * a + b) * stride + c, result[b]);
    }
  }
}

// What is done to outputs before they are written: act(y + bias + residual).
struct Epilogue {
  const float* bias;      // of each channel, or null
  const float* residual;  // as the outputs, or null
  bool relu;
};

// Phase (V, U) of write_outputs
template <int P, int Q, int V, int U>
void write_phase(float* out, const Maps& maps, int64_t channels, int64_t map, int64_t y, int64_t x,
                 const float* in, int64_t stride, int64_t t, const Epilogue& after) {
  using Phase = Phases<P, Q>;
  y -= V;
  x -= U;
  const int64_t first = ((map * maps.h + y) * maps.w + x) * channels;
  const int64_t row = Q * maps.w * channels, column = Q * channels;
  const bool whole = y + 3 * Q < maps.h && x + 3 * Q < maps.w;
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec half[4 * P];
    if (U) clear(half);
    for (int b = 0; b < Phase::size(U); b++) {
      Vec m[P];
      if (V) clear(m);
      for (int a = 0; a < Phase::size(V); a++) {
        const int64_t phase = t * Phase::count(a, b) + Phase::at(a, b, V, U);
        m[a] = take(in + (P * a + b) * stride + phase * channels + c);
      }
      transform_products<P>(m, half + b, P);
    }
    const Vec bias = after.bias ? load(after.bias + c) : Vec{};
    for (int a = 0; a < 4; a++) {
      Vec m[P], result[4];
      for (int b = 0; b < P; b++) m[b] = take(half + P * a + b);
      transform_products<P>(m, result, 1);
      for (int b = 0; b < 4; b++) {
        if (!whole && (y + Q * a >= maps.h || x + Q * b >= maps.w)) continue;
        const int64_t at = first + a * row + b * column + c;
        result[b] += bias;
        if (after.residual) result[b] += load(after.residual + at);
        if (after.relu) result[b] = result[b] < 0.f ? Vec{} : result[b];  // NaN stays
        store(out + at, result[b]);
      }
    }
  }
}

// Products of the `t`-th tile of a block, laid out as by read_inputs, to its outputs. Those of
// phase (v, u) are Q apart, from (y - v, x - u) on.
template <int P, int Q, class... Args>
void write_outputs(const Args&... args) {
  write_phase<P, Q, 0, 0>(args...);
  if constexpr (Q > 1) {
    write_phase<P, Q, 0, 1>(args...);
    write_phase<P, Q, 1, 0>(args...);
    write_phase<P, Q, 1, 1>(args...);
  }
}

// C[R][kPanel] = A[R][depth] B[depth][kPanel]
template <int R>
INLINE void multiply_rows(const float* A, int64_t a_row, const float* B, float* C, int64_t c_row,
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
INLINE void add_products(const float* A, int64_t a_row, const float* B, int64_t b_row, float* C,
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
INLINE void by_rows(int64_t row, int64_t rows, const Work& work) {
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
  INLINE void run(int64_t row) const {
    multiply_rows<R>(A + row * depth, depth, B, C + row * columns, columns, depth);
  }
};

INLINE void multiply(const float* A, const float* B, float* C, int64_t rows, int64_t columns,
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
  INLINE void run(int64_t row) const {
    add_products<R>(A + row, rows, B, columns, C + row * columns, columns, depth);
  }
};

INLINE void add_transposed(const float* A, const float* B, float* C, int64_t rows, int64_t columns,
                    int64_t depth) {
  for (int64_t p = 0; p < columns; p += kPanel) {
    by_rows<kRows>(0, rows, TransposedProduct{A, B + p, C + p, rows, columns, depth});
  }
}

// Weights at w[output * so + input * si + row * sy + column * sx].
struct Strides {
  int64_t so, si, sy, sx;
};

// Q: the stride. QI, QO: phases of the inputs or the outputs, of which one is Q and the other 1.
template <int Q>
constexpr int kWindow = Q == 1 ? 6 : 5;

// Transformed weights, place by place: [phases of outputs][outputs / kPanel][phases of inputs]
// [inputs][kPanel].
template <int QI, int QO>
void transform_all_weights(const float* w, int64_t outputs, int64_t inputs, const Strides& s,
                           float* out) {
  constexpr int Q = QI * QO, P = kWindow<Q>, W = P - 3;  // W: weights of phase 0
  using Phase = Phases<P, Q>;
#pragma omp parallel for if (outputs * inputs >= 4096)
  for (int64_t p = 0; p < outputs / kPanel; p++) {
    for (int64_t i = 0; i < inputs; i++) {
      for (int lane = 0; lane < kPanel; lane += kLanes) {
        for (int v = 0; v < Q; v++) {
          for (int u = 0; u < Q; u++) {
            Vec half[P][W] = {};
            for (int b = 0; b < W - u; b++) {
              Vec g[W] = {};
              for (int a = 0; a < W - v; a++) {
                const float* at = w + (p * kPanel + lane) * s.so + i * s.si +
                                  (Q * a + v) * s.sy + (Q * b + u) * s.sx;
                float lanes[kLanes];
                for (int l = 0; l < kLanes; l++) lanes[l] = at[l * s.so];
                g[a] = load(lanes);
              }
              transform_weights<P>(g, &half[0][b], W);
            }
            float* place = out;
            for (int a = 0; a < P; a++) {
              Vec row[P];
              transform_weights<P>(half[a], row, 1);
              for (int b = 0; b < P; b++) {
                const int64_t depth = Phases<P, QI>::count(a, b) * inputs;
                if (a < Phase::size(v) && b < Phase::size(u)) {
                  const int64_t phase = Phase::at(a, b, v, u);
                  const int64_t panel = p + (QO > 1 ? phase * (outputs / kPanel) : 0);
                  const int64_t line = i + (QI > 1 ? phase * inputs : 0);
                  store(place + (panel * depth + line) * kPanel + lane, row[b]);
                }
                place += depth * Phases<P, QO>::count(a, b) * outputs;
              }
            }
          }
        }
      }
    }
  }
}

template <int QI, int QO>
void convolve(const float* in, const Maps& in_maps, int64_t inputs, const float* weights,
              const Epilogue& after, float* out, const Maps& out_maps, int64_t outputs) {
  constexpr int P = kWindow<QI * QO>, N = QI * P - QI + 1;
  const Maps& tiled = QO > 1 ? in_maps : out_maps;
  // So few that what they become stays in a cache of 512 KiB, beside the weights where possible.
  const int64_t block = QI * QI * inputs + QO * QO * outputs <= 128 ? 4 * kRows : 12;
  const int64_t in_stride = block * QI * QI * inputs + kGap;
  const int64_t out_stride = block * QO * QO * outputs + kGap;
  const std::vector<float> zeros(N * inputs);
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t first = 0; first < tiled.tiles(); first += block) {
    const int64_t count = std::min(block, tiled.tiles() - first);
    float* d = inputs_of_thread.at_least(P * P * in_stride);
    float* m = products_of_thread.at_least(P * P * out_stride);
    for (int64_t t = 0; t < count; t++) {
      const Tile tile(tiled, first + t);
      const int64_t y = QO > 1 ? tile.y : QI * tile.y - 1, x = QO > 1 ? tile.x : QI * tile.x - 1;
      const Window<N> window(in, in_maps, inputs, tile.map, y, x, zeros.data());
      read_inputs<P, QI>(window, inputs, d, in_stride, t);
    }
    const float* weights_k = weights;
    for (int k = 0; k < P * P; k++) {
      const int64_t depth = Phases<P, QI>::count(k / P, k % P) * inputs;
      const int64_t columns = Phases<P, QO>::count(k / P, k % P) * outputs;
      multiply(d + k * in_stride, weights_k, m + k * out_stride, count, columns, depth);
      weights_k += depth * columns;
    }
    for (int64_t t = 0; t < count; t++) {
      const Tile tile(tiled, first + t);
      const int64_t y = QO > 1 ? QO * tile.y + 1 : tile.y, x = QO > 1 ? QO * tile.x + 1 : tile.x;
      write_outputs<P, QO>(out, out_maps, outputs, tile.map, y, x, m, out_stride, t, after);
    }
  }
}

template <int Q>
void weight_gradient(const float* in, const Maps& in_maps, int64_t inputs, const float* gradients,
                     const Maps& out_maps, int64_t outputs, float* dw, const Strides& s,
                     float* sums, int threads) {
  constexpr int P = kWindow<Q>, W = P - 3, N = Q * P - Q + 1;
  using Phase = Phases<P, Q>;
  const int64_t size = Phase::all * inputs * outputs;
  const int64_t block = Q * Q * inputs + outputs <= 128 ? 64 : 32;
  const int64_t in_stride = block * Q * Q * inputs + kGap, out_stride = block * outputs + kGap;
  const std::vector<float> zeros(N * std::max(inputs, outputs));
#pragma omp parallel num_threads(threads)
  {
    float* sum = sums + omp_get_thread_num() * size;
    std::memset(sum, 0, size * sizeof(float));
    float* d = inputs_of_thread.at_least(P * P * in_stride);
    float* g = products_of_thread.at_least(P * P * out_stride);
    // Static: which thread adds up what is the same in every run, and so is the rounding.
#pragma omp for schedule(static)
    for (int64_t first = 0; first < out_maps.tiles(); first += block) {
      const int64_t count = std::min(block, out_maps.tiles() - first);
      for (int64_t t = 0; t < count; t++) {
        const Tile tile(out_maps, first + t);
        const int64_t y = Q * tile.y - 1, x = Q * tile.x - 1;
        const Window<N> window(in, in_maps, inputs, tile.map, y, x, zeros.data());
        read_inputs<P, Q>(window, inputs, d, in_stride, t);
        const Window<4> outcome(gradients, out_maps, outputs, tile.map, tile.y, tile.x,
                                zeros.data());
        read_gradients<P>(outcome, outputs, g + t * outputs, out_stride);
      }
      float* sum_k = sum;
      for (int k = 0; k < P * P; k++) {
        const int64_t rows = Phase::count(k / P, k % P) * inputs;
        add_transposed(d + k * in_stride, g + k * out_stride, sum_k, rows, outputs, count);
        sum_k += rows * outputs;
      }
    }
    const int team = omp_get_num_threads();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < inputs; i++) {
      for (int64_t o = 0; o < outputs; o += kLanes) {
        for (int v = 0; v < Q; v++) {
          for (int u = 0; u < Q; u++) {
            Vec sum_of[P][P] = {}, half[W][P], g_w[W * W];
            const float* place = sums;
            for (int a = 0; a < P; a++) {
              for (int b = 0; b < P; b++) {
                if (a < Phase::size(v) && b < Phase::size(u)) {
                  const int64_t row = Phase::at(a, b, v, u) * inputs + i;
                  const float* at = place + row * outputs + o;
                  for (int t = 0; t < team; t++) sum_of[b][a] += load(at + t * size);
                }
                place += Phase::count(a, b) * inputs * outputs;
              }
            }
            for (int b = 0; b < P; b++) transform_weight_gradients<P>(sum_of[b], &half[0][b], P);
            for (int a = 0; a < W; a++) transform_weight_gradients<P>(half[a], g_w + W * a, 1);
            for (int a = 0; a < W - v; a++) {
              for (int b = 0; b < W - u; b++) {
                float* at = dw + o * s.so + i * s.si + (Q * a + v) * s.sy + (Q * b + u) * s.sx;
                for (int l = 0; l < kLanes; l++) at[l * s.so] = g_w[W * a + b][l];
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace

// Maps are of `n` images; h and w are those of the larger maps, which are the inputs of the layer.
extern "C" {

// Of weights at w[output * so + input * si + row * sy + column * sx]; `back`: for the convolution
// from the outputs of a layer to its inputs.
void hsakd_winograd_weights(const float* w, int stride, int back, int64_t outputs, int64_t inputs,
                            int64_t so, int64_t si, int64_t sy, int64_t sx, float* out) {
  const auto run = stride == 1 ? transform_all_weights<1, 1>
                   : back      ? transform_all_weights<1, 2>
                               : transform_all_weights<2, 1>;
  run(w, outputs, inputs, {so, si, sy, sx}, out);
}

// Outputs [n][h / stride][w / stride][outputs] of maps [n][h][w][inputs] and transformed weights.
void hsakd_winograd_forward(const float* in, const float* weights, const float* bias,
                            const float* residual, int relu, float* out, int stride, int64_t n,
                            int64_t h, int64_t w, int64_t inputs, int64_t outputs) {
  const Maps maps{n, h, w};
  const auto run = stride == 1 ? convolve<1, 1> : convolve<2, 1>;
  const Epilogue after{bias, residual, relu != 0};
  run(in, maps, inputs, weights, after, out, maps.strided(stride), outputs);
}

// Back: gradients [n][h][w][inputs] of those [n][h / stride][w / stride][outputs].
void hsakd_winograd_input_gradient(const float* gradients, const float* weights, float* dx,
                                   int stride, int64_t n, int64_t h, int64_t w, int64_t inputs,
                                   int64_t outputs) {
  const Maps maps{n, h, w};
  const auto run = stride == 1 ? convolve<1, 1> : convolve<1, 2>;
  run(gradients, maps.strided(stride), outputs, weights, Epilogue{}, dx, maps, inputs);
}

// Gradient of the weights at dw[output * so + input * si + row * sy + column * sx], of maps
// [n][h][w][inputs] and gradients of outputs [n][h / stride][w / stride][outputs].
// `sums` has room for [threads][36 or 81][inputs][outputs].
void hsakd_winograd_weight_gradient(const float* in, const float* gradients, float* dw, int stride,
                                    int64_t n, int64_t h, int64_t w, int64_t inputs,
                                    int64_t outputs, int64_t so, int64_t si, int64_t sy,
                                    int64_t sx, float* sums, int threads) {
  const Maps maps{n, h, w};
  const auto run = stride == 1 ? weight_gradient<1> : weight_gradient<2>;
  run(in, maps, inputs, gradients, maps.strided(stride), outputs, dw, {so, si, sy, sx}, sums,
      threads);
}
}
