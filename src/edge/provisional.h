#pragma once
// What the draft model says alone while the server is away (EDGE_ONLY). Its tokens are provisional:
// once the server is back they are the next drafts, and it decides what of them stays. Pure. Ref:
// research notes, specedge §4.8.
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/choice_output.h"

namespace hob::edge {

// Of one choice. `shown`: its reader sees provisional text, and is told when it changes.
class Provisional {
 public:
  explicit Provisional(bool shown) : shown_(shown) {}

  bool empty() const { return tokens_.empty(); }
  // Behind the committed ones.
  std::span<const int32_t> tokens() const { return tokens_; }
  // The answer would end here: nothing more to say until the server is back.
  bool finished() const { return output_ && output_->finished(); }
  int n_left(const ChoiceOutput& verified) const;

  // `verified`: what the committed tokens have said; its news has been taken.
  void add(int32_t token, const ChoiceOutput& verified);
  // What add() has brought, for a reader who sees it.
  std::optional<CompletionDelta> take_shown();

  // The server has decided: the first provisional token was right, or all are wrong.
  void on_committed(int32_t token);
  // News of verified tokens, as it goes to somebody who may have seen more than is verified.
  void settle(CompletionDelta& news);

  // The server does not come back: what was provisional is the answer, and goes on as such. Takes
  // the place of `verified`; how many of its tokens nobody has verified.
  int keep(ChoiceOutput& verified);

 private:
  void drop();
  const bool shown_;
  std::vector<int32_t> tokens_;
  std::optional<ChoiceOutput> output_;  // behind them
  std::string verified_text_;           // of the whole choice, if shown
  std::string ahead_;                   // shown behind that
  bool wrong_ = false;                  // ... and it was not right
};

}  // namespace hob::edge
