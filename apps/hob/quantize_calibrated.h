#pragma once
// The part of `hob quantize` that runs a text through the model.
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "command.h"
#include "hf/open_model.h"
#include "hf/packed_rows.h"
#include "options.h"
#include "quant/gptq_model.h"

namespace hob::app {

struct CalibratedOptions {
  CommonOptions common;  // filled in by the command
  std::string calibration, hessian_memory = "1G";
  int n_tok = 32768;
  bool force = false;
  std::optional<HfPackMethod> folder;  // what the output is; else a GGUF file
  std::optional<int> group;
  std::optional<GridKind> grid;
  QuantiseOptions quantise;
  // Types by name, of the model that has been opened; null: none.
  std::function<std::map<std::string, DType, std::less<>>(const ModelFile&)> choose_types;

  CalibratedOptions() { quantise.method = QuantMethod::kRtn; }
};

void add_calibrated_options(CLI::App& app, CalibratedOptions& o);
// The grid of --group and --grid, or what is usual for the output.
void set_calibrated_grid(CalibratedOptions& o);
// The grid of a GGUF type. Throws UsageError for types that have none.
void set_calibrated_type(CalibratedOptions& o, const std::string& type);
// Says so when a folder's layers were quantised.
void note_unpacked(bool quiet, const WritableModel& model);
void run_calibrated(CalibratedOptions& o);

}  // namespace hob::app
