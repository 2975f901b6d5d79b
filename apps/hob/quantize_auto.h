#pragma once
// `hob quantize --target-size`: which types make a file of this size with the least loss.
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "interrupt.h"
#include "options.h"
#include "quant/auto_types.h"

namespace hob::app {

struct AutoOptions {
  std::string size, candidates, losses;
  std::optional<double> bpw;
  int n_measurements = 64;
  // Filled in by the command: the model's options, the text and the file to write.
  CommonOptions common;
  std::string calibration, out;
  int n_tok = 2048;

  bool wanted() const { return !size.empty() || bpw.has_value(); }
};

void add_auto_options(CLI::App& app, AutoOptions& o);
// Throws UsageError for options that do not go together.
void check_auto_options(const AutoOptions& o, bool has_type);

// Where measured losses are kept until the file is complete, or for good where the user says so.
std::string losses_file(const AutoOptions& o);
void forget_losses(const AutoOptions& o);

AutoTypes choose_auto_types(const AutoOptions& o, const ModelFile& model,
                            std::vector<QuantStep> steps, const ImportanceMatrix* importance,
                            ThreadPool& pool, const Interrupt& interrupt);

}  // namespace hob::app
