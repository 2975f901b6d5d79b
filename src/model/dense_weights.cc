#include "model/dense_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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
  size_t largest = kPieceBytes;
  for (const BoundTensor& t : tensors) {
    if (t.kind == TensorKind::kExperts || t.raw->file == kMadeTensor) continue;
    const size_t n = tensor_row_bytes(t);
    largest = std::max(largest, n * static_cast<size_t>(std::min(t.rows, piece_rows(n))));
  }
  return largest;
}

class Loader {
 public:
  Loader(const ModelFile& file, std::span<const BoundTensor> tensors, const Backend& backend,
         const Progress& progress)
      : reader_(file.files(), largest_piece(tensors)),
        maker_(file.maker().get()),
        backend_(backend),
        progress_(progress) {
    for (const BoundTensor& t : tensors)
      if (t.kind != TensorKind::kExperts) n_total_ += t.raw->n_bytes;
  }

  void load(const BoundTensor& t, std::byte* dst) {
    t.kind == TensorKind::kMatrix ? load_matrix(t, dst) : load_floats(t, dst);
    if (t.kind == TensorKind::kOrder) to_order(t, reinterpret_cast<float*>(dst));
  }

 private:
  void load_matrix(const BoundTensor& t, std::byte* dst) {
    const DType dtype = t.raw->dtype;
    const int step = step_of(t);
    for (int row = 0; row < t.rows; row += step) {
      const int n = std::min(step, t.rows - row);
      const std::byte* stock = read_rows(t, row, n).data();
      backend_.prepare(dtype, n, t.cols, stock,
                       dst + (row ? backend_.prepared_bytes(dtype, row, t.cols) : 0));
    }
  }

  void load_floats(const BoundTensor& t, std::byte* dst) {
    auto* to = reinterpret_cast<float*>(dst);
    const size_t bytes = tensor_row_bytes(t);
    const int step = step_of(t);
    for (int row = 0; row < t.rows; row += step) {
      const int n = std::min(step, t.rows - row);
      const std::byte* from = read_rows(t, row, n).data();
      for (int r = 0; r < n; r++, from += bytes, to += t.cols)
        dequantise_row(t.raw->dtype, from, t.cols, to);
    }
  }

  // Integers in the place of the floats that they were written as.
  static void to_order(const BoundTensor& t, float* values) {
    std::vector<bool> seen;
    for (int row = 0; row < t.rows; row++) {
      seen.assign(static_cast<size_t>(t.cols), false);
      for (int k = 0; k < t.cols; k++, values++) {
        const float v = *values;
        const bool fits = v >= 0 && v < static_cast<float>(t.cols);
        const int32_t input = fits ? static_cast<int32_t>(v) : 0;
        if (!fits || static_cast<float>(input) != v || seen[static_cast<size_t>(input)])
          fail(Code::kDataLoss, "[model] {}: expected every input from 0 to {} once, file has {}",
               t.raw->name, t.cols - 1, v);
        seen[static_cast<size_t>(input)] = true;
        std::memcpy(values, &input, sizeof input);
      }
    }
  }

  int step_of(const BoundTensor& t) const {
    if (t.raw->file != kMadeTensor) return piece_rows(tensor_row_bytes(t));
    const int64_t n = maker_->piece_rows(static_cast<size_t>(t.raw->offset));
    return static_cast<int>((std::clamp<int64_t>(n, 1, t.rows) + kPieceRows - 1) / kPieceRows) *
           kPieceRows;
  }

  // Valid until the next call.
  std::span<const std::byte> read_rows(const BoundTensor& t, int row, int n) {
    const size_t bytes = tensor_row_bytes(t);
    const auto read =
        t.raw->file == kMadeTensor
            ? make_rows(t, row, n)
            : reader_.read(t.raw->file, t.raw->offset + static_cast<size_t>(row) * bytes,
                           static_cast<size_t>(n) * bytes);
    n_done_ += read.size();
    if (progress_) progress_(n_done_, n_total_);
    return read;
  }

