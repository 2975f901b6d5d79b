#include "quant/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace hob {
namespace {

// Plain versions of what the kernels compute. Ref: kernels/gated_unit.h.
float gated(GatedUnit unit, float g, float u) {
  switch (unit) {
    case GatedUnit::kSilu:
      return g / (1 + std::exp(-g)) * u;
    case GatedUnit::kGelu:
    case GatedUnit::kGeluF16:
      return 0.5f * g * (1 + std::tanh(0.7978845608f * (g + 0.044715f * g * g * g))) * u;
    case GatedUnit::kClampedSilu:
      g = std::min(g, 7.0f);
      return g / (1 + std::exp(-1.702f * g)) * (std::clamp(u, -7.0f, 7.0f) + 1);
  }
  return 0;
}

class Collector : public LinearObserver, public ExpertObserver {
 public:
  Collector(Backend& backend, GatedUnit unit, LayerRange layers, ThreadPool& pool)
      : backend_(backend), unit_(unit), layers_(layers), pool_(pool) {}

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

  // The hidden vectors stay inside the backend, so they are computed once more here.
  void add_ffn(int layer, int expert, const ExpertGroup& group, Mat x) {
    if (!wanted(layer)) return;
    const auto n = static_cast<int>(group.rows.size());
    const Mat in = mat(input_, n, x.cols), gate = mat(gate_, n, group.gate.n_rows),
              up = mat(up_, n, group.up.n_rows);
    for (int r = 0; r < n; r++)
      std::memcpy(in.row(r), x.row(group.rows[static_cast<size_t>(r)]),
                  static_cast<size_t>(x.cols) * sizeof(float));
    const std::array<LinearOut, 2> outs{
        {{group.gate, group.gate_bias, gate}, {group.up, group.up_bias, up}}};
    backend_.linear(in, outs);
    for (int r = 0; r < n; r++)
      for (int c = 0; c < up.cols; c++) up.row(r)[c] = gated(unit_, gate.row(r)[c], up.row(r)[c]);
    add({layer, LinearInput::kFfn, expert}, in);
    add({layer, LinearInput::kHidden, expert}, up);
  }

  static Mat mat(std::vector<float>& storage, int rows, int cols) {
    storage.resize(std::max(storage.size(), static_cast<size_t>(rows) * static_cast<size_t>(cols)));
    return {storage.data(), rows, cols, cols};
  }

  Backend& backend_;
  GatedUnit unit_;
  LayerRange layers_;
  ThreadPool& pool_;
  Hessians sums_;
  std::vector<float> input_, gate_, up_;
};

// Observers must not outlive the collector, whatever is thrown.
class Watch {
 public:
  Watch(Decoder& decoder, Collector& collector) : decoder_(decoder) {
    decoder_.set_linear_observer(&collector);
    decoder_.set_expert_observer(&collector);
  }
  ~Watch() {
    decoder_.set_linear_observer(nullptr);
    decoder_.set_expert_observer(nullptr);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  Decoder& decoder_;
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

Hessians collect_hessians(ModelSession& session, std::span<const int32_t> tokens, LayerRange layers,
                          ThreadPool& pool,
                          const std::function<void(uint64_t, uint64_t)>& progress) {
  Collector collector(session.backend(), session.layout().spec.ffn_unit, layers, pool);
  const Watch watch(session.decoder(), collector);
  Engine& engine = session.engine();
  const auto window = static_cast<size_t>(engine.limits().n_ctx);
  for (size_t begin = 0; begin < tokens.size(); begin += window) {
    const size_t n = std::min(window, tokens.size() - begin);
    const int seq = engine.open();
    engine.feed(seq, tokens.subspan(begin, n), static_cast<int>(n));
    while (engine.step([](int, int, std::span<const float>) {}))
      if (progress) progress(begin + static_cast<size_t>(engine.n_computed(seq)), tokens.size());
    const std::exception_ptr error = engine.error(seq);
    engine.close(seq);
    if (error) std::rethrow_exception(error);
  }
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
