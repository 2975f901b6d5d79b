#include "engine/decode_width.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace hob {
namespace {

// The class whose width is all of n: ceil(log2(n)).
int class_of_all(int n) {
  return n <= 1 ? 0 : static_cast<int>(std::bit_width(static_cast<uint32_t>(n - 1)));
}

}  // namespace

int DecodeWidth::rows(int n_decoding) const {
  return std::max(1, std::min(n_decoding, 1 << std::min(class_, class_of_all(n_decoding))));
}

bool DecodeWidth::turn_over() { return std::exchange(turn_over_, false); }

void DecodeWidth::add_step(int n_tok, int n_decoding, double seconds) {
  n_steps_++;
  n_tok_ += n_tok;
  seconds_ += seconds;
  const int top = std::min(class_of_all(n_decoding), kClasses - 1);
  if (n_steps_ >= kTurnSteps || (n_steps_ >= kTrialSteps && hopeless(top))) end_turn(top);
}

bool DecodeWidth::hopeless(int top) const {
  constexpr double kClearly = 0.9;
  const int best = best_class(top);
  return best >= 0 && best != std::min(class_, top) &&
         n_tok_ < kClearly * at(best).tok_s * seconds_;
}

void DecodeWidth::end_turn(int top) {
  constexpr double kNewest = 0.5;  // weight against what was measured before
  if (warm_) {
    Estimate& e = at(std::min(class_, top));
    const double tok_s = seconds_ > 0 ? n_tok_ / seconds_ : 0;
    const bool fresh = e.turn >= 0 && turn_ - e.turn <= kStaleTurns;
    e.tok_s = fresh ? e.tok_s + kNewest * (tok_s - e.tok_s) : tok_s;
    e.turn = turn_++;
    class_ = next_class(top);
  }
  warm_ = true;
  turn_over_ = true;
  n_steps_ = 0;
  n_tok_ = seconds_ = 0;
}

// -1 = nothing has been measured.
int DecodeWidth::best_class(int top) const {
  int best = -1;
  for (int i = 0; i <= top; i++)
    if (at(i).turn >= 0 && (best < 0 || at(i).tok_s > at(best).tok_s)) best = i;
  return best;
}

int DecodeWidth::next_class(int top) const {
  const int best = best_class(top);
  if (best < 0) return top;
  for (const int i : {best - 1, best + 1})
    if (i >= 0 && i <= top && (at(i).turn < 0 || turn_ - at(i).turn > kStaleTurns)) return i;
  return best;
}

}  // namespace hob
