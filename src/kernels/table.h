#pragma once
// The CPU kernels of one ISA as a table of functions. Each ISA is compiled from the same generic
// bodies (cpu/generic) over its own small vector vocabulary (cpu/<isa>/simd.h). Plain C types only:
// these files see no std containers, so that no inline function compiled with AVX flags can be
// picked by the linker for a machine without AVX.
//
// Canonical arithmetic (docs/adr/0002). All ISAs give the same bits:
//   quantised weight: acc = 0; for each sub-block (16 or 32 wide) in ascending K:
//       isum = exact int32 sum of q * a        (q: weight code minus its zero point, a: int8
//       activation) acc  = fma(float(isum), d_sub * d_act, acc) acc  = fma(-d_act * float(asum),
//       min_sub, acc)     for types with a minimum
//   float weight: 16 lanes, lane i sums k = i mod 16 in ascending order by fma, then the tree
//   8-4-2-1.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/gated_unit.h"
#include "kernels/kv_block.h"
#include "tensor/dtype.h"

namespace hob {

// Rows of a weight panel, i.e. outputs computed side by side in SIMD lanes: 16 f32 fill one AVX-512
// register, two AVX2, four NEON ones; the layout is the same for all so that a prepared weight does
// not depend on the ISA.
inline constexpr int kPanelRows = 16;
// Activation block: one f32 scale per 32 int8 values, the sub-block width of most weight types.
inline constexpr int kActBlock = 32;

// One activation row in 8-bit blocks; d_in is a multiple of 32. Does not own.
struct ActRow {
  const int8_t* q = nullptr;       // [d_in] in [-127, 127]
  const float* d = nullptr;        // [d_in/32] scale
  const float* dsum = nullptr;     // [d_in/32] d * float(sum of the block's q)
  const int32_t* sum16 = nullptr;  // [d_in/16] sum of q over 16
};
struct MutableActRow {
  int8_t* q = nullptr;
  float* d = nullptr;
  float* dsum = nullptr;
  int32_t* sum16 = nullptr;
};

// One query vector and where its result goes; it sees positions [first, n_visible), at least one.
struct AttnQuery {
  const float* q = nullptr;  // [d_k]
  float* out = nullptr;      // [d_v]
  int n_visible = 0;
  int first = 0;           // with a sliding window
  float sink = -INFINITY;  // score of a position that has no V: it only takes weight
};
// Queries of one sequence that share a KV head; a tile of K and V is read once for all of them.
inline constexpr int kMaxAttnQueries = 64;
struct AttnKernelArgs {
  const AttnQuery* queries = nullptr;
  int n_queries = 0;
  const std::byte* k = nullptr;  // this head's part of block 0 (kernels/kv_block.h)
  const std::byte* v = nullptr;
  size_t k_stride = 0, v_stride = 0;  // bytes from a block to the next
  const int32_t* slots = nullptr;     // position -> slot
  int d_k = 0, d_v = 0;               // at most kMaxKvWidth
  bool v_in_k = false;                // V is the first d_v coordinates of K; no `v`
  float scale = 0.f;
};

struct KernelTable {
  const char* isa;

  // f32 row -> 8-bit blocks. n is a multiple of 32.
  void (*quantise_row)(const float* x, int n, MutableActRow out);

  // y[t * y_stride + r] = row r of W times activation t, for the 16 * n_panels rows of consecutive
  // prepared panels. Indexed by DType (its number); null for float types and for unused numbers.
  using MulPanels = void (*)(const std::byte* panels, int d_in, int n_panels, const ActRow* acts,
                             int n_acts, float* y, size_t y_stride);
  static constexpr int kMaxType = static_cast<int>(DType::kG8) + 1;
  MulPanels mul_panels[kMaxType];

  // The same for float weights in stock row order: rows [0, n_rows) at `w`, x [n_x] rows by
  // pointer.
  using MulRows = void (*)(const std::byte* w, int d_in, int n_rows, const float* const* x, int n_x,
                           float* y, size_t y_stride);
  MulRows mul_rows_f32, mul_rows_f16, mul_rows_bf16;

  void (*rms_norm)(const float* x, const float* w, int n, float eps, float* y);
  // (x - mean) / sqrt(variance + eps) * w + bias
  void (*layer_norm)(const float* x, const float* w, const float* bias, int n, float eps, float* y);
  // Indexed by GatedUnit: y = act(gate) * up.
  void (*gated_unit[kNGatedUnits])(const float* gate, const float* up, int n, float* y);
  void (*add)(const float* x, int n, float* y);            // y += x
  void (*axpy)(float a, const float* x, int n, float* y);  // y = fma(a, x, y)
  void (*softmax)(float* x, int n);                        // in place
  // Indexed by KvType.
  void (*attention[kNKvTypes])(const AttnKernelArgs& args);
  // x [d] becomes the K (or V) of one token of a block.
  void (*kv_write[kNKvTypes])(const float* x, int d, int token, bool is_k, std::byte* block);

  // Multiply-adds as fast as this ISA can: the instruction of mul_panels (8-bit integers), or of
  // mul_rows (f32), on registers. Returns how many were done; *result is theirs. At most
  // kMaxPeakRounds, so that the int32 sums are exact.
  static constexpr int kMaxPeakRounds = 4096;
  uint64_t (*peak_dot)(int n_rounds, int32_t* result);
  uint64_t (*peak_fma)(int n_rounds, float* result);
};

// The best table for this CPU, or the forced one ("scalar", "avx2", "avx512",
// "neon"). Throws Error for an
// unknown name or an ISA that this CPU lacks.
const KernelTable& select_kernels(const char* forced_isa);
// All tables that this CPU can run, best first (tests).
int supported_kernels(const KernelTable* out[8]);

}  // namespace hob
