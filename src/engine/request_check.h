#pragma once
// Whether a request can be served at all. Pure; any thread.
#include <optional>

#include "engine/completion_engine.h"

namespace hob {

struct RequestLimits {
  int n_vocab = 0;
  int max_model_len = 0;  // tokens of one sequence
  int n_ctx = 0;          // --ctx; larger than max_model_len where the KV pool holds less
  int max_seqs = 0;
};

// What is wrong with it: kInvalid naming the parameter, or kTooLong with the numbers.
std::optional<Refused> check_request(const CompletionRequest& request, const RequestLimits& limits);

}  // namespace hob
