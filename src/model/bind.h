#pragma once
// Tensor table + rules -> which tensor plays which role. Strict: everything must fit, and nothing
// may be left over.
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "format/model_file.h"
#include "model/decoder.h"
#include "model/spec.h"
#include "model/spec_reader.h"
#include "model/tensor_rules.h"

namespace hob {

struct BoundTensor {
  Role role;
  TensorKind kind;
  int layer;
  const RawTensor* raw;  // in the ModelFile
  // As a matrix: one expert's for kExperts; one row for kVector.
  int rows, cols;
};

ModelSpec read_spec(const Metadata& metadata, std::span<const RawTensor> tensors,
                    Compat compat = Compat::kPublished);

// In the order of the rules.
std::vector<BoundTensor> bind_tensors(const ModelSpec& spec, std::span<const RawTensor> tensors);

// Where each resident tensor goes in the one buffer of dense weights.
struct DensePlan {
  std::vector<uint64_t> offsets;  // parallel to the bound tensors; experts have none
  uint64_t n_bytes = 0;
};
DensePlan plan_dense(std::span<const BoundTensor> tensors, const Backend& backend);

}  // namespace hob
