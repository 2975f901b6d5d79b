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
    return read_route_trace(path_);
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

TEST_F(RouteTraceTest, OnlyTheFirstTurn) {
  EXPECT_EQ(read(kHeader + body(1, 2) + "1,0,0,0,0,1,1,0,0\n").n_decode_tok, 2);
}

TEST_F(RouteTraceTest, ErrorsNameTheLine) {
  EXPECT_NE(error(kHeader + std::string("0,0,0,0,0,x,1\n")).find(":4:"), std::string::npos);
  EXPECT_NE(error(kHeader + std::string("0,0,0,0,0,8,1\n")).find("expert < 8"), std::string::npos);
  EXPECT_NE(error(kHeader + std::string("0,0,0,2,0,1,1\n")).find("layer < 2"), std::string::npos);
  EXPECT_NE(error(kHeader + std::string("0,0,0,0,2,1,1\n")).find("slot < 2"), std::string::npos);
  EXPECT_NE(error(kHeader + std::string("0,0,7,0,0,1,1\n")).find("got 7"), std::string::npos);
  EXPECT_NE(error(kHeader + std::string("0,0,0,0,0,1\n")).find(":4:"), std::string::npos);
  EXPECT_NE(error(kHeader + body(2, 0)).find("decode token"), std::string::npos);
  EXPECT_NE(error(kHeader + body(1, 1) + "0,1,2,0,0,1,1\n").find("missing"), std::string::npos);
  EXPECT_NE(error("").find("header"), std::string::npos);
  EXPECT_NE(error("0,0,0,0,0,1,1\n").find("header"), std::string::npos);
  EXPECT_NE(error("# model=m n_layer=99999999 n_expert=8 n_expert_used=2\n").find("header"),
            std::string::npos);
  EXPECT_THROW(read_route_trace("/no/such/file"), Error);
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
  TraceRouting routing(t);
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
  TraceRouting routing(t);
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

}  // namespace
}  // namespace hob
