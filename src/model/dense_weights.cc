#include "model/dense_weights.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/bind.h"
#include "model/direct_reader.h"
#include "tensor/dequant.h"

namespace hob {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;  // large enough for the disk's full speed

int piece_rows(size_t bytes_per_row) {
  const size_t rows = kPieceBytes / bytes_per_row / kPieceRows * kPieceRows;
  return static_cast<int>(std::clamp<size_t>(rows, kPieceRows, size_t{1} << 20));
}

size_t tensor_row_bytes(const BoundTensor& t) { return row_bytes(t.raw->dtype, t.cols); }

size_t largest_piece(std::span<const BoundTensor> tensors) {
  size_t largest = 0;
  for (const BoundTensor& t : tensors) {
    if (t.kind == TensorKind::kExperts) continue;
    const size_t n = tensor_row_bytes(t);
    largest = std::max(largest, n * static_cast<size_t>(std::min(t.rows, piece_rows(n))));
  }
  return largest;
}

class Loader {
 public:
  Loader(const GgufFile& file, std::span<const BoundTensor> tensors, const Backend& backend,
         const Progress& progress)
      : reader_(file.files(), largest_piece(tensors)), backend_(backend), progress_(progress) {
    for (const BoundTensor& t : tensors)
      if (t.kind != TensorKind::kExperts) n_total_ += t.raw->n_bytes;
  }

  void load(const BoundTensor& t, std::byte* dst) {
    if (t.kind == TensorKind::kMatrix)
      load_matrix(t, dst);
    else
      dequantise_row(t.raw->dtype, read_rows(t, 0, t.rows).data(), t.cols,
                     reinterpret_cast<float*>(dst));
  }

 private:
  void load_matrix(const BoundTensor& t, std::byte* dst) {
    const DType dtype = t.raw->dtype;
    const int step = piece_rows(tensor_row_bytes(t));
    for (int row = 0; row < t.rows; row += step) {
      const int n = std::min(step, t.rows - row);
      const std::byte* stock = read_rows(t, row, n).data();
      backend_.prepare(dtype, n, t.cols, stock,
                       dst + (row ? backend_.prepared_bytes(dtype, row, t.cols) : 0));
    }
  }

  std::span<const std::byte> read_rows(const BoundTensor& t, int row, int n) {
    const size_t bytes = tensor_row_bytes(t);
    const auto read = reader_.read(t.raw->file, t.raw->offset + static_cast<size_t>(row) * bytes,
                                   static_cast<size_t>(n) * bytes);
    n_done_ += read.size();
    if (progress_) progress_(n_done_, n_total_);
    return read;
  }

  DirectReader reader_;
  const Backend& backend_;
  const Progress& progress_;
  uint64_t n_done_ = 0, n_total_ = 0;
};

void set_rope_divisors(const BoundTensor& t, const float* values, DenseWeights& out) {
  out.rope_divisors.assign(values, values + t.cols);
  for (float d : out.rope_divisors)
    if (!(std::isfinite(d) && d > 0))
      fail(Code::kDataLoss, "[model] {}: expected positive divisors, file has {}", t.raw->name, d);
}

void assign(const BoundTensor& t, const std::byte* data, DenseWeights& out) {
  const float* f = reinterpret_cast<const float*>(data);
  const Weight w{t.raw->dtype, t.rows, t.cols, data};
  LayerWeights none;
  LayerWeights& l = t.layer >= 0 ? out.layers[static_cast<size_t>(t.layer)] : none;
  switch (t.role) {
    case Role::kTokenEmbd:
      out.embedding = w;
      break;
    case Role::kOutputNorm:
      out.output_norm = f;
      break;
    case Role::kOutput:
      out.head = w;
      break;
    case Role::kRopeFreqs:
      set_rope_divisors(t, f, out);
      break;
    case Role::kAttnNorm:
      l.attn_norm = f;
      break;
    case Role::kQ:
      l.q = w;
      break;
    case Role::kK:
      l.k = w;
      break;
    case Role::kV:
      l.v = w;
      break;
    case Role::kO:
      l.o = w;
      break;
    case Role::kQBias:
      l.q_bias = f;
      break;
    case Role::kKBias:
      l.k_bias = f;
      break;
    case Role::kVBias:
      l.v_bias = f;
      break;
    case Role::kOBias:
      l.o_bias = f;
      break;
    case Role::kQNorm:
      l.q_norm = f;
      break;
    case Role::kKNorm:
      l.k_norm = f;
      break;
    case Role::kFfnNorm:
      l.ffn_norm = f;
      break;
    case Role::kGate:
      l.gate = w;
      break;
    case Role::kUp:
      l.up = w;
      break;
    case Role::kDown:
      l.down = w;
      break;
    case Role::kRouter:
      l.router = w;
      break;
    case Role::kSharedRouter:
      l.shared_router = w;
      break;
    case Role::kSharedGate:
      l.shared_gate = w;
      break;
    case Role::kSharedUp:
      l.shared_up = w;
      break;
    case Role::kSharedDown:
      l.shared_down = w;
      break;
    case Role::kExpertGate:
    case Role::kExpertUp:
    case Role::kExpertDown:
      HOB_CHECK(!"experts are not resident");
  }
}

}  // namespace

DenseWeights load_dense_weights(const GgufFile& file, const ModelSpec& spec, const Backend& backend,
                                const Progress& progress) {
  const std::vector<BoundTensor> tensors = bind_tensors(spec, file.tensors());
  const DensePlan plan = plan_dense(tensors, backend);
  DenseWeights out;
  // Huge pages are safe for the budget here: every byte of the buffer is used.
  out.storage = AlignedBuffer(plan.n_bytes, /*huge_pages=*/true);
  out.layers.resize(static_cast<size_t>(spec.n_layers));
  Loader loader(file, tensors, backend, progress);
  for (size_t i = 0; i < tensors.size(); i++) {
    if (tensors[i].kind == TensorKind::kExperts) continue;
    std::byte* dst = out.storage.data() + plan.offsets[i];
    loader.load(tensors[i], dst);
    assign(tensors[i], dst, out);
  }
  if (!out.head) out.head = out.embedding;
  return out;
}

}  // namespace hob
