#pragma once
// Serves many requests from one model: owns the engine thread. Ref: research notes, serving §1.1,
// §1.2; DESIGN decisions 5, 8, 9.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/completion.h"
#include "engine/draft_batching.h"
#include "engine/memory_monitor.h"
#include "engine/speculator.h"
#include "experts/expert_cache.h"
#include "kv/kv_reservation.h"

namespace hob {

class ModelSession;
class Tokenizer;

struct CompletionEngineOptions {
  int max_seqs = 16;                        // choices that run together
  int max_queue = 512;                      // requests that wait
  KvReserve kv_reserve = KvReserve::kNone;  // for comparison only
  MemoryMonitorOptions memory = {};         // shrinks the expert cache when memory runs short
  Speculator* speculator = nullptr;         // borrowed; used by the engine thread only
  DraftBatching draft_batching = DraftBatching::kCoalesce;  // of requests with client_drafts
  double step_floor_s = 0;  // of measurements: steps take as long as a larger model's would
};

// Why a request was not accepted; nothing of it remains.
enum class Refusal : uint8_t {
  kQueueFull,  // try again later
  kTooLong,    // can never fit: context or KV memory
  kInvalid,    // a parameter makes no sense
  kDraining,   // shutting down
};
struct Refused {
  Refusal why = Refusal::kInvalid;
  std::string message;       // one line, with the numbers
  double retry_after_s = 0;  // kQueueFull: an estimate
};

// Of a service whose model is on another machine (edge/).
struct RemoteStats {
  bool is_remote = false;
  uint64_t n_rounds = 0, n_resumes = 0;
  uint64_t n_guessed = 0, n_hits = 0;  // rounds with guesses of their end; those with a right one
  uint64_t n_streamed_tok = 0;         // written by the server alone
  uint64_t n_alone_tok = 0;            // ... by the draft model alone
  uint64_t n_unverified_tok = 0;       // ... and the server did not come back
  uint64_t bytes_up = 0, bytes_down = 0;  // frames, before TLS
  double rtt_s = 0, verify_s = 0;         // of the last link
};

// For /metrics, /api/ps and logs. Counters since the start.
struct ServeStats {
  int n_running = 0, n_waiting = 0;
  int n_kv_blocks = 0, n_kv_blocks_used = 0;  // used: referenced by a running request
  uint64_t n_prompt_tok = 0, n_cached_tok = 0, n_generated_tok = 0;
  uint64_t n_prefix_queries_tok = 0, n_prefix_hits_tok = 0;
  // Summed over steps: token slots that running requests held, and those that had a token. Their
  // difference is waste.
  uint64_t n_kv_slot_steps = 0, n_kv_token_steps = 0;
  uint64_t n_preemptions = 0, n_steps = 0, n_rows = 0;
  uint64_t n_finished[5] = {};  // by FinishReason
  ExpertCacheStats experts;
  uint64_t expert_slots_bytes = 0, expert_budget_bytes = 0;
  uint64_t n_memory_shrinks = 0;  // of that budget, because memory ran short
  int decode_width = 0;           // sequences that decode together; 0 = all (nothing is streamed)
  SpeculationStats speculation;
  RemoteStats remote;
};

class CompletionEngine {
 public:
  // Borrows both; starts the thread.
  CompletionEngine(ModelSession& session, const Tokenizer& tokenizer,
                   const CompletionEngineOptions& options);
  ~CompletionEngine();  // cancels what is running

  // Any thread. nullopt = accepted: the sink will get on_end().
  std::optional<Refused> submit(CompletionRequest request, std::shared_ptr<CompletionSink> sink);
  void cancel(const std::string& id);  // any thread; unknown ids are ignored
  // For requests with client_drafts, any thread; unknown ids are ignored. One step verifies the
  // offer, one delta has what came of it: the accepted nodes' tokens and one that the model chose.
  void offer_draft(const std::string& id, DraftOffer offer);
  // Whether the answer also goes on without offers. At first: no.
  void set_self_decoding(const std::string& id, bool on);
  void drain();               // any thread: accept nothing more, finish what is there
  bool idle() const;          // nothing runs, nothing waits
  ServeStats stats() const;   // any thread
  int max_model_len() const;  // tokens of one sequence, prompt and answer

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob
