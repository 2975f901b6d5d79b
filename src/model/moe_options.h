#pragma once
// How routed experts are served: which precision, and what is read ahead.
#include <cstdint>
#include <optional>

#include "experts/importance.h"

namespace hob {

// Ref: [HOBBIT] §3.2. The thresholds are explained in layers/precision_rule.h.
struct PrecisionOptions {
  PrecisionMode mode = PrecisionMode::kExact;
  // Quantiles of the scores of ranks >= 1 that T1 and T2 stand at; .67 and .97 are what T1 = .6 and
  // T2 = .9 were on Mixtral.
  float q1 = 0.67f, q2 = 0.97f;
  std::optional<float> t1, t2;  // thresholds themselves, instead
  // Every choice in the precision that its own score asks for: no upgrade because of neighbours in
  // the batch or of what is cached. For measuring (needs a strict ExpertCache).
  bool strict = false;
};

// What the uses of experts were served with; mass: gate weight, normalised over the row's experts.
struct PrecisionCounts {
  uint64_t n_uses = 0, n_low = 0, n_skipped = 0;
  double mass = 0, mass_low = 0, mass_skipped = 0;
};

enum class Predictor : uint8_t { kGates, kPairs };

// Ref: [HOBBIT] §3.3; layers/prefetcher.h.
struct PrefetchOptions {
  Predictor predictor = Predictor::kGates;
  int depth =
      2;  // layers; 1 to 3 were best in the paper. Deeper only while all guesses are present
};

}  // namespace hob
