#include "quant/layer_quantiser.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "quant/gptq_refine.h"

namespace hob {
namespace {

// Layer by layer, and in the model's own order, which is much the same in a file.
std::pair<int, const RawTensor*> place(const RawTensor* t) {
  const std::optional<LayerName> name = layer_name(t->name);
  return {name ? name->layer : -1, t};
}

}  // namespace

bool quantisable(const RawTensor& t) {
  return layer_matrix(t.name) &&
         (t.dtype == DType::kF32 || t.dtype == DType::kF16 || t.dtype == DType::kBF16);
}

int64_t n_experts_in(const RawTensor& t) {
  const std::optional<LayerMatrix> matrix = layer_matrix(t.name);
  return matrix && matrix->routed ? t.shape[0] : 1;
}

LayerQuantiser::LayerQuantiser(ModelSession& session, std::span<const int32_t> tokens,
                               const QuantiseOptions& options, ThreadPool& pool,
                               const CalibratedProgress& progress)
    : session_(session),
      spec_(session.layout().spec),
      tokens_(tokens),
      options_(options),
      pool_(pool),
      progress_(progress),
      reader_(session.file()) {
  for (const RawTensor& t : session.file().tensors()) {
    order_.push_back(&t);
    total_ += t.n_bytes;
    const std::optional<LayerMatrix> matrix = layer_matrix(t.name);
    if (matrix && matrix->layer >= spec_.n_layers)
      fail(Code::kDataLoss, "[quant] {}: expected a layer below {}", t.name, spec_.n_layers);
  }
  std::sort(order_.begin(), order_.end(),
            [](const RawTensor* a, const RawTensor* b) { return place(a) < place(b); });
}

void LayerQuantiser::begin(const RawTensor& t) {
  const std::optional<LayerName> name = layer_name(t.name);
  if (name && options_.method != QuantMethod::kRtn) calibrate(name->layer);
}

void LayerQuantiser::end(const RawTensor& t) {
  done_ += t.n_bytes;
  progress_("quantising", done_, total_);
}

bool LayerQuantiser::may_fold(const RawTensor& t) const {
  return AwqFolds::may_touch(spec_, t.name);
}

std::vector<float> LayerQuantiser::values(const RawTensor& t, int64_t expert) {
  const int64_t n = t.shape.n_elements() / n_experts_in(t);
  std::vector<float> w = reader_.values(t, expert * n, n);
  if (!folds_) return w;
  if (const std::optional<LayerMatrix> matrix = layer_matrix(t.name))
    folds_->apply(*matrix, static_cast<int>(expert), t.shape.cols(), w);
  else
    folds_->apply(t.name, t.shape.cols(), w);
  return w;
}

QuantisedMatrix LayerQuantiser::quantise(const RawTensor& t, int64_t expert,
                                         const GridParams& grid) {
  const std::vector<float> w = values(t, expert);
  const InputKey key = layer_matrix(t.name)->key(static_cast<int>(expert));
  const auto cols = static_cast<int>(t.shape.cols());
  const auto rows = static_cast<int>(t.shape.rows() / n_experts_in(t));
  report_.n_matrices++;
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

// As many layers as the budget has room for, this one first.
void LayerQuantiser::calibrate(int layer) {
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
void LayerQuantiser::blend() {
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

}  // namespace hob
