#pragma once
// The edge's side of one generation, as a pure state machine: frames of the server, the link's ups
// and downs and drafts go in; frames and committed tokens come out. No threads, sockets or clocks;
// the simulator and the fuzzer drive the same code. It holds all that is needed to go on with
// another server: prompt, sampling and every committed token. Ref: docs/specedge.md.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "edge/committed_log.h"
#include "edge/protocol.h"

namespace hob::edge {

struct ClientSessionOptions {
  ProtocolLimits limits;
  uint64_t seed = 0;                   // of the jitter
  int64_t patience_us = 300'000'000;   // without a working link; then the generation fails
  int64_t first_backoff_us = 200'000;  // doubled from try to try
  int64_t most_backoff_us = 5'000'000;
  int64_t least_silence_us = 250'000;   // after which the server is asked whether it lives
  int64_t most_silence_us = 3'000'000;  // without an answer to that the link is given up
};

// What became of a draft.
struct DraftOutcome {
  DraftTree tree;
  std::vector<int32_t> path;  // accepted nodes
  int64_t took_us = 0;        // from sending it to its verdict; 0 = it had been sent ahead
};

struct ClientStats {
  int64_t srtt_us = 0, rttvar_us = 0;   // of the link; 0 = unknown
  int64_t verify_us = 0, queue_us = 0;  // of a round at the server, smoothed
  uint64_t n_rounds = 0, n_nodes = 0, n_accepted = 0;
  uint64_t n_guessed = 0, n_hits = 0;  // rounds with guesses sent along; those that one fitted
  uint64_t n_resumes = 0;
  uint64_t bytes_up = 0, bytes_down = 0;
};

class ClientSession {
 public:
  enum class Status : uint8_t {
    kOffline,    // no stream
    kOpening,    // Open or Resume is on its way
    kWaiting,    // for a verdict
    kReady,      // for a draft
    kStreaming,  // the server decodes by itself, or will when it hears that it should
    kEnded,
  };
  struct End {
    std::string reason;  // Finished's; "" = it failed
    FaultCode code = FaultCode::kInternal;
    std::string detail;
  };

  // `open`: without request_id. Starts offline.
  ClientSession(pb::Open open, const std::string& request_id, const ClientSessionOptions& options);

  // The link. wants_link(): somebody should connect (again) now.
  bool wants_link(int64_t now_us) const;
  void on_connected(int64_t now_us);
  void on_disconnected(int64_t now_us);
  void on_frame(const pb::ServerFrame& frame, int64_t now_us);
  // Time-outs. Call it at next_tick_us(), or more often. drops_link(): the link is to be closed;
  // call on_disconnected() then.
  void tick(int64_t now_us);
  int64_t next_tick_us() const;
  bool drops_link() const { return drops_link_; }

  // When kReady and not throttled: the tree behind the last committed token.
  bool may_draft(int64_t now_us) const {
    return status_ == Status::kReady && now_us >= throttled_until_us_;
  }
  void send_tree(DraftTree tree, int64_t draft_us, int64_t now_us);
  // While a round is in flight, at most once per round; the likeliest first, for those that the
  // limits leave no room for stay behind.
  bool may_guess() const {
    return status_ == Status::kWaiting && guesses_.empty() && open_.mode() != pb::SERVER_STREAM;
  }
  void send_guesses(std::vector<OutcomeGuess> guesses);
  // TREE or SERVER_STREAM, from the next round on. A server may refuse to decode by itself.
  void set_mode(pb::Mode mode);
  pb::Mode mode() const { return open_.mode(); }
  bool stream_refused() const { return stream_refused_; }
  // What the server gives room for, and what it says is worth sending.
  int max_nodes() const { return std::min(credit_nodes_, advised_nodes_); }
  int max_branches() const { return credit_branches_; }
  void cancel(const std::string& reason);

  std::vector<pb::ClientFrame> take_frames();
  // Of the last verdict, once.
  std::optional<DraftOutcome> take_outcome() { return std::exchange(outcome_, std::nullopt); }
  // Committed since the last call.
  std::vector<int32_t> take_tokens();

  Status status() const { return status_; }
  const CommittedLog& log() const { return log_; }
  const DraftTree& in_flight() const { return tree_; }
  // When the server will have verified it, as far as one knows: guesses must leave before.
  int64_t guesses_due_us() const { return began_us_ + stats_.queue_us + stats_.verify_us; }
  const std::optional<End>& end() const { return end_; }
  // Since when nothing of the server has come over a working link; 0 = one works.
  int64_t away_since_us() const { return offline_us_; }
  // Before the first link: the patience counts from then.
  void assume_away_since(int64_t us) { offline_us_ = us; }
  const ClientStats& stats() const { return stats_; }

 private:
  pb::ClientFrame& add_frame();
  void add_resume();
  void on_opened(const pb::Opened& opened);
  void on_resumed(const pb::Resumed& resumed);
  void on_verdict(const pb::Verdict& verdict, int64_t now_us);
  void on_rebase(const pb::Verdict& verdict);
  void on_outcome(const pb::Verdict& verdict, int64_t now_us);
  void on_fault(const pb::Fault& fault, int64_t now_us);
  void commit(std::span<const int32_t> ids, uint32_t committed_len, uint32_t hash);
  void on_mode(const pb::ModeChanged& changed);
  void on_credit(const pb::Credit& credit);
  void go_on();
  void measure(const pb::Verdict& verdict, int64_t now_us);
  void add_rtt(int64_t rtt_us);
  void end_with(FaultCode code, const std::string& detail);
  void retry_at(int64_t now_us, int64_t least_us);
  int64_t silence_us() const;

  const ClientSessionOptions options_;
  pb::Open open_;
  Status status_ = Status::kOffline;
  uint32_t epoch_ = 0;
  std::string session_id_, resume_token_;
  CommittedLog log_;
  int n_taken_ = 0;  // of the log
  uint32_t round_ = 0;
  DraftTree tree_;  // of the round in flight
  std::vector<OutcomeGuess> guesses_;
  int64_t sent_us_ = 0;     // the draft in flight; 0 = it had been sent ahead
  int64_t began_us_ = 0;    // had it been sent then, it would have begun when it did
  int64_t heard_us_ = 0;    // the last frame
  int64_t asked_us_ = 0;    // a heartbeat without an answer; 0 = none
  int64_t offline_us_ = 0;  // since then no frame came
  int64_t retry_us_ = 0;
  int64_t throttled_until_us_ = 0;
  int n_tries_ = 0;
  int n_contradictions_ = 0;
  pb::Mode mode_ = pb::TREE;  // as far as the server has been told
  int credit_nodes_, credit_branches_, advised_nodes_;
  bool stream_refused_ = false;
  bool drops_link_ = false;
  std::vector<pb::ClientFrame> frames_;
  std::optional<DraftOutcome> outcome_;
  std::optional<End> end_;
  ClientStats stats_;
};

}  // namespace hob::edge
