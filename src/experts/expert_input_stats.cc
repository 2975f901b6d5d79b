#include "experts/expert_input_stats.h"

#include "base/error.h"

namespace hob {
namespace {

void add_squares(Mat x, std::vector<float>& sums) {
  HOB_CHECK(static_cast<size_t>(x.cols) == sums.size());
  for (int r = 0; r < x.rows; r++) {
    const float* row = x.row(r);
    for (size_t c = 0; c < sums.size(); c++) sums[c] += row[c] * row[c];
  }
}

// The weights' scale is of no matter to a quantiser, zeros are: a column that the text never used
// still counts for a thousandth of the average one.
void finish(const std::vector<float>& own, uint64_t n_own, const std::vector<float>& all,
            uint64_t n_all, std::vector<float>& out) {
  const float prior = ExpertInputStats::kPriorRows / static_cast<float>(n_all);
  const float total = static_cast<float>(n_own) + ExpertInputStats::kPriorRows;
  out.resize(own.size());
  float mean = 0;
  for (size_t c = 0; c < own.size(); c++) {
    out[c] = (own[c] + prior * all[c]) / total;
    mean += out[c] / static_cast<float>(own.size());
  }
  for (float& v : out) v += 1e-3f * mean;
  // All inputs zero: nothing is known.
  if (!(mean > 0)) out.clear();
}

}  // namespace

ExpertInputStats::ExpertInputStats(const ExpertGeometry& geometry) {
  for (const ExpertLayer& layer : geometry.layers) {
    Layer l;
    if (layer.n_experts > 0) {
      l.all.input.resize(static_cast<size_t>(layer.parts[kGate].cols));
      l.all.hidden.resize(static_cast<size_t>(layer.parts[kDown].cols));
      l.experts.assign(static_cast<size_t>(layer.n_experts), l.all);
    }
    layers_.push_back(std::move(l));
  }
}

void ExpertInputStats::add(ExpertKey key, Mat x, Mat h) {
  HOB_CHECK(x.rows == h.rows);
  Layer& layer = layers_[static_cast<size_t>(key.layer)];
  for (Sums* s : {&layer.all, &layer.experts[static_cast<size_t>(key.expert)]}) {
    add_squares(x, s->input);
    add_squares(h, s->hidden);
    s->n_rows += static_cast<uint64_t>(x.rows);
  }
  n_rows_ += static_cast<uint64_t>(x.rows);
}

ExpertImportance ExpertInputStats::importance(ExpertKey key) {
  const Layer& layer = layers_[static_cast<size_t>(key.layer)];
  if (layer.all.n_rows == 0) return {};
  const Sums& own = layer.experts[static_cast<size_t>(key.expert)];
  finish(own.input, own.n_rows, layer.all.input, layer.all.n_rows, input_);
  finish(own.hidden, own.n_rows, layer.all.hidden, layer.all.n_rows, hidden_);
  return {input_, input_, hidden_};
}

int ExpertInputStats::n_unseen() const {
  int n = 0;
  for (const Layer& layer : layers_)
    for (const Sums& s : layer.experts) n += s.n_rows == 0;
  return n;
}

}  // namespace hob
