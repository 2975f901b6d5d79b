#pragma once
// The part of `hob quantize` that runs a text through the model.
#include <string>

#include "command.h"
#include "options.h"
#include "quant/gptq_model.h"

namespace hob::app {

struct CalibratedOptions {
  CommonOptions common;  // filled in by the command
  std::string calibration, hessian_memory = "1G";
  int n_tok = 32768;
  bool force = false;
  QuantiseOptions quantise;

  CalibratedOptions() { quantise.method = QuantMethod::kRtn; }
};

void add_calibrated_options(CLI::App& app, CalibratedOptions& o);
// The grid of a GGUF type. Throws UsageError for types that have none.
void set_calibrated_type(CalibratedOptions& o, const std::string& type);
void run_calibrated(CalibratedOptions& o);

}  // namespace hob::app
