#include "pack_kl.h"

#include <fmt/format.h>

#include <memory>

#include "engine/kl_measure.h"
#include "format/pack_file.h"
#include "output.h"

namespace hob::app {
namespace {

void write_table(const std::string& path, const KlTable& table) {
  PackIndex index = PackFile::open(path).index();
  index.set_section(std::string(kKlSection), serialise_kl_table(table));
  replace_pack_sections(path, std::move(index.sections));
}

}  // namespace

void add_kl_table(const CommonOptions& common, const std::string& pack, const std::string& text,
                  int n_tok, const std::function<void()>& check) {
  SessionOptions options = session_options(common);
  options.pack = pack;
  set_kl_options(options);
  ModelPlan plan = plan_model(options);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(plan.file.metadata());
  std::vector<int32_t> tokens =
      tokenizer->encode(text, {.add_special = true, .parse_special = false});
  if (tokens.size() < static_cast<size_t>(kKlWindow) || plan.options.n_ctx < kKlWindow)
    return note(common.quiet,
                fmt::format("hob: note: no KL table (for --max-kl): it needs a text of {} tokens, "
                            "this one has {}",
                            kKlWindow, tokens.size()));
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(std::max(n_tok, kKlWindow))));
  const std::unique_ptr<ModelSession> session = load_session(common, std::move(plan));
  ProgressBar bar(common.quiet);
  const KlTable table = measure_kl(*session, tokens, [&](uint64_t done, uint64_t total) {
    check();
    bar.update("measuring KL", done, total);
  });
  bar.clear();
  write_table(pack, table);
}

std::optional<KlTable> kl_table_of(const PackIndex& index, const std::string& path) {
  const PackSection* section = index.find_section(kKlSection);
  if (!section) return std::nullopt;
  return parse_kl_table(section->bytes, path);
}

void print_kl_table(const KlTable& table) {
  write_out(fmt::format(
      "KL against exact mode over {} tokens of the calibration text, an estimate for others:\n"
      "  {:<10} {:>6} {:>6} {:>9} {:>9} {:>7} {:>14} {:>14} {:>11}\n",
      table.n_tok, "precision", "T1", "T2", "mean KL", "p99 KL", "top-1 %", "low % (mass)",
      "skip % (mass)", "bytes/miss"));
  for (const KlRow& r : table.rows)
    write_out(fmt::format(
        "  {:<10} {:>6.3f} {:>6.3f} {:>9.5f} {:>9.5f} {:>7.2f} {:>6.1f} ({:>5.1f}) {:>6.1f} "
        "({:>5.2f}) {:>11.3f}\n",
        precision_name(r.mode), r.thresholds.t1, r.thresholds.t2, r.mean_kl, r.p99_kl,
        100 * r.top1_agreement, 100 * r.low_share, 100 * r.low_mass, 100 * r.skipped_share,
        100 * r.skipped_mass, r.relative_bytes));
}

nlohmann::ordered_json kl_table_json(const KlTable& table) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const KlRow& r : table.rows)
    rows.push_back({{"precision", precision_name(r.mode)},
                    {"t1", r.thresholds.t1},
                    {"t2", r.thresholds.t2},
                    {"mean_kl", r.mean_kl},
                    {"p99_kl", r.p99_kl},
                    {"top1_agreement", r.top1_agreement},
                    {"low_share", r.low_share},
                    {"low_mass", r.low_mass},
                    {"skipped_share", r.skipped_share},
                    {"skipped_mass", r.skipped_mass},
                    {"relative_bytes", r.relative_bytes}});
  return {{"n_tok", table.n_tok}, {"rows", rows}};
}

}  // namespace hob::app
