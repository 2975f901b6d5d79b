#include "engine/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "model/expert_observer.h"

namespace hob {
namespace {

// The hidden vectors stay inside Backend::expert_ffn, so they are computed once more here.
class Collector : public ExpertObserver {
 public:
  Collector(Backend& backend, ExpertInputStats& stats) : backend_(backend), stats_(stats) {}

  void saw(ExpertKey key, const ExpertGroup& group, Mat x) override {
    const auto n = static_cast<int>(group.rows.size());
    const Mat in = mat(input_, n, x.cols), gate = mat(gate_, n, group.gate.n_rows),
              up = mat(up_, n, group.up.n_rows);
    for (int r = 0; r < n; r++)
      std::memcpy(in.row(r), x.row(group.rows[static_cast<size_t>(r)]),
                  static_cast<size_t>(x.cols) * sizeof(float));
    const std::array<LinearOut, 2> outs{{{group.gate, nullptr, gate}, {group.up, nullptr, up}}};
    backend_.linear(in, outs);
    for (int r = 0; r < n; r++)
      for (int c = 0; c < up.cols; c++)
        up.row(r)[c] *= gate.row(r)[c] / (1 + std::exp(-gate.row(r)[c]));  // silu
    stats_.add(key, in, up);
  }

 private:
  static Mat mat(std::vector<float>& storage, int rows, int cols) {
    storage.resize(std::max(storage.size(), static_cast<size_t>(rows) * static_cast<size_t>(cols)));
    return {storage.data(), rows, cols, cols};
  }

  Backend& backend_;
  ExpertInputStats& stats_;
  std::vector<float> input_, gate_, up_;
};

}  // namespace

ExpertInputStats calibrate(ModelSession& session, std::span<const int32_t> tokens,
                           const std::function<void(uint64_t, uint64_t)>& progress) {
  ExpertInputStats stats(session.layout().experts);
  Collector collector(session.backend(), stats);
  session.decoder().set_expert_observer(&collector);
  Engine& engine = session.engine();
  const auto window = static_cast<size_t>(engine.limits().n_ctx);
  for (size_t begin = 0; begin < tokens.size(); begin += window) {
    const size_t n = std::min(window, tokens.size() - begin);
    const int seq = engine.open();
    engine.feed(seq, tokens.subspan(begin, n), static_cast<int>(n));
    while (engine.step([](int, int, std::span<const float>) {}))
      if (progress) progress(begin + static_cast<size_t>(engine.n_computed(seq)), tokens.size());
    if (engine.error(seq)) std::rethrow_exception(engine.error(seq));
    engine.close(seq);
  }
  session.decoder().set_expert_observer(nullptr);
  return stats;
}

}  // namespace hob
