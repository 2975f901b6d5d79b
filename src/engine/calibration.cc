#include "engine/calibration.h"

#include "base/error.h"
#include "engine/observed_run.h"

namespace hob {
namespace {

class Collector : public ExpertObserver {
 public:
  Collector(FfnInputs inputs, ExpertInputStats& stats)
      : inputs_(std::move(inputs)), stats_(stats) {}

  void saw(ExpertKey key, const ExpertGroup& group, Mat x) override {
    const FfnInputs::Pair p = inputs_.of(group, x);
    const int n = group.gate.n_cols;
    if (order_of(group.gate, n) != order_of(group.up, n))
      fail(Code::kUnimplemented,
           "[pack] blk.{}: expected one order of inputs in gate and up of expert {}, it has two",
           key.layer, key.expert);
    to_order(group.gate.order, p.in);
    to_order(group.down.order, p.hidden);
    stats_.add(key, p.in, p.hidden);
  }

 private:
  static std::vector<int32_t> order_of(const Weight& w, int n) {
    return w.order ? std::vector<int32_t>(w.order, w.order + n) : std::vector<int32_t>();
  }
  // As the matrix has its columns.
  void to_order(const int32_t* order, Mat x) {
    if (!order) return;
    for (int r = 0; r < x.rows; r++) {
      row_.assign(x.row(r), x.row(r) + x.cols);
      for (int k = 0; k < x.cols; k++) x.row(r)[k] = row_[static_cast<size_t>(order[k])];
    }
  }

  FfnInputs inputs_;
  ExpertInputStats& stats_;
  std::vector<float> row_;
};

}  // namespace

ExpertInputStats calibrate(ModelSession& session, std::span<const int32_t> tokens,
                           const std::function<void(uint64_t, uint64_t)>& progress) {
  ExpertInputStats stats(session.layout().experts);
  Collector collector({session.backend(), session.layout().spec.ffn_unit}, stats);
  run_observed(session, tokens, nullptr, &collector, progress);
  return stats;
}

}  // namespace hob
