#pragma once
// Which tensor becomes which type.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "format/model_file.h"
#include "quant/file_type.h"

namespace hob {

struct QuantPlanOptions {
  const FileType* type = nullptr;
  std::vector<std::pair<std::string, DType>> tensor_types;  // the first expression that is found
  std::optional<DType> output_type, token_embedding_type;
  bool pure = false;            // the base type for all, no mixture
  bool has_importance = false;  // mixtures spend fewer bits where an importance matrix helps
};

struct QuantStep {
  const RawTensor* tensor = nullptr;
  DType to = DType::kF32;
  DType wanted = DType::kF32;  // differs from `to` where the width of the rows forbids it
  bool free = false;           // may change, and no option names its type
  bool keep() const { return tensor->dtype == to; }
  bool fell_back() const { return wanted != to; }
};

// A step for every tensor, in the order of the file. Vectors, norms and routers keep their type.
// `model` must outlive the plan. Throws Error(kInvalidArgument) for an expression that is none or
// that finds no tensor.
std::vector<QuantStep> plan_quantisation(const ModelFile& model, const QuantPlanOptions& options);

// `type`, or what takes its place in rows of `cols` that its blocks do not divide.
DType type_for_width(DType type, int64_t cols);

}  // namespace hob
