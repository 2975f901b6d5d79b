#pragma once
// The server's side of one generation, as a pure state machine: frames of the edge and news of the
// engine go in, frames and orders come out. No threads, sockets or clocks: EdgeServer, the
// simulator and the fuzzer drive the same code. Ref: docs/specedge.md, research notes, specedge
// §4.2 to §4.5.
//
// Rounds are numbered: 0 is the prompt, whose verdict is the first token; round r + 1 verifies the
// draft of that number. The same round again gets the same verdict again; nothing is applied twice.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edge/committed_log.h"
#include "edge/protocol.h"
#include "engine/completion_engine.h"

namespace hob::edge {

// What a session wants done, in this order.
struct ServerActions {
  std::optional<CompletionRequest> submit;
  std::optional<bool> self_decoding;
  std::optional<DraftOffer> offer;
  std::vector<pb::ServerFrame> frames;
  bool cancel = false;  // what runs in the engine
  bool close = false;   // the stream, behind the frames

  void fault(uint32_t epoch, FaultCode code, const std::string& detail, bool retryable,
             double retry_after_s = 0);
};

// Rows that a tenant may have verified: a token bucket. A session asks before each round.
class RowQuota {
 public:
  virtual ~RowQuota() = default;
  // Takes up to n rows; how many. None: `retry_after_us` says when there will be one.
  virtual int take(int n, int64_t now_us, int64_t& retry_after_us) = 0;
};

struct ServerSessionOptions {
  ProtocolLimits limits;
  std::string session_id;
  RowQuota* quota = nullptr;  // borrowed; null = no limit
  uint64_t private_seed = 0;  // of SAMPLE_MATCH
  bool may_stream = true;     // false: refuses SERVER_STREAM, which verifies nothing in parallel
};

class ServerSession {
 public:
  explicit ServerSession(const ServerSessionOptions& options) : options_(options) {}

  // The first frame of a stream is one of these. `resume_token`: the new one.
  ServerActions open(const pb::Open& open, uint32_t epoch, const std::string& resume_token);
  // For a session that this server does not have: from all that the edge has.
  ServerActions reopen(const pb::Resume& resume, uint32_t epoch, const std::string& resume_token);
  // For one that it has. The caller has checked the token.
  ServerActions resume(const pb::Resume& resume, uint32_t epoch, const std::string& resume_token);
  // All further ones. What breaks the protocol ends the session with a fault.
  ServerActions on_frame(const pb::ClientFrame& frame, int64_t now_us);
  // The stream has gone. The session may be resumed: nothing is decoded meanwhile.
  ServerActions detach();
  // The server goes away; the edge may go on elsewhere.
  ServerActions drain();

  ServerActions on_refused(const Refused& refused);
  ServerActions on_delta(const CompletionDelta& delta, int64_t now_us);
  ServerActions on_end(const std::exception_ptr& error);

  uint32_t epoch() const { return epoch_; }
  bool ended() const { return phase_ == Phase::kEnded; }
  const CommittedLog& log() const { return log_; }

 private:
  enum class Phase : uint8_t {
    kNew,        // nothing yet
    kPrefill,    // round 0
    kReady,      // waits for a draft
    kVerifying,  // a round
    kStreaming,  // the server decodes by itself
    kEnded,
  };

  ServerActions start(const pb::Open& open, std::vector<int32_t> tail, ServerActions actions);
  void on_draft(const pb::Draft& draft, int64_t now_us, ServerActions& actions);
  void on_tree(const pb::Draft& draft, int64_t now_us, ServerActions& actions);
  void on_branches(const pb::Draft& draft);
  bool check_base(const pb::Draft& draft, ServerActions& actions);
  bool begin_round(DraftTree tree, int64_t now_us, ServerActions& actions);
  void set_mode(pb::Mode mode, ServerActions& actions);
  void adopt_mode(pb::Mode mode);
  Phase idle_phase() const { return streams_ ? Phase::kStreaming : Phase::kReady; }
  void refuse_streaming(ServerActions& actions) const;
  void advise(int n_verified, pb::Verdict& verdict);
  void try_branch(const pb::Verdict& verdict, int64_t now_us, ServerActions& actions);
  pb::Verdict verdict_of(const CompletionDelta& delta, int64_t now_us);
  pb::Finished finished() const;
  pb::ServerFrame& add_frame(ServerActions& actions) const;
  void fill(pb::Credit& credit) const;
  void end_with(FaultCode code, const std::string& detail, bool retryable, double retry_after_s,
                ServerActions& actions);

  const ServerSessionOptions options_;
  Phase phase_ = Phase::kNew;
  uint32_t epoch_ = 0;
  CommittedLog log_;
  int n_prompt_ = 0;
  uint32_t round_ = 0;  // the last that began
  DraftTree tree_;      // that it verifies
  int64_t began_us_ = 0;
  std::optional<pb::Verdict> verdict_;  // the last
  struct Branch {
    uint32_t node, bonus;
    DraftTree tree;
  };
  std::vector<Branch> branches_;  // for the round behind the one in flight
  std::optional<FinishReason> finish_;
  bool streams_ = false;          // mode SERVER_STREAM
  bool tree_is_foreign_ = false;  // the edge of this stream does not know what is verified
  bool cancelled_ = false;        // the edge wanted it so
  uint64_t n_verified_nodes_ = 0;
  int n_offered_ = 0;  // nodes of the round in flight, before anything was cut
  int advice_ = 0;     // nodes worth sending; 0 = all
};

}  // namespace hob::edge
