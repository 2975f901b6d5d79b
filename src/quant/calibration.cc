#include "quant/calibration.h"

#include <algorithm>

#include "base/error.h"
#include "engine/observed_run.h"

namespace hob {
namespace {

class Collector : public LinearObserver, public ExpertObserver {
 public:
  Collector(FfnInputs inputs, LayerRange layers, ThreadPool& pool)
      : inputs_(std::move(inputs)), layers_(layers), pool_(pool) {}

  void attention_in(int layer, Mat x) override { add({layer, LinearInput::kAttention, -1}, x); }
  void attention_out(int layer, Mat x) override { add({layer, LinearInput::kHeads, -1}, x); }
  void ffn(int layer, const ExpertGroup& group, Mat x) override { add_ffn(layer, -1, group, x); }
  void saw(ExpertKey key, const ExpertGroup& group, Mat x) override {
    add_ffn(key.layer, key.expert, group, x);
  }

  Hessians take() { return std::move(sums_); }

 private:
  bool wanted(int layer) const { return layer >= layers_.first && layer < layers_.end; }

  void add(const InputKey& key, Mat x) {
    if (wanted(key.layer)) sums_.try_emplace(key, x.cols).first->second.add(x, pool_);
  }

  void add_ffn(int layer, int expert, const ExpertGroup& group, Mat x) {
    if (!wanted(layer)) return;
    const FfnInputs::Pair p = inputs_.of(group, x);
    add({layer, LinearInput::kFfn, expert}, p.in);
    add({layer, LinearInput::kHidden, expert}, p.hidden);
  }

  FfnInputs inputs_;
  LayerRange layers_;
  ThreadPool& pool_;
  Hessians sums_;
};

}  // namespace

uint64_t hessian_bytes(const ModelSpec& spec, int layer) {
  const AttnSpec& a = spec.attn;
  uint64_t total = HessianSum::bytes(spec.d_model) + HessianSum::bytes(a.n_heads * a.d_v);
  const auto ffn = [&](int hidden) {
    return HessianSum::bytes(spec.d_model) + HessianSum::bytes(hidden);
  };
  if (!spec.is_moe_layer(layer)) return total + ffn(spec.d_ff);
  total += static_cast<uint64_t>(spec.moe.n_experts) * ffn(spec.moe.d_expert);
  return spec.moe.d_shared > 0 ? total + ffn(spec.moe.d_shared) : total;
}

std::vector<int32_t> sample_windows(std::span<const int32_t> tokens, size_t n_tok, size_t window) {
  HOB_CHECK(window > 0);
  if (tokens.size() <= n_tok) return {tokens.begin(), tokens.end()};
  const size_t n_windows = (tokens.size() + window - 1) / window,
               n_taken = std::max<size_t>(1, n_tok / window);
  std::vector<int32_t> sample;
  for (size_t i = 0; i < n_taken; i++) {
    const std::span<const int32_t> rest = tokens.subspan(i * n_windows / n_taken * window);
    const size_t n = std::min({window, rest.size(), n_tok - sample.size()});
    sample.insert(sample.end(), rest.begin(), rest.begin() + static_cast<ptrdiff_t>(n));
  }
  return sample;
}

Hessians collect_hessians(ModelSession& session, std::span<const int32_t> tokens, LayerRange layers,
                          ThreadPool& pool,
                          const std::function<void(uint64_t, uint64_t)>& progress) {
  Collector collector({session.backend(), session.layout().spec.ffn_unit}, layers, pool);
  run_observed(session, tokens, &collector, &collector, progress);
  return collector.take();
}

std::unique_ptr<HessianSum> sum_of_experts(const Hessians& all, int layer, LinearInput input) {
  std::unique_ptr<HessianSum> sum;
  for (auto it = all.lower_bound({layer, input, 0});
       it != all.end() && it->first.layer == layer && it->first.input == input; ++it) {
    if (!sum) sum = std::make_unique<HessianSum>(it->second.n_inputs());
    sum->add(it->second, 1);
  }
  return sum;
}

}  // namespace hob
