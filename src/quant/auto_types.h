#pragma once
// Types for a file of a given size: every matrix's loss is taken for every type, and the types are
// chosen that lose least together.
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "quant/group_loss.h"
#include "quant/importance_matrix.h"
#include "quant/quant_plan.h"

namespace hob {

// What is tried unless the user names others: every type of GGUF files that hob writes.
std::span<const DType> default_candidates();

struct AutoTypeOptions {
  uint64_t target_bytes = 0;                 // of the whole file
  std::vector<DType> candidates;             // beside each tensor's own type
  int n_most_groups = 64;                    // measured together (group_tensors)
  std::optional<GroupLossOptions> measured;  // nullopt: no text, the proxy below
};

// What the choice rests on.
struct TensorLoss {
  double error = 0;  // relative squared error with the chosen type (RoundingErrors)
  double loss = 0;   // its share of the total
};

struct AutoTypes {
  std::vector<QuantStep> steps;    // with types
  std::vector<TensorLoss> losses;  // of each step; zeros where nothing was to be chosen
  const FileType* type = nullptr;  // the row of file_type_table() that names most of the weights
  uint64_t n_bytes = 0;            // of the file
  // Nats of KL per token if the tensors' losses add up; without a text the sum of the relative
  // squared errors, good for comparing and for nothing else.
  double loss = 0;
  bool measured = false;
};

// `steps`: plan_quantisation()'s; the free ones get types. The loss of a tensor in a type is
//   with a text      KL of its group with round_plain() values x error(type) / the group's errors
//                    with round_plain() values: KL grows with the squared error
//   without          error(type): every matrix counts the same
// Throws Error(kInvalidArgument) when the target is below the smallest file or when the file would
// fit without any change. progress(what, done, in all) may throw to stop.
using AutoTypeProgress = std::function<void(std::string_view what, uint64_t done, uint64_t total)>;
AutoTypes choose_types(const ModelFile& model, std::vector<QuantStep> steps,
                       const ImportanceMatrix* importance, const AutoTypeOptions& options,
                       ThreadPool& pool, const AutoTypeProgress& progress);

}  // namespace hob
