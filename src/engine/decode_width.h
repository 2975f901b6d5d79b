#pragma once
// How many sequences decode together while experts are streamed. More rows share one pass over the
// weights, but each sequence also brings experts of its own, and when the union of a step no longer
// fits into the slots, everybody evicts everybody's. Which weighs more depends on how much the
// sequences' experts overlap: with uniform routing 8 in each step are 1.5 times as fast as one,
// with a random model's own routing half as fast (docs/benchmarks.md, "Streamed"). So fewer may
// decode at a time than run: a group keeps its turn for kTurnSteps steps, then those that have
// waited longest come. Whether that pays, and for which width, is measured while it happens. Pure:
// the caller brings the clock.
#include <array>
#include <cstddef>
#include <cstdint>

namespace hob {

class DecodeWidth {
 public:
  // A step of nothing but decodes of some of `n_decoding` sequences, which brought `n_tok` tokens
  // (more than sequences with drafts) in `seconds`.
  void add_step(int n_tok, int n_decoding, double seconds);
  // Rows that the next step may decode, of `n_decoding` sequences: a power of two or all.
  int rows(int n_decoding) const;
  // True once after each turn: another group should come.
  bool turn_over();

  // A group that takes over finds little of its own in the slots: 16 steps make up for that (a
  // longer turn gains little and lets the others wait longer).
  static constexpr int kTurnSteps = 16;
  // A trial that is clearly worse by then ends.
  static constexpr int kTrialSteps = kTurnSteps / 2;
  // Turns after which a neighbouring width is tried again: that costs one turn in 16 at most.
  static constexpr int64_t kStaleTurns = 32;

 private:
  static constexpr int kClasses = 16;  // widths 2^0 to 2^15
  struct Estimate {
    double tok_s = 0;
    int64_t turn = -1;  // when it was measured; -1 = never
  };
  void end_turn(int top);
  bool hopeless(int top) const;
  int best_class(int top) const;
  int next_class(int top) const;
  Estimate& at(int i) { return estimates_[static_cast<size_t>(i)]; }
  const Estimate& at(int i) const { return estimates_[static_cast<size_t>(i)]; }

  std::array<Estimate, kClasses> estimates_;
  int class_ = kClasses - 1;  // of the present turn; beyond what runs: all
  int64_t turn_ = 0;
  bool turn_over_ = false;
  bool warm_ = false;  // the first turn fills the slots: it says nothing about its width
  int n_steps_ = 0;    // of the present turn
  double n_tok_ = 0, seconds_ = 0;
};

}  // namespace hob
