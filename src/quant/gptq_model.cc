#include "quant/gptq_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/gguf_writer.h"
#include "quant/awq_folds.h"
#include "quant/calibration_names.h"
#include "quant/calibration_weights.h"
#include "quant/gptq_blocks.h"
#include "quant/gptq_refine.h"
#include "quant/round_row.h"

namespace hob {
namespace {

bool quantisable(const RawTensor& t) {
  return layer_matrix(t.name) &&
         (t.dtype == DType::kF32 || t.dtype == DType::kF16 || t.dtype == DType::kBF16);
}

class ModelQuantiser {
 public:
  ModelQuantiser(ModelSession& session, std::span<const int32_t> tokens,
                 const QuantiseOptions& options, ThreadPool& pool,
                 const CalibratedProgress& progress)
      : session_(session),
        spec_(session.layout().spec),
        tokens_(tokens),
        options_(options),
        pool_(pool),
        progress_(progress),
        reader_(session.file()),
        out_type_(options.as_f32 ? DType::kF32 : type_of_grid(options.gptq.grid)) {}

  QuantiseReport run() {
    GgufWriter writer;
    writer.set_all(session_.file().metadata());
    writer.set("general.file_type", file_type());
    std::vector<const RawTensor*> order;
    for (const RawTensor& t : session_.file().tensors()) order.push_back(&t);
    // Layer by layer, whatever the input's order, so that each layer is calibrated once.
    std::sort(order.begin(), order.end(),
              [](const RawTensor* a, const RawTensor* b) { return place(*a) < place(*b); });
    for (const RawTensor* t : order) {
      check(*t);
      writer.add(t->name, type_of(*t), t->shape);
      total_ += t->n_bytes;
    }
    size_t next = 0;  // the writer asks in the order of add()
    writer.write(options_.out, [&](const GgufWriter::Tensor&, const GgufWriter::Sink& sink) {
      write(*order[next++], sink);
    });
    return std::move(report_);
  }

 private:
  static DType type_of_grid(const GridParams& grid) {
    if (const std::optional<DType> type = block_type(grid)) return *type;
    fail(Code::kUnimplemented,
         "[quant] expected a grid that GGUF has a type for (group 32 with 4 bits, or 8 symmetric), "
         "got {} bits in groups of {}",
         grid.bits, grid.group);
  }

  std::optional<DType> named_type(const RawTensor& t) const {
    const auto named = options_.types.find(t.name);
    return named == options_.types.end() ? std::nullopt : std::optional(named->second);
  }
  DType type_of(const RawTensor& t) const {
    if (const std::optional<DType> named = named_type(t)) return *named;
    return quantisable(t) ? out_type_ : t.dtype;
  }
  // What the method works on; nothing: it has no such values.
  std::optional<GridParams> grid_for(const RawTensor& t) const {
    const std::optional<DType> named = named_type(t);
    if (!quantisable(t)) return std::nullopt;
    return named ? grid_of(*named, options_.gptq.grid) : std::optional(options_.gptq.grid);
  }

  // Layer by layer, and in the model's own order, which is much the same in a file.
  static std::pair<int, const RawTensor*> place(const RawTensor& t) {
    const std::optional<LayerName> name = layer_name(t.name);
    return {name ? name->layer : -1, &t};
  }

  // As in llama.cpp's list of file types.
  uint32_t file_type() const {
    switch (out_type_) {
      case DType::kQ4_0:
        return 2;
      case DType::kQ4_1:
        return 3;
      case DType::kQ8_0:
        return 7;
      default:
        return 0;
    }
  }

  void check(const RawTensor& t) const {
    const std::optional<LayerMatrix> matrix = layer_matrix(t.name);
    if (!matrix) return;
    const std::optional<GridParams> grid = grid_for(t);
    if (!grid && !named_type(t))
      fail(Code::kInvalidArgument, "[quant] {}: expected F32, F16 or BF16, file has {}", t.name,
           dtype_info(t.dtype).name);
    if (matrix->layer >= spec_.n_layers)
      fail(Code::kDataLoss, "[quant] {}: expected a layer below {}", t.name, spec_.n_layers);
    if (grid) check_grid(*grid, static_cast<int>(t.shape.cols()));
  }

  void write(const RawTensor& t, const GgufWriter::Sink& sink) {
    const std::optional<LayerName> name = layer_name(t.name);
    if (name && options_.method != QuantMethod::kRtn) calibrate(name->layer);
    if (const std::optional<GridParams> grid = grid_for(t))
      write_quantised(t, *layer_matrix(t.name), *grid, sink);
    else if (const std::optional<DType> named = named_type(t))
      write_rounded(t, *named, sink);
    else if (folds_ && folds_->touches(t.name))
      write_folded(t, sink);
    else
      reader_.copy(t, sink);
    done_ += t.n_bytes;
    progress_("quantising", done_, total_);
  }

  // As many layers as the budget has room for, this one first.
  void calibrate(int layer) {
    if (layer >= range_.first && layer < range_.end) return;
    folds_.reset();
    hessians_.clear();
    range_ = {layer, layer + 1};
    uint64_t bytes = hessian_bytes(spec_, layer);
    while (range_.end < spec_.n_layers &&
           (bytes += hessian_bytes(spec_, range_.end)) <= options_.hessian_bytes)
      range_.end++;
    report_.n_passes++;
    hessians_ = collect_hessians(
        session_, tokens_, range_, pool_,
        [&](uint64_t done, uint64_t total) { progress_("calibrating", done, total); });
    blend();
    if (options_.method == QuantMethod::kGptq) return;
    folds_ = std::make_unique<AwqFolds>(spec_, options_.gptq.grid, pool_);
    for (int l = range_.first; l < range_.end; l++)
      folds_->search_layer(l, session_.file(), reader_, hessians_);
  }

