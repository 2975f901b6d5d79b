#include "quant/auto_types.h"

#include <algorithm>
#include <map>

#include "base/align.h"
#include "base/error.h"
#include "base/size_parse.h"
#include "format/gguf_parse.h"
#include "quant/allocation.h"
#include "quant/quantise_gguf.h"
#include "quant/rounding_error.h"

namespace hob {
namespace {

constexpr DType kCandidates[] = {DType::kQ2_K,   DType::kQ3_K, DType::kIQ4_XS, DType::kQ4_K,
                                 DType::kIQ4_NL, DType::kQ4_0, DType::kMXFP4,  DType::kQ4_1,
                                 DType::kQ5_K,   DType::kQ5_0, DType::kQ5_1,   DType::kQ6_K,
                                 DType::kQ8_0,   DType::kBF16, DType::kF16};

uint64_t bytes_in_file(const RawTensor& tensor, DType type) {
  const uint64_t row = row_bytes(type, tensor.shape.cols());
  return round_up(static_cast<uint64_t>(tensor.shape.rows()) * row, kDefaultAlignment);
}

// Smaller types that fit the rows, and the tensor's own.
std::vector<DType> types_for(const RawTensor& tensor, std::span<const DType> candidates) {
  std::vector<DType> types;
  for (const DType type : candidates) {
    if (type == tensor.dtype || tensor.shape.cols() % dtype_info(type).block != 0) continue;
    if (bytes_in_file(tensor, type) < bytes_in_file(tensor, tensor.dtype)) types.push_back(type);
  }
  types.push_back(tensor.dtype);
  return types;
}

// The named type of most weights: "general.file_type" has room for one.
const FileType& main_type(const std::vector<QuantStep>& steps) {
  std::map<DType, int64_t> weights;
  for (const QuantStep& step : steps) weights[step.to] += step.tensor->shape.n_elements();
  const FileType* best = &find_file_type("F32");
  int64_t most = -1;
  for (const FileType& type : file_type_table()) {
    const auto found = weights.find(type.base);
    if (found == weights.end() || found->second < most) continue;
    // Of a type's sizes the medium one: it is what the bare name means.
    if (found->second == most && type.size != 'M') continue;
    most = found->second;
    best = &type;
  }
  return *best;
}

class Chooser {
 public:
  Chooser(const ModelFile& model, std::vector<QuantStep> steps, const ImportanceMatrix* importance,
          const AutoTypeOptions& options, ThreadPool& pool, const AutoTypeProgress& progress)
      : model_(model),
        steps_(std::move(steps)),
        options_(options),
        progress_(progress),
        errors_(model, importance, pool) {
    for (size_t i = 0; i < steps_.size(); i++)
      if (steps_[i].free) free_.push_back(i);
  }

  AutoTypes run() {
    const uint64_t budget = budget_for_free();
    find_errors();
    if (options_.measured) measure();
    const Allocation chosen = allocate_types(choices_, budget);
    AutoTypes out;
    out.losses.resize(steps_.size());
    for (size_t f = 0; f < free_.size(); f++) {
      QuantStep& step = steps_[free_[f]];
      const size_t choice = chosen.chosen[f];
      step.to = step.wanted = choices_[f][choice].type;
      out.losses[free_[f]] = {relative_[f][choice], choices_[f][choice].loss};
    }
    out.type = &main_type(steps_);
    out.n_bytes = quantised_bytes(model_, *out.type, steps_);
    HOB_CHECK(out.n_bytes <= options_.target_bytes);
    out.loss = chosen.loss;
    out.measured = options_.measured.has_value();
    out.steps = std::move(steps_);
    return out;
  }

 private:
  const RawTensor& tensor(size_t f) const { return *steps_[free_[f]].tensor; }

  // What the target leaves for the free tensors. Before anything is measured, because it can fail.
  uint64_t budget_for_free() {
    if (free_.empty())
      fail(Code::kInvalidArgument,
           "[quantize] target: expected matrices whose type is not given, there are none");
    uint64_t own = 0, others = quantised_bytes(model_, find_file_type("F32"), steps_);
    for (size_t f = 0; f < free_.size(); f++) {
      others -= bytes_in_file(tensor(f), steps_[free_[f]].to);
      own += bytes_in_file(tensor(f), tensor(f).dtype);
      std::vector<TypeChoice> choices;
      for (const DType type : types_for(tensor(f), options_.candidates))
        choices.push_back({type, bytes_in_file(tensor(f), type), 0});
      choices_.push_back(std::move(choices));
    }
    const uint64_t least = others + smallest_bytes(choices_), most = others + own;
    if (options_.target_bytes < least)
      fail(Code::kInvalidArgument,
           "[quantize] target: expected at least {} ({}), the size with all matrices in their "
           "smallest types; got {}",
           least, format_size(least), options_.target_bytes);
    if (options_.target_bytes >= most)
      fail(Code::kInvalidArgument,
           "[quantize] target: expected less than {} ({}), the size with all matrices as they are; "
           "got {}",
           most, format_size(most), options_.target_bytes);
    return options_.target_bytes - others;
  }

  void find_errors() {
    uint64_t done = 0;
    for (size_t f = 0; f < free_.size(); f++) {
      progress_("comparing types", done++, free_.size());
      std::vector<DType> types;
      for (const TypeChoice& choice : choices_[f]) types.push_back(choice.type);
      relative_.push_back(errors_.of(tensor(f), types));
      for (size_t i = 0; i < types.size(); i++) choices_[f][i].loss = relative_[f][i];
    }
  }

  // From errors to nats, group by group. A matrix that can be rounded to nothing keeps its error
  // as it is: it has no choice that would need a loss.
  void measure() {
    std::vector<const RawTensor*> tensors;
    std::map<const RawTensor*, size_t> index;
    for (size_t f = 0; f < free_.size(); f++) {
      index[&tensor(f)] = f;
      if (tensor(f).shape.cols() % dtype_info(DType::kQ4_0).block == 0)
        tensors.push_back(&tensor(f));
    }
    const std::vector<TensorGroup> groups = group_tensors(tensors, options_.n_most_groups);
    const std::vector<double> losses = measure_group_losses(
        model_, groups, *options_.measured,
        [&](uint64_t done, uint64_t total) { progress_("measuring losses", done, total); });
    for (size_t g = 0; g < groups.size(); g++) {
      double error = 0;
      for (const RawTensor* t : groups[g].tensors) error += errors_.of_plain(*t);
      for (const RawTensor* t : groups[g].tensors)
        for (TypeChoice& choice : choices_[index.at(t)])
          choice.loss = error > 0 ? choice.loss * losses[g] / error : 0;
    }
  }

  const ModelFile& model_;
  std::vector<QuantStep> steps_;
  const AutoTypeOptions& options_;
  const AutoTypeProgress& progress_;
  RoundingErrors errors_;
  std::vector<size_t> free_;                      // steps
  std::vector<std::vector<TypeChoice>> choices_;  // of each of them
  std::vector<std::vector<double>> relative_;     // errors of the choices
};

}  // namespace

std::span<const DType> default_candidates() { return kCandidates; }

AutoTypes choose_types(const ModelFile& model, std::vector<QuantStep> steps,
                       const ImportanceMatrix* importance, const AutoTypeOptions& options,
                       ThreadPool& pool, const AutoTypeProgress& progress) {
  return Chooser(model, std::move(steps), importance, options, pool, progress).run();
}

}  // namespace hob
