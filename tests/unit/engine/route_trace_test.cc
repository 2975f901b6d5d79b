#include "engine/route_trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace hob {
namespace {

constexpr const char* kHeader =
    "# route_trace v1\n# model=m.gguf arch=x n_layer=2 n_expert=8 n_expert_used=2\n"
    "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n";

class RouteTraceTest : public testing::Test {
 protected:
  RouteTraceTest() : path_(testing::TempDir() + "/trace_" + std::to_string(getpid()) + ".csv") {}
  ~RouteTraceTest() override { std::filesystem::remove(path_); }

  RouteTrace read(const std::string& text) {
    std::ofstream(path_) << text;
    return std::move(read_route_traces(path_).front());
  }
  std::string error(const std::string& text) {
    try {
      read(text);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  // `n_prompt` + `n_decode` tokens; token t, layer l, slot s chooses expert (t + l + 4 s) % 8 with
  // weight 0.75 or 0.25.
  static std::string body(int n_prompt, int n_decode) {
    std::string text;
    for (int t = 0; t < n_prompt + n_decode; t++)
      for (int l = 0; l < 2; l++)
        for (int s = 0; s < 2; s++)
          text += fmt::format("0,{},{},{},{},{},{},0,0\n", t >= n_prompt ? 1 : 0, t, l, s,
                              (t + l + 4 * s) % 8, s ? .25 : .75);
    return text;
  }

  std::string path_;
};

TEST_F(RouteTraceTest, Reads) {
  const RouteTrace t = read(kHeader + body(3, 4));
  EXPECT_EQ(t.model, "m.gguf");
  EXPECT_EQ(t.n_layers, 2);
  EXPECT_EQ(t.n_experts, 8);
  EXPECT_EQ(t.top_k, 2);
  EXPECT_EQ(t.n_prompt_tok, 3);
  EXPECT_EQ(t.n_decode_tok, 4);
  EXPECT_EQ(t.at(5, 1)[1].expert, (5 + 1 + 4) % 8);
  EXPECT_FLOAT_EQ(t.at(5, 1)[0].weight, 0.75f);
}

TEST_F(RouteTraceTest, TurnsAreSequences) {
  std::string second = body(1, 1);
  for (size_t at = 0; (at = second.find("\n0,", at)) != std::string::npos;) second[++at] = '1';
  second[0] = '1';
  const std::string text = kHeader + body(1, 2) + second;
  EXPECT_EQ(read(text).n_decode_tok, 2);
  const std::vector<RouteTrace> turns = read_route_traces(path_);
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[1].n_tok(), 2);
  EXPECT_NE(error(kHeader + second + body(1, 1)).find("expected turn 1 or later"),
            std::string::npos);
}

// As llama.cpp computes it: a chunk layer by layer, and the last layer only for the row whose
// logits are wanted.
TEST_F(RouteTraceTest, PromptLayerByLayerWithoutTheLastLayersRows) {
  const RouteTrace t = read(std::string(kHeader) +
                            "0,0,0,0,0,1,.5,0,0\n0,0,0,0,1,2,.5,0,0\n0,0,1,0,0,3,.5,0,0\n"
                            "0,0,1,0,1,4,.5,0,0\n0,0,1,1,0,5,.5,0,0\n0,0,1,1,1,6,.5,0,0\n"
                            "0,1,2,0,0,1,.5,0,0\n0,1,2,0,1,2,.5,0,0\n0,1,2,1,0,3,.5,0,0\n"
                            "0,1,2,1,1,4,.5,0,0\n");
  EXPECT_EQ(t.n_prompt_tok, 2);
  EXPECT_FALSE(t.has(0, 1));
  EXPECT_TRUE(t.has(1, 1));
  EXPECT_EQ(t.at(1, 0)[1].expert, 4);
  // A replay takes the nearest that is there.
  TraceRouting routing({&t, 1});
  routing.replay_prompt();
  const StepRow row{.token = 0, .position = 0, .seq = 0, .kv_write_slot = 0, .kv_read = {}};
  int32_t ids[2];
  float weights[2];
  routing.route(1, {&row, 1}, ids, weights);
  EXPECT_EQ(ids[0], 5);
}

TEST_F(RouteTraceTest, ErrorsNameTheLine) {
  const auto at_line_4 = [&](const std::string& row, const char* what) {
    const std::string text = error(kHeader + row);
    EXPECT_NE(text.find(":4: "), std::string::npos) << text;
    EXPECT_NE(text.find(what), std::string::npos) << text;
  };
  at_line_4("0,0,0,0,0,x,1,0,0\n", "expected a number, got 'x'");
  at_line_4("0,0,0,0,0,8,1,0,0\n", "expert < 8");
  at_line_4("0,0,0,0,0,-1,1,0,0\n", "expert < 8");
  at_line_4("0,0,0,2,0,1,1,0,0\n", "layer < 2");
  at_line_4("0,0,0,0,2,1,1,0,0\n", "slot < 2");
  at_line_4("0,0,7,0,0,1,1,0,0\n", "got 7");
  at_line_4("0,2,0,0,0,1,1,0,0\n", "phase 0 or 1");
  at_line_4("0,0,0,0,0,1,1\n", "expected 9 columns, got 7");
  at_line_4("0,0,0,0,0,1,1,0,0,0\n", "expected 9 columns, got 10");
  at_line_4("0,0,0,0,0,1", "expected 9 columns, got 6");
  at_line_4("0,0,0,0,0,1,nan,0,0\n", "weight >= 0, got nan");
  at_line_4("0,0,0,0,0,1,inf,0,0\n", "weight >= 0");
  at_line_4("0,0,0,0,0,1,-1,0,0\n", "weight >= 0");
  at_line_4("0,0,0,0,0,99999999999,1,0,0\n", "expected a number");
  at_line_4("nonsense\n", "expected 9 columns, got 1");
}

TEST_F(RouteTraceTest, RowsThatDoNotFitTogether) {
  EXPECT_NE(error(kHeader + body(1, 1) + "0,1,1,0,0,3,1,0,0\n").find(":12: expected one row"),
            std::string::npos);
  EXPECT_NE(error(std::string(kHeader) + "0,0,0,0,0,3,1,0,0\n0,0,0,0,1,3,1,0,0\n")
                .find(":5: expected distinct"),
            std::string::npos);
  EXPECT_NE(error(kHeader + body(1, 1) + "0,0,2,0,0,1,1,0,0\n").find("expected phase 1"),
            std::string::npos);
  EXPECT_NE(error(kHeader + body(2, 0)).find("at least one decode token"), std::string::npos);
  EXPECT_NE(error(kHeader + body(1, 1) + "0,1,2,0,0,1,1,0,0\n").find("1 are missing"),
            std::string::npos);
  const std::string whole = kHeader + body(1, 3);
  for (size_t n = whole.size() - 40; n < whole.size(); n++)
    EXPECT_NE(error(whole.substr(0, n)) == "", n < whole.size() - 1) << n;
}

TEST_F(RouteTraceTest, Headers) {
  EXPECT_NE(error("").find("header"), std::string::npos);
  EXPECT_NE(error("0,0,0,0,0,1,1\n").find("header"), std::string::npos);
  EXPECT_NE(error("# model=m n_layer=99999999 n_expert=8 n_expert_used=2\n").find("header"),
            std::string::npos);
  EXPECT_NE(error("# model=m n_layer=4000 n_expert=4000 n_expert_used=4000\n").find("header"),
            std::string::npos);
  EXPECT_NE(error("# model=m n_layer=x n_expert=8 n_expert_used=2\n").find(":1: "),
            std::string::npos);
  EXPECT_NE(error("# model=m n_layer=2 n_expert=8 n_expert_used=2\n# layer=2 expert_bytes=9\n")
                .find(":2: expected layer < 2"),
            std::string::npos);
  EXPECT_NE(error("# model=m n_layer=2 n_expert=8 n_expert_used=2\nturn,step\n")
                .find(":2: expected columns"),
            std::string::npos);
  EXPECT_NE(error(kHeader).find("no rows"), std::string::npos);
  EXPECT_THROW(read_route_traces("/no/such/file"), Error);
}

TEST_F(RouteTraceTest, SizesAndOtherColumns) {
  const std::string text =
      "# model=m n_layer=1 n_expert=4 n_expert_used=1\n# layer=0 expert_bytes=77 dense_bytes=5\n"
      "turn,phase,step,layer,slot,expert,weight,predicted,x\r\n0,1,0,0,0,2,1,3,hello\r\n";
  const RouteTrace t = read(text);
  EXPECT_EQ(t.expert_bytes, std::vector<uint64_t>{77});
  EXPECT_EQ(t.predicted, std::vector<int32_t>{3});
  EXPECT_NE(error(text + "0,1,1,0,0,2,1,4,x\n").find("predicted expert < 4"), std::string::npos);
}

TEST_F(RouteTraceTest, MismatchIsAnError) {
  const RouteTrace t = read(kHeader + body(1, 1));
  EXPECT_THROW(check_trace_fits(t, 4), Error);
  EXPECT_THROW(check_trace_fits(t, 0), Error);
  EXPECT_NO_THROW(check_trace_fits(t, 8));
  EXPECT_NO_THROW(check_trace_fits(t, 64));
}

TEST_F(RouteTraceTest, ReplaysPromptThenLoopsDecode) {
  const RouteTrace t = read(kHeader + body(3, 4));
  TraceRouting routing({&t, 1});
  routing.replay_prompt();
  EXPECT_EQ(routing.trace_token(0, 0), 0);
  EXPECT_EQ(routing.trace_token(0, 2), 2);
  EXPECT_EQ(routing.trace_token(0, 3), 3);
  EXPECT_EQ(routing.trace_token(0, 7), 3);  // the four decode tokens, again
  routing.replay_decode(100);
  EXPECT_EQ(routing.trace_token(0, 100), 3);
  EXPECT_EQ(routing.trace_token(0, 103), 6);
  EXPECT_EQ(routing.trace_token(0, 104), 3);
  EXPECT_NE(routing.trace_token(1, 100), routing.trace_token(0, 100));
}

TEST_F(RouteTraceTest, RoutesRows) {
  const RouteTrace t = read(kHeader + body(3, 4));
  TraceRouting routing({&t, 1});
  routing.replay_decode(0);
  std::vector<StepRow> rows(2);
  rows[1].position = 1;
  int32_t ids[4];
  float weights[4];
  routing.route(3, rows, ids, weights);  // the trace has two layers: layer 3 replays layer 1
  EXPECT_EQ(ids[0], (3 + 1) % 8);
  EXPECT_EQ(ids[1], (3 + 1 + 4) % 8);
  EXPECT_EQ(ids[2], (4 + 1) % 8);
  EXPECT_FLOAT_EQ(weights[3], 0.25f);
}

TEST_F(RouteTraceTest, SequencesReplayTheTurnsInTurn) {
  std::vector<RouteTrace> turns(2, read(kHeader + body(1, 3)));
  turns[1].n_prompt_tok = 0;
  turns[1].n_decode_tok = 4;
  for (TraceChoice& c : turns[1].choices) c.expert = 7;
  TraceRouting routing(turns);
  routing.replay_decode(0);
  EXPECT_EQ(routing.trace_token(0, 0), 1);
  EXPECT_EQ(routing.trace_token(1, 0), 0);
  EXPECT_NE(routing.trace_token(2, 0), routing.trace_token(0, 0));  // turn 0 again, from elsewhere
  std::vector<StepRow> rows(3);
  for (int i = 0; i < 3; i++) rows[static_cast<size_t>(i)].seq = i;
  int32_t ids[6];
  float weights[6];
  routing.route(0, rows, ids, weights);
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(ids[2], 7);
  EXPECT_EQ(ids[4], 1 + 61 % 3);
}

}  // namespace
}  // namespace hob
