#include "edge/mode_choice.h"

#include <algorithm>

namespace hob::edge {

void ModeChoice::Rate::add(int n_tok, double seconds) {
  n_tok_ = n_tok_ * kKeep + n_tok;
  seconds_ = seconds_ * kKeep + seconds;
}

void ModeChoice::add_round(int n_tok, double seconds, double server_s) {
  constexpr double kWeight = 1.0 / 8;
  server_s_ = server_s_ == 0 ? server_s : server_s_ + kWeight * (server_s - server_s_);
  tree_.add(n_tok, seconds);
  if (!streams_) n_since_++;
}

void ModeChoice::add_streamed(int n_tok, double seconds) {
  stream_.add(n_tok, seconds);
  if (streams_) n_since_ += n_tok;
}

// What was known of the way that begins now may be long ago.
void ModeChoice::change(bool for_trial) {
  trial_ = for_trial;
  streams_ = !streams_;
  (streams_ ? stream_ : tree_) = {};
  n_since_ = 0;
}

bool ModeChoice::streams() {
  if (n_since_ < (streams_ ? kTrialTok : kTrialRounds)) return streams_;
  const Rate& own = streams_ ? stream_ : tree_;
  const Rate& other = streams_ ? tree_ : stream_;
  if (!own.known()) return streams_;
  // A stream that nobody has seen: a step of the server per token.
  const double other_s = other.known() ? other.s_per_tok() : server_s_;
  if (other_s > 0 && other_s < kMargin * own.s_per_tok()) {
    if (!trial_) retry_ = kFirstRetry;
    change(false);
  } else if (n_since_ >= retry_) {
    // The other way was worse. It may have become better.
    retry_ = std::min(2 * retry_, kLastRetry);
    change(true);
  }
  return streams_;
}

}  // namespace hob::edge
