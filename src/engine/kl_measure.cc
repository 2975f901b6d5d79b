#include "engine/kl_measure.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "engine/score.h"

namespace hob {
namespace {

// Percentiles of the scores of ranks >= 1 where T1 and T2 stand. Mixed mode has no T2. The default
// (67/97) is among both.
struct Quantiles {
  float q1, q2;
};
constexpr std::array<Quantiles, 7> kMixed = {
    {{.97f, 1}, {.9f, 1}, {.8f, 1}, {.67f, 1}, {.5f, 1}, {.33f, 1}, {0, 1}}};
constexpr std::array<Quantiles, 6> kSkip = {
    {{.9f, .99f}, {.8f, .98f}, {.67f, .97f}, {.5f, .95f}, {.33f, .9f}, {0, .8f}}};

PrecisionOptions strict_options(PrecisionMode mode, Thresholds t) {
  PrecisionOptions p;
  p.mode = mode;
  p.strict = true;
  p.t1 = t.t1;
  p.t2 = t.t2;
  return p;
}

// Everything high, and the scores are learned on the way.
PrecisionOptions all_high() { return strict_options(PrecisionMode::kMixed, {1.f, 1.f}); }

struct Setting {
  KlRow row;
  std::vector<double> kl;
  uint64_t n_same_top = 0;
  PrecisionCounts counts;
};

std::vector<Setting> make_settings(const Decoder& profiled) {
  std::vector<Setting> settings;
  const auto add = [&](PrecisionMode mode, std::span<const Quantiles> list) {
    for (const Quantiles& q : list) {
      Setting s;
      s.row.mode = mode;
      s.row.thresholds = {profiled.score_quantile(q.q1),
                          mode == PrecisionMode::kMixed ? 1.f : profiled.score_quantile(q.q2)};
      settings.push_back(std::move(s));
    }
  };
  add(PrecisionMode::kMixed, kMixed);
  add(PrecisionMode::kMixedSkip, kSkip);
  return settings;
}

void run_window(Engine& engine, std::span<const int32_t> tokens, const LogitsSink& sink) {
  const int seq = engine.open();
  engine.feed(seq, tokens, static_cast<int>(tokens.size()) - kKlFirst);
  while (engine.step(sink)) {
  }
  const std::exception_ptr error = engine.error(seq);
  engine.close(seq);
  if (error) std::rethrow_exception(error);
}

void add_counts(PrecisionCounts& to, const PrecisionCounts& c) {
  to.n_uses += c.n_uses;
  to.n_low += c.n_low;
  to.n_skipped += c.n_skipped;
  to.mass += c.mass;
  to.mass_low += c.mass_low;
  to.mass_skipped += c.mass_skipped;
}

// Low bytes / high bytes, over all experts.
double low_ratio(const ExpertGeometry& experts) {
  double high = 0, low = 0;
  const auto bytes = [](const ExpertLayer& layer) {
    double n = 0;
    for (const ExpertMatrix& m : layer.parts)
      n += static_cast<double>(m.rows) * static_cast<double>(row_bytes(m.dtype, m.cols));
    return n * layer.n_experts;
  };
  for (const ExpertLayer& layer : experts.layers) high += bytes(layer);
  for (const ExpertLayer& layer : experts.low) low += bytes(layer);
  return high > 0 ? low / high : 1;
}

KlRow finish(Setting& s, double ratio) {
  KlRow r = s.row;
  const auto n = static_cast<double>(s.kl.size());
  for (const double kl : s.kl) r.mean_kl += kl / n;
  std::sort(s.kl.begin(), s.kl.end());
  r.p99_kl = s.kl[std::min(s.kl.size() - 1, s.kl.size() * 99 / 100)];
  r.top1_agreement = static_cast<double>(s.n_same_top) / n;
  const PrecisionCounts& c = s.counts;
  const auto uses = static_cast<double>(std::max<uint64_t>(1, c.n_uses));
  r.low_share = static_cast<double>(c.n_low) / uses;
  r.skipped_share = static_cast<double>(c.n_skipped) / uses;
  if (c.mass > 0) {
    r.low_mass = c.mass_low / c.mass;
    r.skipped_mass = c.mass_skipped / c.mass;
  }
  r.relative_bytes = std::clamp(1 - r.skipped_share - r.low_share * (1 - ratio), 0.0, 1.0);
  return r;
}

class Measurement {
 public:
  Measurement(ModelSession& session, std::span<const int32_t> tokens,
              const std::function<void(uint64_t, uint64_t)>& progress)
      : session_(session),
        tokens_(tokens),
        n_windows_(tokens.size() / kKlWindow),
        n_vocab_(static_cast<size_t>(session.engine().n_vocab())),
        progress_(progress),
        base_(n_vocab_ * (kKlWindow - kKlFirst)) {
    HOB_CHECK(n_windows_ > 0);
  }

  KlTable run() {
    Decoder& decoder = session_.decoder();
    decoder.set_precision(all_high());
    for (size_t w = 0; w < n_windows_; w++)
      run_window(session_.engine(), window(w), [](int, int, std::span<const float>) {});
    std::vector<Setting> settings = make_settings(decoder);
    n_runs_ = n_windows_ * (settings.size() + 1);
    for (size_t w = 0; w < n_windows_; w++) {
      run_base(w);
      for (Setting& s : settings) run_setting(w, s);
    }
    KlTable table{.n_tok = n_windows_ * (kKlWindow - kKlFirst), .rows = {}};
    const double ratio = low_ratio(session_.layout().experts);
    for (Setting& s : settings) table.rows.push_back(finish(s, ratio));
    return table;
  }

 private:
  std::span<const int32_t> window(size_t w) const {
    return tokens_.subspan(w * kKlWindow, kKlWindow);
  }
  float* base_row(int position) {
    return base_.data() + static_cast<size_t>(position - kKlFirst) * n_vocab_;
  }
  void count() {
    if (progress_) progress_(++n_done_, n_runs_);
  }
  void run_base(size_t w) {
    session_.decoder().set_precision(all_high());
    run_window(session_.engine(), window(w), [&](int, int position, std::span<const float> logits) {
      std::copy(logits.begin(), logits.end(), base_row(position));
    });
    count();
  }
  void run_setting(size_t w, Setting& s) {
    Decoder& decoder = session_.decoder();
    decoder.set_precision(strict_options(s.row.mode, s.row.thresholds));
    run_window(session_.engine(), window(w), [&](int, int position, std::span<const float> logits) {
      const std::span<const float> base(base_row(position), n_vocab_);
      s.kl.push_back(kl_divergence(base, logits));
      s.n_same_top += arg_max(base) == arg_max(logits);
    });
    add_counts(s.counts, decoder.precision_counts());
    count();
  }

  ModelSession& session_;
  std::span<const int32_t> tokens_;
  const size_t n_windows_, n_vocab_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::vector<float> base_;  // [kKlWindow - kKlFirst, n_vocab]
  uint64_t n_done_ = 0, n_runs_ = 0;
};

}  // namespace

void set_kl_options(SessionOptions& options) {
  options.precision = all_high();
  options.n_ctx = kKlWindow;
  options.n_seqs = 1;
  options.max_logit_rows = kKlWindow - kKlFirst;
}

KlTable measure_kl(ModelSession& session, std::span<const int32_t> tokens,
                   const std::function<void(uint64_t, uint64_t)>& progress) {
  return Measurement(session, tokens, progress).run();
}

}  // namespace hob
