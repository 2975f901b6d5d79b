#include "edge/provisional.h"

namespace hob::edge {

int Provisional::n_left(const ChoiceOutput& verified) const {
  return output_ ? output_->n_left() : verified.n_left();
}

void Provisional::add(int32_t token, const ChoiceOutput& verified) {
  if (!output_) output_ = verified;
  tokens_.push_back(token);
  output_->add(token, std::nullopt);
}

std::optional<CompletionDelta> Provisional::take_shown() {
  if (!shown_ || !output_ || !output_->has_news()) return std::nullopt;
  CompletionDelta delta = output_->take_delta();
  delta.tokens.clear();  // they count once they are verified
  delta.finish.reset();
  delta.provisional = true;
  ahead_ += delta.text;
  if (delta.text.empty()) return std::nullopt;
  return delta;
}

void Provisional::on_committed(int32_t token) {
  if (tokens_.empty()) return;
  if (tokens_.front() == token)
    tokens_.erase(tokens_.begin());
  else
    drop();
  if (tokens_.empty()) output_.reset();
}

void Provisional::drop() {
  tokens_.clear();
  wrong_ = !ahead_.empty();
}

void Provisional::settle(CompletionDelta& news) {
  if (!shown_) return;
  const std::string fresh = news.text;
  verified_text_ += fresh;
  if (ahead_.empty()) return;
  if (!wrong_ && !news.finish && ahead_.starts_with(fresh)) {
    ahead_.erase(0, fresh.size());
    news.text.clear();
  } else if (!wrong_ && fresh.starts_with(ahead_)) {
    news.text = fresh.substr(ahead_.size());
    ahead_.clear();
  } else {
    news.text = verified_text_;
    news.rewrites = true;
    ahead_.clear();
    wrong_ = false;
  }
}

int Provisional::keep(ChoiceOutput& verified) {
  if (!output_) return 0;
  verified = *std::move(output_);
  output_.reset();
  const auto n = static_cast<int>(tokens_.size());
  tokens_.clear();
  ahead_.clear();
  return n;
}

}  // namespace hob::edge
