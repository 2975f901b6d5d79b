#pragma once
// One answer: prefill what the KV cache does not hold yet, then decode until something ends it.
#include <atomic>
#include <functional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/meter.h"
#include "engine/speculator.h"
#include "sampling/sampler.h"

namespace hob {

enum class Finish { kStop, kLength, kContext, kCancelled };
const char* finish_name(Finish finish);

struct GenerateOptions {
  int max_new_tok = -1;  // -1 = until the end token or the context limit
  SamplingParams sampling;
  const std::atomic<bool>* cancel = nullptr;  // checked between steps
  Speculator* speculator = nullptr;           // drafts; the answer is the same
  std::function<bool(int32_t token)> is_end;  // ends the answer; the token itself is not reported
  std::function<void(int32_t token)> on_token;
  std::function<void(int done, int total)> on_prefill;  // tokens of the prompt
};

struct GenerateResult {
  Finish finish = Finish::kStop;
  std::vector<int32_t> tokens;  // without the end token
  Usage prefill, decode;
  SpeculationStats speculation;
};

// `prompt`: the whole text so far; a prefix that the sequence has already computed is kept. Throws
// what ended the sequence when it failed, and Error(kInvalidArgument) when the prompt leaves no
// room for an answer.
GenerateResult generate(Engine& engine, int seq, std::span<const int32_t> prompt,
                        const GenerateOptions& options);

}  // namespace hob
