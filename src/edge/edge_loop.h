#pragma once
// The drafting side's step loop: generations whose target model is on another machine. Requests and
// frames in, drafts and news to their sinks out. No threads and no clock of its own; edge_service.h
// runs it. Ref: DESIGN §2 "Life of a draft".
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "edge/client_session.h"
#include "edge/link.h"
#include "edge/mode_choice.h"
#include "engine/completion_engine.h"
#include "engine/speculator.h"

namespace hob {
class Tokenizer;
}

namespace hob::edge {

// How answers are made while there is a server.
enum class EdgeMode : uint8_t { kMeasured, kTree, kStream };

struct EdgeLoopOptions {
  ClientSessionOptions session;
  pb::TokenizerId tokenizer;  // of this side; without the probes
  std::string model;          // the server's name for it
  int max_depth = 16;         // of a tree; the speculator knows its size
  int max_guesses = 16;       // of a round's end, sent along; 0 = none
  int max_generations = 64;   // together
  int max_waiting = 512;      // choices that wait for that
  // SAMPLE_MATCH instead of GUMBEL_COUPLED: noise that only the server knows, whatever seed a
  // request names. Answers have the same distribution, but no seed gives them again.
  bool private_noise = false;
  EdgeMode mode = EdgeMode::kMeasured;
  bool server_drafts = false;  // Capabilities say so
  // Without a server the drafting model goes on alone (provisional.h); after the patience of
  // `session` its words are the answer. Else nothing is said meanwhile, and then the answer fails.
  bool writes_alone = false;
  int64_t alone_after_us = 1'000'000;
  std::function<std::string(size_t n_bytes)> random_bytes;
};

struct EdgeStats {
  int n_running = 0, n_waiting = 0;
  uint64_t n_prompt_tok = 0, n_generated_tok = 0;
  uint64_t n_finished[5] = {};    // by FinishReason
  uint64_t n_streamed_tok = 0;    // written by the server alone
  uint64_t n_alone_tok = 0;       // by the draft model alone
  uint64_t n_unverified_tok = 0;  // of these, in answers that ended without the server
  ClientStats links;              // sums of counters; times of the last generation that ended
};

// One thread.
class EdgeLoop {
 public:
  // Borrows all. `wake`: something has come from a link; any thread.
  EdgeLoop(Connector& connector, Speculator& speculator, const Tokenizer& tokenizer,
           const EdgeLoopOptions& options, std::function<void()> wake);
  ~EdgeLoop();  // cancels what runs

  // A request that passed check_request() and wants no logprobs. Its sink will get on_end().
  void add(CompletionRequest request, std::shared_ptr<CompletionSink> sink, int64_t now_us);
  void cancel(const std::string& id);
  void end_all();
  bool idle() const { return generations_.empty() && waiting_.empty(); }
  void step(int64_t now_us);
  // When the next step is due though nothing comes; INT64_MAX = never.
  int64_t next_step_us() const;
  EdgeStats stats() const;

  // Just before each sink's on_end(), by when stats() count that request: who has an answer finds
  // it in the measurements.
  std::function<void()> on_ended;

 private:
  bool streams();
  struct Group;
  struct Generation;
  struct Inbox;
  class Events;

  struct Waiting {
    CompletionRequest request;
    std::shared_ptr<CompletionSink> sink;
    int64_t since_us = 0;
  };

  void start_waiting(int64_t now_us);
  void expire_waiting();
  void start(Waiting waiting, int64_t now_us);
  void end_waiting(Waiting waiting, FinishReason reason);
  void take_events(int64_t now_us);
  void connect(Generation& g, int64_t now_us);
  void choose_mode();
  void draft(int64_t now_us);
  void send_provisional(Generation& g, int64_t now_us);
  void look_ahead();
  bool is_alone(const Generation& g, int64_t now_us) const;
  void write_alone(int64_t now_us);
  void say_alone(Generation& g, int32_t token);
  void open_draft_state(Generation& g);
  bool keep_alone(Generation& g);
  CompletionDelta take_news(Generation& g);
  void measure(Generation& g, size_t n_tok, int64_t now_us);
  void send_guesses(Generation& g);
  void learn(Generation& g);
  void flush(Generation& g);
  void take_tokens(Generation& g, int64_t now_us);
  void take_end(Generation& g);
  void finish(Generation& g, FinishReason reason, std::exception_ptr error);
  void end_group(Group& group);
  void remove_ended();

  Connector& connector_;
  Speculator& speculator_;
  const Tokenizer& tokenizer_;
  const EdgeLoopOptions options_;
  const std::shared_ptr<Inbox> inbox_;
  std::deque<Waiting> waiting_;
  std::vector<std::unique_ptr<Generation>> generations_;
  std::vector<DraftJob> jobs_;
  std::vector<Generation*> drafted_;
  bool looks_ahead_ = false, writes_ = false;
  ModeChoice mode_;
  int64_t away_since_us_ = 0;  // no generation has a server since then; 0 = one has
  uint64_t n_links_ = 0;
  EdgeStats stats_;
};

}  // namespace hob::edge
