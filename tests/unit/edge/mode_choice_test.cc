#include "edge/mode_choice.h"

#include <gtest/gtest.h>

namespace hob::edge {
namespace {

struct World {
  double round_s = 0.06, server_s = 0.04;
  int tok_per_round = 3;
  double stream_s = 0.045;  // per token
};

struct Shares {
  int n_tok = 0, n_streamed = 0;
  double seconds = 0;
  int n_changes = 0;
};

// So many steps as it wishes them.
Shares go_on(ModeChoice& choice, const World& w, int n_steps) {
  Shares s;
  bool before = choice.streams();
  for (int i = 0; i < n_steps; i++) {
    const bool streams = choice.streams();
    s.n_changes += streams != before ? 1 : 0;
    before = streams;
    if (streams) {
      choice.add_streamed(1, w.stream_s);
      s.n_tok++, s.n_streamed++;
      s.seconds += w.stream_s;
    } else {
      choice.add_round(w.tok_per_round, w.round_s, w.server_s);
      s.n_tok += w.tok_per_round;
      s.seconds += w.round_s;
    }
  }
  return s;
}

TEST(ModeChoice, DraftsWhereTheyAreFaster) {
  ModeChoice choice;
  const Shares s = go_on(choice, {}, 4000);
  EXPECT_LT(s.n_streamed, 100);
  EXPECT_LT(s.seconds / s.n_tok, 0.021);
}

TEST(ModeChoice, StreamsWhereTheRoundTripIsLong) {
  ModeChoice choice;
  const Shares s = go_on(choice, {.round_s = 0.3}, 4000);
  EXPECT_GT(s.n_streamed, 3500);
  EXPECT_LT(s.seconds / s.n_tok, 0.05);
}

// A server with a drafter of its own streams faster than one token per step: a trial shows it.
TEST(ModeChoice, FindsAFastStreamThatItCouldNotKnow) {
  ModeChoice choice;
  go_on(choice, {.stream_s = 0.01}, 1500);
  EXPECT_TRUE(choice.streams());
}

// ... at once, if the server has said that it drafts.
TEST(ModeChoice, ASaidDrafterIsTriedEarly) {
  ModeChoice choice(true);
  go_on(choice, {.stream_s = 0.01}, 60);
  EXPECT_TRUE(choice.streams());
  ModeChoice in_vain(true);
  EXPECT_LT(go_on(in_vain, {}, 4000).n_streamed, 200);
}

TEST(ModeChoice, FollowsWhatChanges) {
  ModeChoice choice;
  go_on(choice, {.round_s = 0.3}, 1000);
  EXPECT_TRUE(choice.streams());
  go_on(choice, {.round_s = 0.06}, 3000);
  EXPECT_FALSE(choice.streams());
  go_on(choice, {.round_s = 0.3}, 100);
  EXPECT_TRUE(choice.streams());
}

TEST(ModeChoice, LeavesWhatIsNearlyAlike) {
  ModeChoice choice;
  EXPECT_LE(go_on(choice, {.round_s = 0.135, .stream_s = 0.044}, 8000).n_changes, 10);
}

}  // namespace
}  // namespace hob::edge
