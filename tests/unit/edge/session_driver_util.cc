#include "unit/edge/session_driver_util.h"

#include <algorithm>
#include <string>

#include "edge/client_session.h"
#include "edge/server_session.h"

namespace hob::edge {
namespace {

constexpr int kVocab = 64;

class Bytes {
 public:
  explicit Bytes(std::span<const uint8_t> b) : bytes_(b) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t next() {
    if (bytes_.empty()) return 0;
    const uint8_t b = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return b;
  }
  // Mostly small, sometimes anything.
  uint32_t number(uint32_t near) {
    const uint8_t b = next();
    if (b < 240) return near + b % 4 - (b % 16 == 0 ? 1 : 0);
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 8 | next();
    return value;
  }
  std::span<const uint8_t> take(size_t n) {
    const auto out = bytes_.first(std::min(n, bytes_.size()));
    bytes_ = bytes_.subspan(out.size());
    return out;
  }

 private:
  std::span<const uint8_t> bytes_;
};

ProtocolLimits limits() {
  ProtocolLimits l;
  l.n_vocab = kVocab;
  l.max_context = 96;
  l.max_nodes = 8;
  l.max_branches = 3;
  return l;
}

class Driver {
 public:
  explicit Driver(std::span<const uint8_t> bytes)
      : in_(bytes),
        server_({.limits = limits(), .session_id = "session"}),
        client_(opening(), std::string(16, 'r'), {.limits = limits()}) {}

  void run() {
    while (!in_.empty()) {
      switch (in_.next() % 16) {
        case 0:
          now_ += 1000 * in_.next();
          client_.tick(now_);
          break;
        case 1:
          if (client_.wants_link(now_)) client_.on_connected(now_);
          break;
        case 2:
          client_.on_disconnected(now_);
          break;
        case 3:
          if (client_.may_draft(now_)) client_.send_tree(tree(), 1, now_);
          break;
        case 4:
          if (client_.may_guess()) client_.send_guesses({{-1, 3, tree()}, {0, 4, tree()}});
          break;
        case 5:
          client_.set_mode(in_.next() % 2 ? pb::TREE : pb::SERVER_STREAM);
          break;
        case 6:
          to_client_raw();
          break;
        case 7:
          to_server_raw();
          break;
        case 8:
          to_server(draft());
          break;
        case 9:
          check(server_.detach());
          break;
        case 10:
          resume();
          break;
        case 11:
          check(server_.on_end(nullptr));
          break;
        case 12:
        case 13:
          engine_step();
          break;
        default:
          deliver();
      }
      after();
    }
  }

 private:
  static pb::Open opening() {
    CompletionRequest r;
    r.prompt = {1, 2, 3};
    r.max_tok = 40;
    return open_from(r, 0);
  }

  DraftTree tree() {
    DraftTree t;
    for (int n = in_.next() % 6; n > 0; n--)
      t.add(in_.next() % kVocab, in_.next() % (t.size() + 1) - 1);
    return t;
  }

  pb::ClientFrame draft() {
    pb::ClientFrame f;
    f.set_epoch(in_.number(server_.epoch()));
    pb::Draft& d = *f.mutable_draft();
    d.set_round(in_.number(last_round_));
    d.set_base_len(in_.number(static_cast<uint32_t>(server_.log().size())));
    d.set_base_hash(in_.next() % 8 ? static_cast<uint32_t>(server_.log().hash()) : in_.number(0));
    pb::Tree& t =
        *(in_.next() % 4 ? d.mutable_tree() : d.mutable_optimistic()->add_branch()->mutable_tree());
    for (uint32_t n = in_.number(2) % 80; n > 0; n--) {
      t.add_token(in_.number(5));
      if (in_.next() % 32) t.add_parent(in_.number(0));
    }
    return f;
  }

  void to_server(const pb::ClientFrame& f) {
    if (!open_) {
      open_ = true;
      check(server_.open(opening(), 1, "token"));
    }
    check(server_.on_frame(f, now_));
  }

