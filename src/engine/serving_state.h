#pragma once
// The loop's records; private to serving_loop.cc and serving_step.cc.
#include <deque>
#include <memory>
#include <optional>

#include "engine/serving_loop.h"

namespace hob {

struct ServingLoop::Request {
  uint64_t number = 0;
  CompletionRequest in;
  std::shared_ptr<CompletionSink> sink;
  uint64_t scope = 0;
  int tenant = 0;
  int max_tok = 0;  // of each choice
  std::deque<ChoiceOutput> choices;
  std::vector<int32_t> banned;  // tokens that may not come before min_tok
  bool prompt_done = false;     // each of its choices has a sequence of its own now
  bool started = false;
  std::optional<KvReservation::Piece> piece;  // kv_reserve only: from its first row to its end
  std::vector<TokenLogprob> prompt_logprobs;
  CompletionUsage usage;
  TimePoint accepted, admitted, answered;  // answered: the prompt was done
};

// What is scheduled: one choice, or before the prompt is done all of them.
struct ServingLoop::Sequence {
  Request* request = nullptr;
  int choice = 0;
  uint64_t arrival = 0;
  std::vector<int32_t> tokens;  // prompt and answer so far
  int seq = -1;                 // the engine's; -1 = waiting
  bool preempted = false;
  int n_cached_tok = 0;  // waiting: what the prefix cache had when it was last asked
  int64_t last_step = 0;
  bool in_turn = false;
  TimePoint waiting_since;
  struct Sampled {
    int choice;
    int32_t token;
    std::optional<TokenLogprob> logprob;
  };
  std::vector<Sampled> sampled;  // by this step; with a draft: the way through it
  std::unique_ptr<DraftState> draft_state;
  DraftTree draft;               // for this step, as far as it got rows
  std::optional<TreeWalk> walk;  // through it
  std::vector<int32_t> text;     // `tokens` and what the walk has found
  // client_drafts only: the tree to verify next, until a step has.
  std::optional<DraftTree> offered;
  bool self_decoding = false;
  TimePoint offered_at;
  ThinkTime think;           // of the client
  std::exception_ptr error;  // of this step

  bool carries_all() const { return !request->prompt_done; }
};

}  // namespace hob
