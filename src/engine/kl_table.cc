#include "engine/kl_table.h"

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace hob {
namespace {

constexpr std::string_view kHeading =
    "mode,t1,t2,mean_kl,p99_kl,top1,low_share,low_mass,skipped_share,skipped_mass,relative_bytes";
constexpr size_t kMaxRows = 1000;

// Takes the text up to `end` away from the front.
std::string_view take(std::string_view& text, char end) {
  const size_t n = std::min(text.find(end), text.size());
  const std::string_view part = text.substr(0, n);
  text.remove_prefix(std::min(n + 1, text.size()));
  return part;
}

template <class T>
T number(std::string_view text, double least, double most, std::string_view label) {
  T value{};
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last || !(static_cast<double>(value) >= least) ||
      !(static_cast<double>(value) <= most))
    fail(Code::kDataLoss, "[pack] {}: KL table: expected a number in [{:g}, {:g}], got '{}'", label,
         least, most, text.substr(0, 40));
  return value;
}

PrecisionMode mode_of(std::string_view name, std::string_view label) {
  for (const PrecisionMode mode : {PrecisionMode::kMixed, PrecisionMode::kMixedSkip})
    if (name == precision_name(mode)) return mode;
  fail(Code::kDataLoss, "[pack] {}: KL table: expected mixed or mixed+skip, got '{}'", label,
       name.substr(0, 40));
}

KlRow parse_row(std::string_view line, std::string_view label) {
  KlRow r;
  r.mode = mode_of(take(line, ','), label);
  r.thresholds.t1 = number<float>(take(line, ','), 0, 1, label);
  r.thresholds.t2 = number<float>(take(line, ','), static_cast<double>(r.thresholds.t1), 1, label);
  for (double* kl : {&r.mean_kl, &r.p99_kl}) *kl = number<double>(take(line, ','), 0, 1e6, label);
  for (double* share : {&r.top1_agreement, &r.low_share, &r.low_mass, &r.skipped_share,
                        &r.skipped_mass, &r.relative_bytes})
    *share = number<double>(take(line, ','), 0, 1, label);
  if (!line.empty())
    fail(Code::kDataLoss, "[pack] {}: KL table: expected the end of a row, got '{}'", label,
         line.substr(0, 40));
  return r;
}

}  // namespace

const char* precision_name(PrecisionMode mode) {
  switch (mode) {
    case PrecisionMode::kExact:
      return "exact";
    case PrecisionMode::kMixed:
      return "mixed";
    case PrecisionMode::kMixedSkip:
      return "mixed+skip";
  }
  return "";
}

const KlRow* KlTable::fastest(double most, std::optional<PrecisionMode> mode) const {
  const KlRow* best = nullptr;
  for (const KlRow& row : rows) {
    if (row.mean_kl > most || (mode && row.mode != *mode)) continue;
    if (!best || row.relative_bytes < best->relative_bytes) best = &row;
  }
  return best;
}

std::string serialise_kl_table(const KlTable& table) {
  std::string text = fmt::format("n_tok={}\n{}\n", table.n_tok, kHeading);
  for (const KlRow& r : table.rows)
    text += fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", precision_name(r.mode),
                        r.thresholds.t1, r.thresholds.t2, r.mean_kl, r.p99_kl, r.top1_agreement,
                        r.low_share, r.low_mass, r.skipped_share, r.skipped_mass, r.relative_bytes);
  return text;
}

KlTable parse_kl_table(std::string_view text, std::string_view label) {
  KlTable table;
  std::string_view first = take(text, '\n');
  if (take(first, '=') != "n_tok" || take(text, '\n') != kHeading)
    fail(Code::kDataLoss, "[pack] {}: KL table: expected n_tok=N and the names of the columns",
         label);
  table.n_tok = number<uint64_t>(first, 1, 1e12, label);
  while (!text.empty()) {
    if (table.rows.size() == kMaxRows)
      fail(Code::kDataLoss, "[pack] {}: KL table: expected at most {} rows", label, kMaxRows);
    table.rows.push_back(parse_row(take(text, '\n'), label));
  }
  return table;
}

}  // namespace hob
