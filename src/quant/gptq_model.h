#pragma once
// A model file with its layers' matrices quantised by GPTQ, AWQ or plain rounding.
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/calibration.h"
#include "quant/gptq.h"
#include "tensor/dtype.h"

namespace hob {

enum class QuantMethod : uint8_t {
  kRtn,
  kGptq,
  kAwq,
  kAwqGptq,  // scaled as by AWQ, rounded as by GPTQ
};

struct QuantiseOptions {
  std::string out;
  QuantMethod method = QuantMethod::kGptq;
  GptqParams gptq;  // its grid is that of all methods
  // F32 values in place of codes: for judging grids that GGUF has no type for.
  bool as_f32 = false;
  // An expert with fewer calibration rows than its matrix has inputs borrows the rest from the sum
  // over all experts of its layer.
  uint64_t hessian_bytes = uint64_t{1} << 30;  // more layers at once = fewer runs of the text
  // Types of some tensors by name, in place of the grid's. A layer's matrix is quantised by the
  // method where the type is a grid (grid_of()); else the values are rounded. Not with as_f32.
  std::map<std::string, DType, std::less<>> types{};
};

struct QuantiseReport {
  int n_matrices = 0;
  int n_passes = 0;               // runs of the calibration text
  int n_rounded = 0;              // tensors whose named type is none that the method gives
  int n_dead = 0;                 // inputs that were always 0
  double damp = 0;                // the largest that was needed
  std::vector<InputKey> blended;  // inputs of experts that borrowed rows
  std::vector<InputKey> unseen;   // of layers whose experts saw no row at all: rounded
};

// progress(what, done, in all) may throw to stop; nothing is left then. `session`: of the same
// file, its steps allowing kCalibrationRows rows of logits.
using CalibratedProgress =
    std::function<void(std::string_view what, uint64_t done, uint64_t total)>;
// Throws Error where the method needs a text and there is none.
void check_calibration(const QuantiseOptions& options, std::span<const int32_t> tokens);
QuantiseReport quantise_model(ModelSession& session, std::span<const int32_t> tokens,
                              const QuantiseOptions& options, ThreadPool& pool,
                              const CalibratedProgress& progress);

}  // namespace hob