  std::span<const std::byte> make_rows(const BoundTensor& t, int row, int n) {
    const auto tensor = static_cast<size_t>(t.raw->offset);
    const std::vector<ByteRange> ranges = maker_->ranges(tensor, row, n);
    sources_.clear();
    std::vector<size_t> begins;
    for (const ByteRange& r : ranges) {
      begins.push_back(sources_.size());
      for (uint64_t at = 0; at < r.n_bytes; at += kPieceBytes) {
        const size_t part = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, r.n_bytes - at));
        const auto read = reader_.read(r.file, r.offset + at, part);
        sources_.insert(sources_.end(), read.begin(), read.end());
      }
    }
    std::vector<const std::byte*> read;
    for (size_t begin : begins) read.push_back(sources_.data() + begin);
    made_.resize(static_cast<size_t>(n) * tensor_row_bytes(t));
    maker_->make(tensor, row, n, read, made_.data());
    return made_;
  }

  DirectReader reader_;
  const RowMaker* maker_;  // null: a GGUF file
  std::vector<std::byte> sources_, made_;
  const Backend& backend_;
  const Progress& progress_;
  uint64_t n_done_ = 0, n_total_ = 0;
};

void set_rope_divisors(const BoundTensor& t, const float* values, std::vector<float>& out) {
  out.assign(values, values + t.cols);
  for (float d : out)
    if (!(std::isfinite(d) && d > 0))
      fail(Code::kDataLoss, "[model] {}: expected positive divisors, file has {}", t.raw->name, d);
}

// Where a role's tensor goes; a role is in one of these tables or has a function of its own.
constexpr struct {
  Role role;
  const float* LayerWeights::*field;
} kLayerVectors[] = {
    {Role::kAttnNorm, &LayerWeights::attn_norm},
    {Role::kAttnNormBias, &LayerWeights::attn_norm_bias},
    {Role::kQBias, &LayerWeights::q_bias},
    {Role::kKBias, &LayerWeights::k_bias},
    {Role::kVBias, &LayerWeights::v_bias},
    {Role::kOBias, &LayerWeights::o_bias},
    {Role::kQNorm, &LayerWeights::q_norm},
    {Role::kKNorm, &LayerWeights::k_norm},
    {Role::kSinks, &LayerWeights::sinks},
    {Role::kLatentNorm, &LayerWeights::latent_norm},
    {Role::kPostAttnNorm, &LayerWeights::post_attn_norm},
    {Role::kFfnNorm, &LayerWeights::ffn_norm},
    {Role::kFfnNormBias, &LayerWeights::ffn_norm_bias},
    {Role::kPostFfnNorm, &LayerWeights::post_ffn_norm},
    {Role::kRouterBias, &LayerWeights::router_bias},
    {Role::kExpertGateBias, &LayerWeights::expert_gate_bias},
    {Role::kExpertUpBias, &LayerWeights::expert_up_bias},
    {Role::kExpertDownBias, &LayerWeights::expert_down_bias},
};
constexpr struct {
  Role role;
  Weight LayerWeights::*field;
} kLayerMatrices[] = {
    {Role::kQ, &LayerWeights::q},
    {Role::kK, &LayerWeights::k},
    {Role::kV, &LayerWeights::v},
    {Role::kO, &LayerWeights::o},
    {Role::kLatent, &LayerWeights::latent},
    {Role::kGate, &LayerWeights::gate},
    {Role::kUp, &LayerWeights::up},
    {Role::kDown, &LayerWeights::down},
    {Role::kRouter, &LayerWeights::router},
    {Role::kSharedRouter, &LayerWeights::shared_router},
    {Role::kSharedGate, &LayerWeights::shared_gate},
    {Role::kSharedUp, &LayerWeights::shared_up},
    {Role::kSharedDown, &LayerWeights::shared_down},
};

