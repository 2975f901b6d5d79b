// Between the engine's thread and the client's: bounds, cancels, failures.
#include "serve/completion_call.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "unit/serve/fake_service_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT

class NullReply : public ReplyBuilder {
 public:
  void on_prompt_logprobs(int, std::vector<TokenLogprob>) override {}
  void on_delta(int, CompletionDelta delta) override { text += delta.text; }
  void on_end(const CompletionUsage& usage) override { usage_ = usage; }
  void on_error(const ApiError& error) override { failure = error.what(); }
  bool streams() const override { return false; }
  bool begun() const override { return false; }
  ErrorShape error_shape() const override { return ErrorShape::kOpenAi; }
  HttpReply reply() override { return {}; }
  std::string text, failure;
  CompletionUsage usage_;
};

CompletionJob job_of(int n_parts) {
  CompletionJob job;
  job.parts.resize(static_cast<size_t>(n_parts));
  for (CompletionRequest& part : job.parts) part.prompt = {1, 2, 3};
  job.reply = std::make_unique<NullReply>();
  return job;
}

CallOptions options(const std::string& id, size_t max_bytes = 1 << 20) {
  CallOptions o;
  o.id = id;
  o.tenant = "t";
  o.max_buffered_bytes = max_bytes;
  return o;
}

CompletionDelta text_delta() {
  CompletionDelta delta;
  delta.text = "x";
  return delta;
}

TEST(CompletionCall, DestroyingItCancelsWhatRuns) {
  FakeService service({.delay_ms = 5, .endless = true});
  Metrics metrics;
  {
    CompletionCall call(service, metrics, job_of(3), options("x"), [] {});
  }
  EXPECT_TRUE(service.wait_for_cancels(3));
}

TEST(CompletionCall, PartsHaveTheirOwnIdsAndTheTenant) {
  FakeService service;
  Metrics metrics;
  const CompletionCall call(service, metrics, job_of(2), options("x"), [] {});
  const auto requests = service.requests();
  EXPECT_EQ(requests[0].id, "x.0");
  EXPECT_EQ(requests[1].id, "x.1");
  EXPECT_EQ(requests[1].tenant, "t");
}

TEST(CompletionCall, RefusedPartCancelsThoseBefore) {
  // Accepts one, refuses the second.
  class OneOnly : public FakeService {
   public:
    OneOnly() : FakeService({.delay_ms = 5, .endless = true}) {}
    std::optional<Refused> submit(CompletionRequest r, std::shared_ptr<CompletionSink> s) override {
      if (n++ == 1) return Refused{Refusal::kQueueFull, "full", 1};
      return FakeService::submit(std::move(r), std::move(s));
    }
    int n = 0;
  } service;
  Metrics metrics;
  try {
    CompletionCall call(service, metrics, job_of(3), options("x"), [] {});
    FAIL();
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 429);
    EXPECT_EQ(e.retry_after_s, 1);
  }
  EXPECT_TRUE(service.wait_for_cancels(1));
}

TEST(CompletionCall, Item29readerThatNeverTakesAnythingIsCancelled) {
  FakeService service({.endless = true});
  Metrics metrics;
  std::atomic<int> n_wakes{0};
  CompletionCall call(service, metrics, job_of(1), options("x", 4096), [&] { n_wakes++; });
  while (!call.overflowed()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GE(n_wakes, 2);  // there is something; it is too much
  call.pump();
  EXPECT_TRUE(call.ended());
  EXPECT_EQ(call.error()->status, 503);
  EXPECT_TRUE(service.wait_for_cancels(1));
}

TEST(CompletionCall, WakesOncePerBatchOfEvents) {
  auto n_wakes = std::make_shared<std::atomic<int>>(0);
  const auto channel = std::make_shared<CompletionChannel>(1 << 20, [n_wakes] { ++*n_wakes; });
  const auto sink = channel->sink(0);
  for (int i = 0; i < 10; i++) sink->on_delta(text_delta());
  EXPECT_EQ(*n_wakes, 1);
  EXPECT_EQ(channel->take().size(), 10u);
  sink->on_delta(text_delta());
  EXPECT_EQ(*n_wakes, 2);
  channel->close();
  sink->on_delta(text_delta());
  sink->on_end({}, nullptr);
  EXPECT_EQ(*n_wakes, 2);
  EXPECT_TRUE(channel->take().empty());
}

TEST(CompletionCall, OneEventMayExceedTheBound) {
  const auto channel = std::make_shared<CompletionChannel>(100, [] {});
  const auto sink = channel->sink(0);
  sink->on_prompt_logprobs(std::vector<TokenLogprob>(1000));
  EXPECT_FALSE(channel->overflowed());
  sink->on_end({}, nullptr);  // always fits
  EXPECT_FALSE(channel->overflowed());
  EXPECT_EQ(channel->take().size(), 2u);
}

TEST(ApiErrors, CodesAndShapes) {
  const auto status = [](Code code) {
    return as_api_error(std::make_exception_ptr(Error(code, "m"))).status;
  };
  EXPECT_EQ(status(Code::kInvalidArgument), 400);
  EXPECT_EQ(status(Code::kUnimplemented), 400);
  EXPECT_EQ(status(Code::kNotFound), 404);
  EXPECT_EQ(status(Code::kResourceExhausted), 503);
  EXPECT_EQ(status(Code::kIo), 500);
  EXPECT_EQ(status(Code::kInternal), 500);
  // Item 36: one request finds no memory, the server stays.
  EXPECT_EQ(as_api_error(std::make_exception_ptr(std::bad_alloc())).status, 503);
  EXPECT_EQ(as_api_error(std::make_exception_ptr(5)).status, 500);
  const ApiError error(400, "broken \xFF text", "p", "c");
  EXPECT_EQ(error_json(error, ErrorShape::kOllama), "{\"error\":\"broken \xEF\xBF\xBD text\"}");
}

}  // namespace
}  // namespace hob
