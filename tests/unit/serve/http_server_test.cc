// Over real sockets: what a client sees, and what the server does when the client misbehaves.
#include "serve/http_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "unit/serve/fake_service_util.h"
#include "unit/serve/raw_client_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT
using nlohmann::json;

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    // Short, so that tests are; tests that need others set them before begin().
    limits.header_time = HttpLimits::Duration(300);
    limits.body_time = HttpLimits::Duration(300);
    limits.idle_time = HttpLimits::Duration(300);
    limits.write_time = HttpLimits::Duration(500);
  }
  void begin(FakeService::Script script = {}) {
    fake = std::make_unique<FakeServer>(std::move(script));
    fake->config = config;
    server = std::make_unique<HttpServer>(config, 0, limits, TlsFiles{}, fake->state);
    server->start();
  }
  ~HttpServerTest() override { server.reset(); }
  RawClient client() { return RawClient(server->port()); }
  static std::string chat(const std::string& more = "") {
    return R"({"messages":[{"role":"user","content":"Hi"}])" + more + "}";
  }
  std::string post_chat(const std::string& more = "") {
    return post_text("/v1/chat/completions", chat(more));
  }

  HttpLimits limits;
  ServeConfig config;
  std::unique_ptr<FakeServer> fake;
  std::unique_ptr<HttpServer> server;
};

TEST_F(HttpServerTest, HealthAnswersWhileTheModelLoads) {
  begin();
  fake->state.set_model(nullptr);
  RawClient c = client();
  EXPECT_EQ(c.ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
  EXPECT_EQ(c.ask("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 503);
  const RawReply reply = c.ask(post_chat());
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("Retry-After"), "5");
}

TEST_F(HttpServerTest, ChatAnswers) {
  begin();
  RawClient c = client();
  const RawReply reply = c.ask(post_chat());
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = json::parse(reply.body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hello there");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["completion_tokens"], 11);
}

TEST_F(HttpServerTest, ChatStreamsInChunksAndTheConnectionLivesOn) {
  begin();
  RawClient c = client();
  for (int i = 0; i < 2; i++) {
    const RawReply reply = c.ask(post_chat(R"(,"stream":true)"));
    ASSERT_EQ(reply.status, 200);
    EXPECT_EQ(reply.header("Transfer-Encoding"), "chunked");
    EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n")) << reply.body;
  }
}

}  // namespace
}  // namespace hob
