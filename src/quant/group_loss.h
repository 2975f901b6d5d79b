#pragma once
// What it costs to round a group of tensors and nothing else: KL of the model's output on a text.
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/model_session.h"
#include "quant/tensor_groups.h"

namespace hob {

// The text in windows of this many tokens; those before kLossFirst are context only.
inline constexpr int kLossWindow = 256, kLossFirst = 64;

struct GroupLossOptions {
  SessionOptions session;  // set_loss_options() has been called
  std::span<const int32_t> tokens;
  int bos = -1;         // token that every window begins with; -1: none
  std::string scratch;  // file for the logits of the model as it is; gone afterwards
  std::string journal;  // file that keeps what has been measured, for the next call; stays
};

void set_loss_options(SessionOptions& options);

// For every group the mean of KL(as it is || with round_plain() values in this group), in nats.
// The model is loaded and the text read once per group and once more; groups that the journal
// knows, from a call with the same model, text and groups, are not measured again. At least one
// window of tokens; what is left after the last whole one is not used. progress(runs done, in all)
// is called before every window and may throw to stop; what has been measured stays in the journal.
std::vector<double> measure_group_losses(
    const ModelFile& model, std::span<const TensorGroup> groups, const GroupLossOptions& options,
    const std::function<void(uint64_t done, uint64_t total)>& progress);

}  // namespace hob
