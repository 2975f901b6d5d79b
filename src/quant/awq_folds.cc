#include "quant/awq_folds.h"

#include <algorithm>
#include <list>

#include "base/error.h"

namespace hob {
namespace {

// All experts of a layer read the same norm, so they share the scales of that input.
InputKey shared_key(InputKey key) {
  if (key.input == LinearInput::kFfn) key.expert = -1;
  return key;
}

// Values that the matrices reading `key` share the channels with.
struct Readers {
  std::list<std::vector<float>> weights, hessians;
  std::vector<AwqMatrix> matrices;
  std::vector<double> magnitude;
  double n_rows = 0;
};

void add_reader(Readers& readers, const RawTensor& t, const LayerMatrix& m, int expert,
                const HessianSum& sum, const WeightReader& reader) {
  const int64_t n = t.shape.n_elements() / (m.routed ? t.shape[0] : 1);
  readers.weights.push_back(reader.values(t, m.routed ? expert * n : 0, n));
  readers.hessians.push_back(sum.hessian());
  readers.matrices.push_back({.w = readers.weights.back(),
                              .rows = static_cast<int>(n / t.shape.cols()),
                              .hessian = &readers.hessians.back()});
  const std::vector<float> mean = sum.mean_magnitude();
  readers.magnitude.resize(mean.size());
  for (size_t c = 0; c < mean.size(); c++)
    readers.magnitude[c] += static_cast<double>(mean[c]) * sum.n_rows();
  readers.n_rows += sum.n_rows();
}

}  // namespace

AwqFolds::AwqFolds(const ModelSpec& spec, const GridParams& grid, ThreadPool& pool)
    : spec_(spec), grid_(grid), pool_(pool) {
  if (spec.layer_norm || spec.norm_biases)
    fail(Code::kUnimplemented,
         "[quant] awq: expected norms without biases to fold scales into, {} has some", spec.arch);
}

bool AwqFolds::can_scale(LinearInput input) const {
  const AttnSpec& a = spec_.attn;
  switch (input) {
    case LinearInput::kAttention:
      return a.d_latent == 0;
    case LinearInput::kHeads:  // each value is read by one head only
      return a.d_latent == 0 && a.n_heads == a.n_kv_heads && !a.bias_qkv && !a.fused_qkv;
    case LinearInput::kFfn:
      return true;
    case LinearInput::kHidden:  // the unit must be linear in what `up` gives
      return spec_.ffn_unit != GatedUnit::kClampedSilu && !spec_.fused_gate_up && !spec_.moe.biases;
  }
  return false;
}

void AwqFolds::search_layer(int layer, const ModelFile& file, const WeightReader& reader,
                            const Hessians& hessians) {
  for (const LinearInput input : {LinearInput::kAttention, LinearInput::kHeads, LinearInput::kFfn})
    search({layer, input, -1}, file, reader, hessians);
  for (auto it = hessians.lower_bound({layer, LinearInput::kHidden, -1});
       it != hessians.end() && it->first.layer == layer; ++it)
    search(it->first, file, reader, hessians);
}

void AwqFolds::search(InputKey key, const ModelFile& file, const WeightReader& reader,
                      const Hessians& hessians) {
  if (!can_scale(key.input)) return;
  Readers readers;
  for (const RawTensor& t : file.tensors()) {
    const std::optional<LayerMatrix> m = layer_matrix(t.name);
    if (!m || m->layer != key.layer || m->input != key.input) continue;
    const auto n_experts = m->routed ? static_cast<int>(t.shape[0]) : 1;
    for (int e = 0; e < n_experts; e++) {
      const auto sum = hessians.find(m->key(e));
      if (sum != hessians.end() && shared_key(m->key(e)) == key)
        add_reader(readers, t, *m, e, sum->second, reader);
    }
  }
  if (readers.matrices.empty()) return;
  std::vector<float> magnitude(readers.magnitude.size());
  for (size_t c = 0; c < magnitude.size(); c++)
    magnitude[c] = static_cast<float>(readers.magnitude[c] / std::max(readers.n_rows, 1.0));
  scales_[key] = awq_search(readers.matrices, magnitude, grid_, pool_).s;
}

const std::vector<float>* AwqFolds::scales(InputKey key) const {
  const auto found = scales_.find(shared_key(key));
  return found == scales_.end() ? nullptr : &found->second;
}

std::optional<AwqFolds::Fold> AwqFolds::fold_of(const ModelSpec& spec,
                                                std::string_view tensor_name) {
  const std::optional<LayerName> name = layer_name(tensor_name);
  if (!name) return std::nullopt;
  if (name->rest == "attn_norm.weight")
    return Fold{{name->layer, LinearInput::kAttention, -1}, false};
  if (name->rest == spec.ffn_norm + ".weight")
    return Fold{{name->layer, LinearInput::kFfn, -1}, false};
  if (name->rest == "ffn_gate_inp.weight" || name->rest == "ffn_gate_inp_shexp.weight")
    return Fold{{name->layer, LinearInput::kFfn, -1}, true};
  return std::nullopt;
}

bool AwqFolds::may_touch(const ModelSpec& spec, std::string_view tensor_name) {
  return fold_of(spec, tensor_name).has_value();
}

bool AwqFolds::touches(std::string_view tensor_name) const {
  const std::optional<Fold> fold = fold_of(spec_, tensor_name);
  return fold && scales(fold->key);
}

void AwqFolds::apply(std::string_view tensor_name, int64_t cols, std::vector<float>& w) const {
  const std::optional<Fold> fold = fold_of(spec_, tensor_name);
  const std::vector<float>* s = fold ? scales(fold->key) : nullptr;
  if (!s) return;
  HOB_CHECK(s->size() == static_cast<size_t>(cols));
  for (size_t i = 0; i < w.size(); i++)
    w[i] = fold->multiply ? w[i] * (*s)[i % s->size()] : w[i] / (*s)[i % s->size()];
}

void AwqFolds::apply(const LayerMatrix& matrix, int expert, int64_t cols,
                     std::vector<float>& w) const {
  const auto n_cols = static_cast<size_t>(cols);
  if (const std::vector<float>* s = scales(matrix.key(expert)))
    for (size_t i = 0; i < w.size(); i++) w[i] *= (*s)[i % n_cols];
  if (!matrix.output) return;
  const InputKey fed{matrix.layer, *matrix.output, matrix.routed ? expert : -1};
  if (const std::vector<float>* s = scales(fed))
    for (size_t i = 0; i < w.size(); i++) w[i] /= (*s)[i / n_cols];
}

}  // namespace hob
