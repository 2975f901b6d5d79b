#pragma once
// What each setting of mixed precision costs in quality, as measured on a calibration text: a
// section of the pack. It is an estimate for other texts.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "experts/importance.h"

namespace hob {

struct KlRow {
  PrecisionMode mode = PrecisionMode::kMixed;
  Thresholds thresholds;
  // Against exact mode, per token, nats.
  double mean_kl = 0, p99_kl = 0;
  double top1_agreement = 1;
  // Shares of the uses and of their gate weight (normalised over a row's experts).
  double low_share = 0, low_mass = 0, skipped_share = 0, skipped_mass = 0;
  // Bytes that a miss reads on average, over those of exact mode: what decides the speed of a model
  // that streams.
  double relative_bytes = 1;
};

struct KlTable {
  uint64_t n_tok = 0;  // scored
  std::vector<KlRow> rows;

  // The setting that reads least of those with mean_kl <= most; of `mode` only, if given. Null:
  // none.
  const KlRow* fastest(double most, std::optional<PrecisionMode> mode) const;
};

inline constexpr std::string_view kKlSection = "kl_table";  // in a pack, docs/pack_format.md
std::string serialise_kl_table(const KlTable& table);
// Throws Error(kDataLoss); `label` names the pack.
KlTable parse_kl_table(std::string_view text, std::string_view label);

const char* precision_name(PrecisionMode mode);  // as --precision

}  // namespace hob
