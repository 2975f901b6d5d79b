#pragma once
// Coarse operations with the same meaning on every device. All activations are f32, row-major.
// Canonical arithmetic (DESIGN decision 10, docs/adr/0002): the bits of an output row depend on
// nothing but its input row, the weights and the ISA: never on the number of rows, their order, or
// the number of threads.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/gated_unit.h"
#include "kernels/kv_block.h"
#include "tensor/dtype.h"

namespace hob {

// A matrix view: `rows` rows of `cols` floats, `stride` floats apart. Does not own.
struct Mat {
  float* data = nullptr;
  int rows = 0;
  int cols = 0;
  int stride = 0;
  float* row(int r) const { return data + static_cast<size_t>(r) * static_cast<size_t>(stride); }
};

// A weight in the layout that the kernels want (see Backend::prepare). Does not own. y = x * W^T.
struct Weight {
  DType dtype = DType::kF32;
  int n_rows = 0;  // outputs
  int n_cols = 0;  // inputs
  const std::byte* data = nullptr;
  // [n_cols], each once: column k belongs to input order[k] ("act-order"); null: to input k. Taken
  // by linear() and expert_ffn().
  const int32_t* order = nullptr;
  explicit operator bool() const { return data != nullptr; }
};

struct LinearOut {
  Weight w;
  const float* bias = nullptr;  // [w.n_rows] or null
  Mat y;                        // [x.rows, w.n_rows]
};

// One matrix of the same shape per head, `stride` bytes apart.
struct HeadWeights {
  Weight first;
  size_t stride = 0;
  explicit operator bool() const { return static_cast<bool>(first); }
};

// RMSNorm (mean square only), or LayerNorm (mean and variance).
struct Norm {
  const float* w = nullptr;     // [width]
  const float* bias = nullptr;  // [width] or null
  float eps = 0;
  bool centred = false;  // LayerNorm; has a bias
};

// One expert and the rows that chose it; or a dense FFN and all rows.
struct ExpertGroup {
  Weight gate, up, down;
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
  std::span<const int32_t> rows;  // row indices into x
  std::span<const int32_t>
      out_rows;  // same length: row index into `out` where this row's result goes
};

enum class RopeKind {
  kAdjacent,
  kHalves
};  // pairs (2i, 2i+1) (GGUF "NORM") or (i, i + d_rot/2) ("NEOX")

// cos/sin table of one RoPE variant for positions [0, n_positions): [n_positions, d_rot/2] each.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int n_positions = 0;
  int d_rot = 0;
  RopeKind kind = RopeKind::kHalves;
};

// One layer's K and V in blocks of kKvBlock tokens (kernels/kv_block.h): block b of head h starts
// at
//   (b * n_kv_heads + h) * kv_block_bytes(type, d)      (d = d_k or d_v)
// Slot s is token s % kKvBlock of block s / kKvBlock. Paging hands out blocks, attention streams
// them.
struct KvLayer {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  KvType type = KvType::kF16;
  int n_kv_heads = 0;
  int d_k = 0;
  int d_v = 0;
};

// Attention of one row: query heads of that row against the positions [first, n_visible) of its
// sequence; position p lives in slot slots[p].
struct AttnRow {
  const int32_t* slots = nullptr;
  int first = 0;      // > 0 with a sliding window
  int n_visible = 0;  // own position + 1
};

struct AttnParams {
  int n_heads = 0;
  float scale = 0;
  int window = 0;                // > 0: a row sees so many positions, its own included
  const float* sinks = nullptr;  // [n_heads] score of a position without V, or null
  int d_latent_v = 0;            // > 0: V is the first so many coordinates of K (MLA)
};

// How a router chooses experts and weighs them, from its logits.
enum class Router : uint8_t {
  kSoftmax,          // softmax over all; the k largest
  kSoftmaxOfChosen,  // the k largest logits; softmax over these
  kSparseMixer,      // two, one after the other, each by a softmax over what is close to the best:
                     // Phi-3.5-MoE. Ref: arXiv 2310.00811
};
struct RouteRule {
  Router kind = Router::kSoftmax;
  int k = 0;
  bool renormalise = false;  // kSoftmax: a row's weights sum to 1
  float scale = 1;           // of the weights
  float jitter = 0.01f;      // kSparseMixer: what is further than 2 * jitter below the best is out
};

