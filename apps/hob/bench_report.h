#pragma once
// What `hob bench` prints: one row (or JSON object) per test, and how near each stage of it came to
// what the machine can do.
#include <vector>

#include "engine/meter.h"
#include "engine/model_session.h"
#include "engine/roofline.h"

namespace hob::app {

struct BenchRun {
  Usage usage;
  StageTimes times;
  WorkCounts counts;
  PrecisionCounts precision;
  std::pair<float, float> thresholds;
  double prefetch_gain = 1;  // time per step without / with, as the governor measured
};

struct BenchTest {
  const char* name = "";
  int n_tok = 0, batch = 0, depth = 0;
  // Choosing the tokens that the test's logits ask for, measured apart: no part of the runs.
  double sampling_seconds = 0;
  std::vector<BenchRun> runs;
};

class BenchReport {
 public:
  BenchReport(ModelSession& session, const MachinePeaks& peaks, bool json)
      : session_(session), peaks_(peaks), json_(json) {}
  void begin() const;
  void add(const BenchTest& test) const;

 private:
  Roofline roofline_of(const BenchRun& run) const;
  double bound_tok_s(const BenchRun& run) const;
  double overlap_bound_tok_s(const BenchRun& run) const;
  void print_stages(const BenchTest& test, const BenchRun& run) const;

  ModelSession& session_;
  MachinePeaks peaks_;
  bool json_;
};

}  // namespace hob::app
