#pragma once
// What a client asks of a running model and what it gets back: the border between the engine thread
// and everything that talks to the outside. No JSON, no sockets, no pointers into the engine.
#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/draft_tree.h"
#include "sampling/logprobs.h"  // TokenLogprob
#include "sampling/sampler.h"

namespace hob {

struct CompletionRequest {
  std::string id;                       // unique among the requests that are running
  std::vector<int32_t> prompt;          // at least one token
  SamplingParams sampling;              // choice i of n samples with Philox counter `choice` = i
  uint32_t first_choice = 0;            // ... and first_choice + i, if this request is some of them
  int n = 1;                            // choices; they share the prompt's KV blocks
  int max_tok = -1;                     // -1 = until the context is full
  int min_tok = 0;                      // before that no stop token, no stop string
  std::vector<std::string> stop;        // strings; the text ends before the first that appears
  bool include_stop = false;            // ... or behind it
  std::vector<int32_t> stop_token_ids;  // besides the model's own end tokens
  bool ignore_eos = false;
  std::vector<std::pair<int32_t, float>> logit_bias;  // added before everything else
  // -1 = none; k = the chosen token's logprob and the k best. Of the raw distribution (before
  // penalties, temperature and filters), as vLLM's.
  int n_logprobs = -1;
  int n_prompt_logprobs = -1;
  bool skip_special_tokens = true;  // control tokens do not become text
  int priority = 0;                 // lower first
  std::optional<std::chrono::steady_clock::time_point> deadline;  // ends with kDeadline
  std::string tenant;      // fairness: whoever shares an API key
  std::string cache_salt;  // prefix cache entries are shared only with the same salt
  // Somebody else drafts: behind its first token the answer goes on only as far as
  // CompletionEngine::offer_draft() takes it. Wants n = 1.
  bool client_drafts = false;
  // A service whose model is away may say what a smaller one would (CompletionDelta::provisional).
  bool wants_provisional = false;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kDeadline, kError };

// News of one choice.
struct CompletionDelta {
  int choice = 0;
  std::vector<int32_t> tokens;
  std::string text;  // whole UTF-8 characters; held back while it may become a stop string
  std::vector<TokenLogprob> logprobs;  // one per token, if asked for
  std::optional<FinishReason> finish;  // set once per choice, in its last delta
  // Of the step that brought the tokens; 0 = of none. of_draft: it verified an offer.
  double step_s = 0;
  int n_step_rows = 0;
  bool of_draft = false;
  int n_draft_nodes = 0;  // ... of which so many had room
  // Of a service whose model is away (edge/): the text is a smaller model's, and may change.
  bool provisional = false;
  // `text` is all that the choice says by now: what was provisional has changed.
  bool rewrites = false;
};

struct CompletionUsage {
  int n_prompt_tok = 0;
  int n_cached_tok = 0;  // of the prompt, found in the prefix cache
  int n_completion_tok = 0;
  int n_preemptions = 0;
  int n_unverified_tok = 0;  // of the completion: the model did not come back to verify them
  double queue_s = 0, prefill_s = 0, decode_s = 0;
};

// For a request with client_drafts: what to verify behind its text when that has base_len tokens,
// prompt and answer; an offer for another length is dropped. A tree that finds no room is cut from
// its end; an empty one is good for one token.
struct DraftOffer {
  int base_len = 0;
  bool sent_ahead =
      false;  // it was there before its turn: says nothing of how long the client thinks
  DraftTree tree;
};

// All calls come from the engine thread and must not block or throw: hand over and return. on_end()
// is the last call, exactly once for every request that was accepted.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void on_prefill(int n_done, int n_total) = 0;  // at most once per step
  // Entry 0 has no logprob (nothing comes before the first token).
  virtual void on_prompt_logprobs(std::vector<TokenLogprob> logprobs) = 0;
  virtual void on_delta(CompletionDelta delta) = 0;
  // `error`: what ended the request with kError, an hob::Error.
  virtual void on_end(const CompletionUsage& usage, std::exception_ptr error) = 0;
};

}  // namespace hob
