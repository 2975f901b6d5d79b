#include "engine/observed_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace hob {
namespace {

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

// Observers must not outlive their owner, whatever is thrown.
class Observing {
 public:
  Observing(Decoder& decoder, LinearObserver* on_linear, ExpertObserver* on_experts)
      : decoder_(decoder) {
    decoder_.set_linear_observer(on_linear);
    decoder_.set_expert_observer(on_experts);
  }
  ~Observing() {
    decoder_.set_linear_observer(nullptr);
    decoder_.set_expert_observer(nullptr);
  }
  Observing(const Observing&) = delete;
  Observing& operator=(const Observing&) = delete;

 private:
  Decoder& decoder_;
};

class OpenSequence {
 public:
  explicit OpenSequence(Engine& engine) : engine_(engine), seq_(engine.open()) {}
  ~OpenSequence() { engine_.close(seq_); }
  OpenSequence(const OpenSequence&) = delete;
  OpenSequence& operator=(const OpenSequence&) = delete;
  int id() const { return seq_; }

 private:
  Engine& engine_;
  int seq_;
};

Mat mat(std::vector<float>& storage, int rows, int cols) {
  storage.resize(std::max(storage.size(), static_cast<size_t>(rows) * static_cast<size_t>(cols)));
  return {storage.data(), rows, cols, cols};
}

}  // namespace

void run_observed(ModelSession& session, std::span<const int32_t> tokens, LinearObserver* on_linear,
                  ExpertObserver* on_experts,
                  const std::function<void(uint64_t, uint64_t)>& progress) {
  const Observing observing(session.decoder(), on_linear, on_experts);
  Engine& engine = session.engine();
  const auto window = static_cast<size_t>(engine.limits().n_ctx);
  for (size_t begin = 0; begin < tokens.size(); begin += window) {
    const size_t n = std::min(window, tokens.size() - begin);
    const OpenSequence seq(engine);
    engine.feed(seq.id(), tokens.subspan(begin, n), static_cast<int>(n));
    while (engine.step([](int, int, std::span<const float>) {}))
      if (progress)
        progress(begin + static_cast<size_t>(engine.n_computed(seq.id())), tokens.size());
    if (const std::exception_ptr error = engine.error(seq.id())) std::rethrow_exception(error);
  }
}

FfnInputs::Pair FfnInputs::of(const ExpertGroup& group, Mat x) {
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
  return {in, up};
}

}  // namespace hob
