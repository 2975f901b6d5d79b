#pragma once
// Which way an answer goes on faster from here: with drafts of the edge (TREE), or written by the
// server alone and streamed (SERVER_STREAM), where the round trip counts once and not per round.
// Both are measured while they are used; the one not in use is tried again now and then. Pure: the
// caller brings the clock. Ref: research notes, specedge §4.8.
#include <cstdint>

namespace hob::edge {

class ModeChoice {
 public:
  // `server_drafts`: its stream may be faster than a step per token, and is tried early.
  explicit ModeChoice(bool server_drafts = false)
      : retry_(server_drafts ? 2 * kTrialRounds : kFirstRetry) {}
  // A round: `seconds` with drafting, way and queue; `server_s`: the part that the server took. A
  // server that decodes by itself takes at least that per token, until it has been measured.
  void add_round(int n_tok, double seconds, double server_s);
  // Tokens of a stream, and the time since the ones before.
  void add_streamed(int n_tok, double seconds);
  // How the next round or token should be made. Asked at each, of all answers together.
  bool streams();

 private:
  // Rounds, or tokens of a stream, after which a way can be judged.
  static constexpr int kTrialRounds = 8, kTrialTok = 16;
  // The other way must be better by a tenth: less is noise, and each change costs a round trip.
  static constexpr double kMargin = 0.9;
  // After so many rounds (tokens) the other way is tried again, and after twice as many each time
  // that it was in vain: one that is three times as slow costs 2 * 16 / 512 = 6 % at first, at last
  // less than 1 %.
  static constexpr int kFirstRetry = 512, kLastRetry = 4096;

  // The last sixteen or so.
  class Rate {
   public:
    void add(int n_tok, double seconds);
    bool known() const { return n_tok_ > 0; }
    double s_per_tok() const { return seconds_ / n_tok_; }

   private:
    static constexpr double kKeep = 15.0 / 16;
    double n_tok_ = 0, seconds_ = 0;
  };
  void change(bool for_trial);

  Rate tree_, stream_;
  double server_s_ = 0;
  bool streams_ = false;
  int n_since_ = 0;  // rounds or tokens of the stream, since the last change
  int retry_;
  bool trial_ = false;  // this way was worse when it was last known
};

}  // namespace hob::edge