// A part of a prepared matrix is a prepared matrix when it begins at a whole multiple of so many
// rows: the height of every backend's row panels divides it.
inline constexpr int kPartRows = 16;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view isa() const = 0;
  virtual int n_threads() const = 0;
  // Called by the thread that will run the steps, once all other threads have been started: keeps
  // it on its core, where the options ask for that.
  virtual void pin_engine_thread() {}
  // What could not be done as the options asked, for the user; empty = nothing.
  virtual std::string warning() const { return {}; }

  // --- weights ---
  // Bytes of a [rows, cols] matrix in kernel layout (rows are padded to the panel height, so >= the
  // stock size).
  virtual size_t prepared_bytes(DType dtype, int rows, int cols) const = 0;
  // Permutes stock GGUF bytes into kernel layout. Lossless. May be called from any thread, also
  // concurrently. `stock` needs no alignment; `dst` must be 64-byte aligned. No overlap. A matrix
  // may be prepared in pieces of whole multiples of 64 rows: rows from r on go to dst +
  // prepared_bytes(dtype, r, cols).
  virtual void prepare(DType dtype, int rows, int cols, const std::byte* stock,
                       std::byte* dst) const = 0;
  // y[i] = dequantised row ids[i] of w (embedding look-up).
  virtual void embed(const Weight& w, std::span<const int32_t> ids, Mat y) = 0;

  // --- products ---
  // All outputs from one input (it is quantised once): y_j = x * W_j^T + bias_j.
  virtual void linear(Mat x, std::span<const LinearOut> outs) = 0;
  // y[r][h * y_step ..] = x[r][h * x_step ..] * W_h^T for every head.
  virtual void linear_heads(Mat x, int x_step, const HeadWeights& w, int n_heads, Mat y,
                            int y_step) = 0;
  // out[out_row] = down( act(gate(x[row])) * up(x[row]) ) for every row of every group, with
  // biases where there are any. Unweighted.
  virtual void expert_ffn(Mat x, std::span<const ExpertGroup> groups, GatedUnit act, Mat out) = 0;

  // --- the rest (each in parallel over rows/heads) ---
  virtual void rms_norm(Mat x, const float* w, float eps, Mat y) = 0;  // x == y allowed
  // A norm of either kind for the input of a block, y != x: products that read rows [0, n) of this
  // y may use a copy in their own format that is made in the same pass, until the next norm_input.
  // Nobody else writes to y meanwhile.
  virtual void norm_input(Mat x, const Norm& norm, Mat y) = 0;
  // Each row holds n_heads vectors of d_head; every vector is normalised by itself with w [d_head].
  virtual void rms_norm_heads(Mat x, int n_heads, const float* w, float eps) = 0;
  // Rotates the first d_rot elements of each of n_heads vectors of width d_head, in place.
  // positions: one per row.
  virtual void rope(Mat x, int n_heads, int d_head, std::span<const int32_t> positions,
                    const RopeTable& table) = 0;
  // Writes k [n, n_kv_heads*d_k] and v [n, n_kv_heads*d_v] into slots write_slots[n], converting to
  // the KV type.
  virtual void kv_write(const KvLayer& layer, std::span<const int32_t> write_slots, Mat k,
                        Mat v) = 0;
  // out [n, n_heads*d_v] = attention of q [n, n_heads*d_k]; rows[i] describes what row i sees.
  virtual void attention(const KvLayer& layer, Mat q, const AttnParams& params,
                         std::span<const AttnRow> rows, Mat out) = 0;
  virtual void add(Mat x, Mat y) = 0;                  // y += x
  virtual void add_scaled(Mat x, float a, Mat y) = 0;  // y += a * x
  virtual void scale(float a, Mat x) = 0;              // x *= a
  // Routing of every row. logits [n, n_experts] -> ids, weights [n, k], in the order of choice
  // (largest first), ties to the lower id. `logits` is used up.
  virtual void route(Mat logits, const RouteRule& rule, int32_t* ids, float* weights) = 0;
  // y[r] += sum over ranks i ascending of weights[r*k+i] * parts[r*k+i]. parts [n*k, d].
  virtual void combine(Mat parts, const float* weights, int k, Mat y) = 0;
  // y[r] += sigmoid(gate[r]) * x[r]   (gated shared expert). gate [n, 1].
  virtual void add_gated(Mat x, Mat gate, Mat y) = 0;

  // Internal scratch of the largest step, for the planner: `n_rows` rows of width <= d_max through
  // linear(), and n_rows rows (each counted once per expert it chose) of hidden width d_hidden
  // through expert_ffn().
  virtual size_t scratch_bytes(int n_rows, int d_max) const = 0;
  virtual size_t expert_scratch_bytes(int n_rows, int d_hidden, DType down) const = 0;
  // What weights with an order need beyond that; d_max: the widest of a step.
  virtual size_t order_scratch_bytes(int n_rows, int d_max) const = 0;
};

struct CpuOptions {
  int n_threads = 0;      // 0 = default_threads() (base/cpu_info.h)
  bool pin = false;       // every thread stays on a core of its own
  std::string force_isa;  // "" = best; else as HOB_FORCE_ISA. Unknown or unsupported: Error.
};
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace hob