class Assigner {
 public:
  Assigner(const ModelSpec& spec, const Backend& backend, DenseWeights& out)
      : spec_(spec), backend_(backend), out_(out) {}

  void assign(const BoundTensor& t, std::byte* data) {
    auto* f = reinterpret_cast<float*>(data);
    if (t.layer < 0) return assign_trunk(t, f, {t.raw->dtype, t.rows, t.cols, data});
    LayerWeights& l = out_.layers[static_cast<size_t>(t.layer)];
    if (t.kind == TensorKind::kOrder)
      return assign_order(t, reinterpret_cast<const int32_t*>(data), l);
    for (const auto& v : kLayerVectors)
      if (v.role == t.role) return static_cast<void>(l.*v.field = f);
    const Weight w{t.raw->dtype, t.rows, t.cols, data};
    for (const auto& m : kLayerMatrices)
      if (m.role == t.role) return static_cast<void>(l.*m.field = w);
    assign_parts(t, f, w, l);
  }

 private:
  void assign_trunk(const BoundTensor& t, const float* f, const Weight& w) {
    switch (t.role) {
      case Role::kTokenEmbd:
        return static_cast<void>(out_.embedding = w);
      case Role::kOutputNorm:
        return static_cast<void>(out_.output_norm = f);
      case Role::kOutputNormBias:
        return static_cast<void>(out_.output_norm_bias = f);
      case Role::kOutput:
        return static_cast<void>(out_.head = w);
      case Role::kOutputBias:
        return static_cast<void>(out_.output_bias = f);
      case Role::kRopeFreqs:
        return set_rope_divisors(t, f, out_.rope_divisors.all);
      case Role::kRopeFreqsLong:
        return set_rope_divisors(t, f, out_.rope_divisors.for_long);
      default:
        HOB_CHECK(!"a tensor of the trunk without a place");
    }
  }

  // Tensors that hold several matrices.
  void assign_parts(const BoundTensor& t, float* f, const Weight& w, LayerWeights& l) {
    const AttnSpec& a = spec_.attn;
    const int d_q = a.n_heads * a.d_k, d_k = a.n_kv_heads * a.d_k;
    switch (t.role) {
      case Role::kQkv:
        l.q = rows_of(t, w, 0, d_q);
        l.k = rows_of(t, w, d_q, d_k);
        l.v = rows_of(t, w, d_q + d_k, w.n_rows - d_q - d_k);
        return;
      case Role::kQkvBias:
        l.q_bias = f;
        l.k_bias = f + d_q;
        l.v_bias = f + d_q + d_k;
        return;
      case Role::kGateUp:
        l.gate = rows_of(t, w, 0, spec_.d_ff);
        l.up = rows_of(t, w, spec_.d_ff, spec_.d_ff);
        return;
      case Role::kLatentK:
        return static_cast<void>(l.latent_k = heads_of(t, w));
      case Role::kLatentV:
        return static_cast<void>(l.latent_v = heads_of(t, w));
      case Role::kLatentUp:
        return assign_latent_up(f, l);
      default:
        HOB_CHECK(!"experts are not resident");
    }
  }

  // Its matrix comes before it.
  void assign_order(const BoundTensor& t, const int32_t* order, LayerWeights& l) const {
    switch (t.role) {
      case Role::kExpertGate:
        return static_cast<void>(l.expert_gate_order = order);
      case Role::kExpertUp:
        return static_cast<void>(l.expert_up_order = order);
      case Role::kExpertDown:
        return static_cast<void>(l.expert_down_order = order);
      case Role::kQkv:
        l.q.order = l.k.order = l.v.order = shared(order, t.cols, l);
        return;
      case Role::kGateUp:
        l.gate.order = l.up.order = shared(order, t.cols, l);
        return;
      default:
        break;
    }
    for (const auto& m : kLayerMatrices)
      if (m.role == t.role) return static_cast<void>((l.*m.field).order = shared(order, t.cols, l));
    fail(Code::kUnimplemented, "[model] {}: expected no order of this matrix", t.raw->name);
  }