  void to_server_raw() {
    pb::ClientFrame f;
    const auto raw = in_.take(in_.next());
    if (!f.ParseFromArray(raw.data(), static_cast<int>(raw.size()))) return;
    if (in_.next() % 2) f.set_epoch(server_.epoch());
    if (!open_ && f.has_open()) {
      open_ = true;
      check(server_.open(f.open(), f.epoch(), "token"));
      return;
    }
    to_server(f);
  }

  void to_client_raw() {
    pb::ServerFrame f;
    const auto raw = in_.take(in_.next());
    if (!f.ParseFromArray(raw.data(), static_cast<int>(raw.size()))) return;
    client_.on_frame(f, now_);
  }

  void resume() {
    if (!open_) return;
    pb::Resume r;
    const auto have = in_.number(static_cast<uint32_t>(server_.log().size()));
    r.set_have_len(have);
    if (have <= static_cast<uint32_t>(server_.log().size()))
      r.set_have_hash(server_.log().hash_at(static_cast<int>(have)));
    check(server_.resume(r, server_.epoch() + 1, "token"));
  }

  // Frames travel as they would: the client's to the server, the answers back.
  void deliver() {
    for (const pb::ClientFrame& f : client_.take_frames()) {
      if (f.has_open() && !open_) {
        open_ = true;
        check(server_.open(f.open(), f.epoch(), "token"));
      } else if (f.has_resume() && open_) {
        check(server_.resume(f.resume(), f.epoch(), "token"));
      } else {
        to_server(f);
      }
    }
    for (const pb::ServerFrame& f : std::exchange(to_client_, {})) client_.on_frame(f, now_);
  }

  void engine_step() {
    if (!engine_runs_) return;
    CompletionDelta d;
    d.of_draft = offered_;
    d.n_draft_nodes = in_.next() % 8;
    offered_ = false;
    for (int n = in_.next() % 3 + 1; n > 0; n--) d.tokens.push_back(in_.next() % kVocab);
    if (in_.next() % 16 == 0) d.finish = FinishReason::kStop;
    check(server_.on_delta(d, now_));
  }

  void check(ServerActions actions) {
    if (actions.submit) {
      HOB_CHECK(!engine_runs_ && actions.submit->client_drafts);
      engine_runs_ = true;
    }
    if (actions.offer) {
      HOB_CHECK(engine_runs_ && actions.offer->base_len == server_.log().size());
      HOB_CHECK(actions.offer->tree.size() <= limits().max_nodes);
      offered_ = true;
    }
    if (actions.cancel) engine_runs_ = false;
    for (pb::ServerFrame& f : actions.frames) {
      if (f.has_verdict()) last_round_ = f.verdict().round();
      to_client_.push_back(std::move(f));
    }
  }

  // What is committed stays, on both sides.
  void after() {
    grows(server_.log(), server_log_);
    grows(client_.log(), client_log_);
    if (server_.ended()) engine_runs_ = false;
    client_.take_tokens();
  }

  static void grows(const CommittedLog& log, std::vector<int32_t>& before) {
    HOB_CHECK(static_cast<size_t>(log.size()) >= before.size() || before.empty());
    HOB_CHECK(std::equal(before.begin(), before.end(), log.ids().begin()));
    before.assign(log.ids().begin(), log.ids().end());
    HOB_CHECK(log.hash() == CommittedLog(before).hash());
  }

  Bytes in_;
  ServerSession server_;
  ClientSession client_;
  std::vector<pb::ServerFrame> to_client_;
  std::vector<int32_t> server_log_, client_log_;
  uint32_t last_round_ = 0;
  int64_t now_ = 1'000'000;
  bool open_ = false, engine_runs_ = false, offered_ = false;
};

}  // namespace

void drive_sessions(std::span<const uint8_t> bytes) { Driver(bytes).run(); }

}  // namespace hob::edge
