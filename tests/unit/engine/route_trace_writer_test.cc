#include "engine/route_trace_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/error.h"
#include "engine/trace_generator.h"

namespace hob {
namespace {

class TraceFile : public testing::Test {
 protected:
  TraceFile() : path_(testing::TempDir() + "/written_" + std::to_string(getpid()) + ".csv") {}
  ~TraceFile() override { std::filesystem::remove(path_); }
  std::string path_;
};

using RouteTraceWriterTest = TraceFile;
using RouteRecorderTest = TraceFile;

void expect_same(const RouteTrace& a, const RouteTrace& b) {
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.n_experts, b.n_experts);
  EXPECT_EQ(a.top_k, b.top_k);
  EXPECT_EQ(a.n_prompt_tok, b.n_prompt_tok);
  EXPECT_EQ(a.n_decode_tok, b.n_decode_tok);
  EXPECT_EQ(a.predicted, b.predicted);
  EXPECT_EQ(a.expert_bytes, b.expert_bytes);
  ASSERT_EQ(a.choices.size(), b.choices.size());
  for (size_t i = 0; i < a.choices.size(); i++) {
    EXPECT_EQ(a.choices[i].expert, b.choices[i].expert);
    EXPECT_NEAR(a.choices[i].weight, b.choices[i].weight, 1e-6f);  // six digits
  }
}

TEST_F(RouteTraceWriterTest, ReadsBackWhatItWrote) {
  TraceGeneratorOptions o;
  o.n_layers = 5;
  o.n_experts = 16;
  o.top_k = 4;
  o.n_prompt_tok = 3;
  o.n_decode_tok = 7;
  o.n_turns = 2;
  const std::vector<RouteTrace> turns = generate_route_traces(o);
  RouteTraceWriter writer(path_, turns[0], /*with_predicted=*/true);
  writer.add_turn(0, turns[0]);
  writer.add_turn(1, turns[1]);
  EXPECT_FALSE(std::filesystem::exists(path_));  // nothing half
  writer.finish();
  const std::vector<RouteTrace> read = read_route_traces(path_);
  ASSERT_EQ(read.size(), 2u);
  expect_same(read[0], turns[0]);
  expect_same(read[1], turns[1]);
}

// Two steps as the decoder reports them: layer by layer, the last layer only for the wanted row;
// layer 1 has no experts.
TEST_F(RouteRecorderTest, WritesWhatItSees) {
  RouteTrace header;
  header.model = "my model";
  header.n_layers = 3;
  header.n_experts = 8;
  header.top_k = 2;
  header.expert_bytes = {100, 0, 200};
  RouteTraceWriter writer(path_, header, /*with_predicted=*/false);
  RouteRecorder recorder(writer, /*n_prompt_tok=*/2);
  std::vector<StepRow> rows(2);
  rows[1].position = 1;
  recorder.on_route(0, rows, std::vector<int32_t>{1, 2, 3, 4}, std::vector<float>{.5f, .25f, 1, 0});
  recorder.on_route(2, std::span(rows).subspan(1), std::vector<int32_t>{5, 6},
                    std::vector<float>{.75f, .125f});
  rows.resize(1);
  rows[0].position = 2;
  for (int layer : {0, 2})
    recorder.on_route(layer, rows, std::vector<int32_t>{7, 0}, std::vector<float>{.5f, .5f});
  writer.finish();
  const RouteTrace t = read_route_traces(path_).front();
  EXPECT_EQ(t.model, "my_model");
  EXPECT_EQ(t.n_prompt_tok, 2);
  EXPECT_EQ(t.n_decode_tok, 1);
  EXPECT_EQ(t.at(1, 0)[0].expert, 3);
  EXPECT_FLOAT_EQ(t.at(0, 0)[1].weight, .25f);
  EXPECT_FALSE(t.has(0, 2));
  EXPECT_FALSE(t.has(2, 1));
  EXPECT_EQ(t.at(1, 2)[1].expert, 6);
  EXPECT_EQ(t.at(2, 2)[0].expert, 7);
}

TEST_F(RouteRecorderTest, NoRoutingToRecordIsAnError) {
  RouteTrace header;
  header.n_layers = header.n_experts = header.top_k = 1;
  RouteTraceWriter writer(path_, header, false);
  RouteRecorder recorder(writer, 0);
  const std::vector<StepRow> rows(1);
  EXPECT_THROW(recorder.on_route(0, rows, std::vector<int32_t>{-1}, std::vector<float>{0}), Error);
  EXPECT_THROW(recorder.on_route(0, rows, std::vector<int32_t>{0}, std::vector<float>{NAN}), Error);
}

// --- generator ---

TraceGeneratorOptions long_trace(double overlap) {
  TraceGeneratorOptions o;
  o.n_layers = 8;
  o.n_experts = 64;
  o.top_k = 6;
  o.n_prompt_tok = 0;
  o.n_decode_tok = 600;
  o.overlap = overlap;
  return o;
}

double measured_overlap(const RouteTrace& t) {
  int64_t same = 0, all = 0;
  for (int token = 1; token < t.n_tok(); token++)
    for (int layer = 0; layer < t.n_layers; layer++)
      for (int i = 0; i < t.top_k; i++, all++)
        for (int j = 0; j < t.top_k; j++)
          same += t.at(token, layer)[i].expert == t.at(token - 1, layer)[j].expert;
  return static_cast<double>(same) / static_cast<double>(all);
}

TEST(TraceGenerator, NeighboursOverlapAsAsked) {
  for (const double overlap : {0.4, 0.5, 0.7})
    EXPECT_NEAR(measured_overlap(generate_route_traces(long_trace(overlap))[0]), overlap, 0.025);
}

TEST(TraceGenerator, PopularityIsSkewedAndDistinct) {
  const RouteTrace t = generate_route_traces(long_trace(0.4))[0];
  std::vector<int> counts(static_cast<size_t>(t.n_experts), 0);
  for (int token = 0; token < t.n_tok(); token++) {
    std::set<int32_t> distinct;
    float sum = 0;
    for (int i = 0; i < t.top_k; i++) {
      const TraceChoice c = t.at(token, 7)[i];
      distinct.insert(c.expert);
      counts[static_cast<size_t>(c.expert)]++;
      sum += c.weight;
      if (i > 0) {
        EXPECT_LE(c.weight, t.at(token, 7)[i - 1].weight);
      }
    }
    EXPECT_EQ(distinct.size(), static_cast<size_t>(t.top_k));
    EXPECT_NEAR(sum, 1, 1e-5);
  }
  std::sort(counts.rbegin(), counts.rend());
  int top = 0;
  for (size_t i = 0; i < 16; i++) top += counts[i];
  EXPECT_GT(top, 0.5 * t.n_tok() * t.top_k);  // a quarter of the experts
}

TEST(TraceGenerator, ThePredictorIsAsGoodAsAsked) {
  TraceGeneratorOptions o = long_trace(0.4);
  o.accuracy = 0.8;
  const RouteTrace t = generate_route_traces(o)[0];
  const auto accuracy = [&](int layer) {
    int right = 0;
    for (int token = 0; token < t.n_tok(); token++)
      for (size_t i = 0; i < static_cast<size_t>(t.top_k); i++)
        right += t.predicted[t.index(token, layer) + i] == t.at(token, layer)[i].expert;
    return static_cast<double>(right) / (t.n_tok() * t.top_k);
  };
  EXPECT_NEAR(accuracy(7), 0.8, 0.03);
  EXPECT_NEAR(accuracy(0), 0.7, 0.03);
}

TEST(TraceGenerator, TheSeedDecides) {
  TraceGeneratorOptions o = long_trace(0.4);
  o.n_decode_tok = 20;
  const auto experts = [](const TraceGeneratorOptions& options) {
    std::vector<int32_t> list;
    const RouteTrace t = generate_route_traces(options)[0];
    for (const TraceChoice& c : t.choices) list.push_back(c.expert);
    return list;
  };
  const std::vector<int32_t> first = experts(o);
  EXPECT_EQ(experts(o), first);
  o.seed = 2;
  EXPECT_NE(experts(o), first);
}

TEST(TraceGenerator, RefusesNonsense) {
  for (const auto& change : std::vector<std::function<void(TraceGeneratorOptions&)>>{
           [](auto& o) { o.overlap = 1.5; }, [](auto& o) { o.overlap = NAN; },
           [](auto& o) { o.alpha = -1; }, [](auto& o) { o.top_k = 200; },
           [](auto& o) { o.n_decode_tok = 0; }, [](auto& o) { o.accuracy = 2; }}) {
    TraceGeneratorOptions o;
    change(o);
    EXPECT_THROW(generate_route_traces(o), Error);
  }
}

}  // namespace
}  // namespace hob