  // Experts that saw fewer rows than they have inputs get the rest from their layer's sum.
  void blend() {
    for (int layer = range_.first; layer < range_.end; layer++) {
      if (!spec_.is_moe_layer(layer)) continue;
      for (const LinearInput input : {LinearInput::kFfn, LinearInput::kHidden}) {
        const std::unique_ptr<HessianSum> sum = sum_of_experts(hessians_, layer, input);
        for (int e = 0; e < spec_.moe.n_experts; e++) {
          const InputKey key{layer, input, e};
          if (!sum || sum->n_rows() <= 0) {
            report_.unseen.push_back(key);
            continue;
          }
          HessianSum& own = hessians_.try_emplace(key, sum->n_inputs()).first->second;
          const double missing = own.n_inputs() - own.n_rows();
          if (missing <= 0) continue;
          own.add(*sum, missing / sum->n_rows());
          report_.blended.push_back(key);
        }
      }
    }
  }

  void write_folded(const RawTensor& t, const GgufWriter::Sink& sink) {
    std::vector<float> w = reader_.values(t, 0, t.shape.n_elements());
    folds_->apply(t.name, t.shape.cols(), w);
    sink(to_bytes(t.dtype, w));
  }

  // Folds of the layer are in what the other matrices get, so they must be in here too.
  void write_rounded(const RawTensor& t, DType type, const GgufWriter::Sink& sink) {
    const std::optional<LayerMatrix> matrix = layer_matrix(t.name);
    const int64_t n_experts = t.shape.n_dims > 2 ? t.shape[0] : 1;
    const int64_t n_cols = t.shape.cols(), n = t.shape.n_elements() / n_experts;
    for (int64_t e = 0; e < n_experts; e++) {
      std::vector<float> w = reader_.values(t, e * n, n);
      if (folds_ && matrix) folds_->apply(*matrix, static_cast<int>(e), n_cols, w);
      sink(round_rows(type, w, n_cols, pool_));
    }
    report_.n_rounded++;
  }

  void write_quantised(const RawTensor& t, const LayerMatrix& matrix, const GridParams& grid,
                       const GgufWriter::Sink& sink) {
    const int64_t n_experts = matrix.routed ? t.shape[0] : 1;
    const auto cols = static_cast<int>(t.shape.cols());
    const auto rows = static_cast<int>(t.shape.rows() / n_experts);
    for (int64_t e = 0; e < n_experts; e++) {
      const int64_t n = static_cast<int64_t>(rows) * cols;
      std::vector<float> w = reader_.values(t, e * n, n);
      const InputKey key = matrix.key(static_cast<int>(e));
      if (folds_) folds_->apply(matrix, static_cast<int>(e), cols, w);
      const QuantisedMatrix q = quantise(w, rows, cols, grid, key);
      report_.n_matrices++;
      if (options_.as_f32) {
        const std::vector<float> values = q.dequantise();
        sink(std::as_bytes(std::span(values)));
      } else {
        std::vector<std::byte> blocks;
        append_blocks(q, type_of(t), blocks);
        sink(blocks);
      }
    }
  }

  QuantisedMatrix quantise(const std::vector<float>& w, int rows, int cols, const GridParams& grid,
                           const InputKey& key) {
    const auto found = hessians_.find(key);
    if (options_.method == QuantMethod::kRtn || found == hessians_.end())
      return rtn_quantise(w, rows, cols, grid, pool_);
    std::vector<float> hessian = found->second.hessian();
    const std::vector<float>* s = folds_ ? folds_->scales(key) : nullptr;
    if (s) hessian = scaled_hessian(hessian, *s);
    GptqParams params = options_.gptq;
    params.grid = grid;
    GptqReport one;
    QuantisedMatrix q = options_.method == QuantMethod::kAwq
                            ? awq_quantise(w, rows, cols, hessian, grid, pool_)
                            : gptq_quantise(w, rows, cols, hessian, params, pool_, &one);
    refine_quantised(w, hessian, std::max(one.damp, params.damp), params.refine, q, pool_);
    report_.n_dead += one.n_dead;
    report_.damp = std::max(report_.damp, one.damp);
    return q;
  }

  ModelSession& session_;
  const ModelSpec& spec_;
  std::span<const int32_t> tokens_;
  const QuantiseOptions& options_;
  ThreadPool& pool_;
  const CalibratedProgress& progress_;
  WeightReader reader_;
  DType out_type_;
  LayerRange range_;
  Hessians hessians_;  // of range_
  std::unique_ptr<AwqFolds> folds_;
  QuantiseReport report_;
  uint64_t done_ = 0, total_ = 0;
};

}  // namespace

QuantiseReport quantise_model(ModelSession& session, std::span<const int32_t> tokens,
                              const QuantiseOptions& options, ThreadPool& pool,
                              const CalibratedProgress& progress) {
  if (options.method != QuantMethod::kRtn && tokens.empty())
    fail(Code::kInvalidArgument, "[quant] calibration: expected some text, it has none");
  return ModelQuantiser(session, tokens, options, pool, progress).run();
}

}  // namespace hob