  // q, k and v have one input, which was put into one order for all of them: one pointer says that
  // the backend need do so only once.
  static const int32_t* shared(const int32_t* order, int n, const LayerWeights& l) {
    for (const auto& m : kLayerMatrices) {
      const Weight& w = l.*m.field;
      if (w.order && w.n_cols == n && std::equal(order, order + n, w.order)) return w.order;
    }
    return order;
  }

  Weight rows_of(const BoundTensor& t, const Weight& w, int first, int n) const {
    if (dtype_info(w.dtype).quantised() && first % kPartRows != 0)
      fail(Code::kUnimplemented,
           "[model] {}: expected parts of whole multiples of {} rows, file has one that begins at "
           "row {}",
           t.raw->name, kPartRows, first);
    const size_t at = first > 0 ? backend_.prepared_bytes(w.dtype, first, w.n_cols) : 0;
    return {w.dtype, n, w.n_cols, w.data + at};
  }

  HeadWeights heads_of(const BoundTensor& t, const Weight& w) const {
    const int n = w.n_rows / spec_.attn.n_heads;
    rows_of(t, w, n, n);  // for its check
    return {rows_of(t, w, 0, n), backend_.prepared_bytes(w.dtype, n, w.n_cols)};
  }

  // f32 [head][key without rotation; value][d_latent]. The query is multiplied with the transposed
  // upper part: transposed in place.
  void assign_latent_up(float* f, LayerWeights& l) const {
    const AttnSpec& a = spec_.attn;
    const int d_nope = a.d_k - spec_.rope.d_rot, d = a.d_latent;
    const auto n_k = static_cast<size_t>(d_nope) * static_cast<size_t>(d);
    const size_t stride = n_k + static_cast<size_t>(a.d_v) * static_cast<size_t>(d);
    std::vector<float> keys(n_k);
    for (int h = 0; h < a.n_heads; h++) {
      float* head = f + static_cast<size_t>(h) * stride;
      keys.assign(head, head + n_k);
      for (int i = 0; i < d_nope; i++)
        for (int j = 0; j < d; j++)
          head[static_cast<size_t>(j) * static_cast<size_t>(d_nope) + static_cast<size_t>(i)] =
              keys[static_cast<size_t>(i) * static_cast<size_t>(d) + static_cast<size_t>(j)];
    }
    const auto at = [&](size_t i) { return reinterpret_cast<const std::byte*>(f + i); };
    l.latent_k = {{DType::kF32, d, d_nope, at(0)}, stride * sizeof(float)};
    l.latent_v = {{DType::kF32, a.d_v, d, at(n_k)}, stride * sizeof(float)};
  }

  const ModelSpec& spec_;
  const Backend& backend_;
  DenseWeights& out_;
};

}  // namespace

DenseWeights load_dense_weights(const ModelFile& file, const ModelSpec& spec,
                                const Backend& backend, const Progress& progress) {
  const std::vector<BoundTensor> tensors = bind_tensors(spec, file.tensors());
  const DensePlan plan = plan_dense(tensors, backend);
  DenseWeights out;
  // Huge pages are safe for the budget here: every byte of the buffer is used.
  out.storage = AlignedBuffer(plan.n_bytes, /*huge_pages=*/true);
  out.layers.resize(static_cast<size_t>(spec.n_layers));
  Loader loader(file, tensors, backend, progress);
  Assigner assigner(spec, backend, out);
  for (size_t i = 0; i < tensors.size(); i++) {
    if (tensors[i].kind == TensorKind::kExperts) continue;
    std::byte* dst = out.storage.data() + plan.offsets[i];
    loader.load(tensors[i], dst);
    assigner.assign(tensors[i], dst);
  }
  if (!out.head) out.head = out.embedding;
  return out;
}

}  // namespace hob
