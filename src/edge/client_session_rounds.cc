// Rounds of ClientSession: what verdicts bring, and what comes after them.
#include <algorithm>

#include "edge/client_session.h"

namespace hob::edge {

// A round is over, or has never begun: what comes next.
void ClientSession::go_on() {
  const bool streams = open_.mode() == pb::SERVER_STREAM;
  if (streams != (mode_ == pb::SERVER_STREAM)) {
    mode_ = open_.mode();
    add_frame().mutable_set_mode()->set_mode(mode_);
    // Until the server has heard it, more of its own tokens may come: a draft would be stale.
    if (!streams && status_ == Status::kStreaming) return;
  }
  status_ = streams ? Status::kStreaming : Status::kReady;
}

// These come next, if the server's length and hash say so too: nothing that it contradicts is ever
// taken for committed.
void ClientSession::commit(std::span<const int32_t> ids, uint32_t committed_len, uint32_t hash) {
  const size_t size = static_cast<size_t>(log_.size()) + ids.size();
  if (size > static_cast<size_t>(options_.limits.max_context))
    fail(Code::kDataLoss, "[edge] expected at most {} committed ids, the server sends more",
         options_.limits.max_context);
  const uint32_t own = low_bits(log_.hash_with(ids));
  if (committed_len != size || hash != own)
    fail(Code::kDataLoss,
         "[edge] expected {} committed ids with hash {:08x}, the server has {} with {:08x}", size,
         own, committed_len, hash);
  for (const int32_t id : ids) log_.append(id);
}

void ClientSession::on_verdict(const pb::Verdict& v, int64_t now_us) {
  if (status_ == Status::kOpening) fail(Code::kDataLoss, "[edge] expected Opened before a verdict");
  if (v.committed_len() <= static_cast<uint32_t>(log_.size())) return;  // said before
  if (v.rebase_size() > 0) return on_rebase(v);
  if (v.base_len() != static_cast<uint32_t>(log_.size()))
    fail(Code::kDataLoss, "[edge] verdict: expected base {}, got {}", log_.size(), v.base_len());
  if (v.streamed_size() > 0) {
    commit(ids_from(v.streamed(), "verdict.streamed", options_.limits), v.committed_len(),
           v.hash());
    round_ = v.round();
    tree_.clear();
    guesses_.clear();
    // Streaming ends with ModeChanged.
    if (status_ != Status::kStreaming || mode_ == pb::SERVER_STREAM) go_on();
    return;
  }
  on_outcome(v, now_us);
}

void ClientSession::on_rebase(const pb::Verdict& v) {
  const std::vector<int32_t> ids = ids_from(v.rebase(), "verdict.rebase", options_.limits);
  const auto size = static_cast<size_t>(log_.size());
  const size_t known = size - std::min<size_t>(size, v.base_len());
  if (v.base_len() > size || known > ids.size() ||
      !std::equal(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(known),
                  log_.from(static_cast<int>(v.base_len())).begin()))
    fail(Code::kDataLoss, "[edge] rebase: expected the ids that were committed before");
  commit(std::span(ids).subspan(known), v.committed_len(), v.hash());
  round_ = v.round() - 1;  // it has not begun
  tree_.clear();
  guesses_.clear();
  go_on();
}

void ClientSession::on_outcome(const pb::Verdict& v, int64_t now_us) {
  if (status_ != Status::kWaiting || v.round() != round_)
    fail(Code::kDataLoss, "[edge] verdict: expected round {}, got {}", round_, v.round());
  std::vector<int32_t> ids, path;
  int32_t at = DraftTree::kRoot;
  for (const uint32_t k : v.path()) {
    const auto node = static_cast<int64_t>(k) - 1;
    if (node < 0 || node >= tree_.size() || tree_.parents[static_cast<size_t>(node)] != at)
      fail(Code::kDataLoss, "[edge] verdict: expected a path through the tree, got node {}", k);
    at = static_cast<int32_t>(node);
    path.push_back(at);
    ids.push_back(tree_.tokens[static_cast<size_t>(node)]);
  }
  if (v.bonus() >= static_cast<uint32_t>(options_.limits.n_vocab))
    fail(Code::kDataLoss, "[edge] verdict: expected a bonus below {}, got {}",
         options_.limits.n_vocab, v.bonus());
  ids.push_back(static_cast<int32_t>(v.bonus()));
  if (v.used_branch() > guesses_.size())
    fail(Code::kDataLoss, "[edge] verdict: expected one of {} branches, got {}", guesses_.size(),
         v.used_branch());
  commit(ids, v.committed_len(), v.hash());
  measure(v, now_us);
  stats_.n_accepted += ids.size() - 1;
  stats_.n_guessed += guesses_.empty() ? 0 : 1;
  if (round_ > 0)
    outcome_ =
        DraftOutcome{std::move(tree_), std::move(path), sent_us_ > 0 ? now_us - sent_us_ : 0};
  tree_.clear();
  if (v.next_nodes() > 0)
    advised_nodes_ = static_cast<int>(
        std::min<uint32_t>(v.next_nodes() - 1, static_cast<uint32_t>(options_.limits.max_nodes)));
  else
    advised_nodes_ = options_.limits.max_nodes;
  if (v.used_branch() == 0) {
    go_on();
  } else {
    tree_ = std::move(guesses_[v.used_branch() - 1].tree);
    round_++;
    stats_.n_rounds++;
    stats_.n_hits++;
    stats_.n_nodes += static_cast<uint64_t>(tree_.size());
    sent_us_ = 0;  // it began at the server: says nothing about the link
    began_us_ = now_us - stats_.srtt_us;
    status_ = Status::kWaiting;
  }
  guesses_.clear();
}

void ClientSession::add_rtt(int64_t rtt_us) {  // RFC 6298
  if (rtt_us < 0) return;
  int64_t& srtt = stats_.srtt_us;
  int64_t& rttvar = stats_.rttvar_us;
  if (srtt == 0) {
    srtt = std::max<int64_t>(1, rtt_us);
    rttvar = rtt_us / 2;
    return;
  }
  rttvar += (std::abs(srtt - rtt_us) - rttvar) / 4;
  srtt += (rtt_us - srtt) / 8;
}

void ClientSession::measure(const pb::Verdict& v, int64_t now_us) {
  const auto smooth = [](int64_t& mean, int64_t value) {
    mean = mean == 0 ? value : mean + (value - mean) / 8;
  };
  smooth(stats_.verify_us, v.verify_us());
  smooth(stats_.queue_us, v.queue_us());
  if (round_ > 0 && sent_us_ > 0)
    add_rtt(now_us - sent_us_ - int64_t{v.verify_us()} - int64_t{v.queue_us()});
}

}  // namespace hob::edge
