// Over real sockets: what a client sees, and what the server does when the client misbehaves.
#include "serve/http_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"

#include "unit/serve/fake_service_util.h"
#include "unit/serve/raw_client_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT
using nlohmann::json;

class HttpServerTest : public ::testing::Test {
 protected:
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

TEST_F(HttpServerTest, Item28bodyTooLarge) {
  config.max_body_bytes = 1000;
  begin();
  RawReply reply = client().ask(post_text("/v1/completions", std::string(1001, ' ')));
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(json::parse(reply.body)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(reply.header("Connection"), "close");
  // In chunks, without a length: the same limit.
  reply = client().ask(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3e9\r\n" +
      std::string(1001, ' ') + "\r\n");
  EXPECT_EQ(reply.status, 413);
  // A length beyond anything.
  reply = client().ask(
      "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(client().ask(post_text("/v1/completions", std::string(1000, ' '))).status, 400);
}

TEST_F(HttpServerTest, Item28headTooLarge) {
  begin();
  EXPECT_EQ(client()
                .ask("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20'000, 'x') +
                     "\r\n\r\n")
                .status,
            431);
  std::string many = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 3000; i++) many += "X: y\r\n";
  EXPECT_EQ(client().ask(many + "\r\n").status, 431);
  EXPECT_EQ(client().ask("GET /" + std::string(20'000, 'a')).status, 431);  // and no end
}

TEST_F(HttpServerTest, Item28contentLengthThatLies) {
  limits.body_time = HttpLimits::Duration(300);
  begin();
  // Too short a body: it never ends.
  RawReply reply =
      client().ask("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{}");
  EXPECT_EQ(reply.status, 408);
  // Too long: the rest is the next request, and a bad one.
  RawClient c = client();
  c.send("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}{}\r\n\r\n");
  EXPECT_EQ(c.read().status, 200);
  EXPECT_EQ(c.read().status, 400);
}

TEST_F(HttpServerTest, Item28malformedHeads) {
  begin();
  const std::string host = "Host: localhost\r\n";
  for (const std::string& bad :
       {std::string("\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("GET /health\r\n\r\n"),
        "GET /health HTTP/1.1\r\nNo colon\r\n" + host + "\r\n",
        "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\n" + host + "Content-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\n" + host +
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /\x01 HTTP/1.1\r\n" + host + "\r\n",
        std::string("GET /health HTTP/1.1\r\nX: a\0b\r\n", 30) + host + "\r\n"})
    EXPECT_EQ(client().ask(bad).status, 400) << bad;
  EXPECT_EQ(client().ask("GET /health HTTP/3.0\r\n" + host + "\r\n").status, 505);
  EXPECT_EQ(client().ask("GET /health HTTP/1.1\r\n\r\n").status, 400);  // no Host
}

TEST_F(HttpServerTest, Item28crlfInjectionStaysOutOfTheReply) {
  begin();
  const RawReply reply = client().ask(
      "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a%0d%0aSet-Cookie: x\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("Set-Cookie"), "");
  EXPECT_NE(reply.header("X-Request-Id"), "");
}

TEST_F(HttpServerTest, Item28pipelining) {
  begin();
  RawClient c = client();
  c.send(post_chat(R"(,"stream":true)") + "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" +
         post_chat());
  EXPECT_TRUE(c.read().body.ends_with("[DONE]\n\n"));
  EXPECT_EQ(c.read().body, R"({"status":"ok"})");
  EXPECT_NE(c.read().body.find("Hello there"), std::string::npos);
}

TEST_F(HttpServerTest, Item28expect100Continue) {
  begin();
  RawClient c = client();
  c.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
      "Content-Length: 14\r\n\r\n");
  EXPECT_EQ(c.read().status, 100);
  c.send(R"({"prompt":"x"})");
  EXPECT_EQ(c.read().status, 200);
  EXPECT_EQ(
      client().ask("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n").status,
      417);
}

TEST_F(HttpServerTest, Item28http10) {
  begin();
  RawClient c = client();
  RawReply reply = c.ask("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(c.closed_by_server());
  // A stream in HTTP/1.0 has no chunks: its end is the connection's.
  const std::string body = chat(R"(,"stream":true)");
  reply = client().ask("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " +
                       std::to_string(body.size()) + "\r\n\r\n" + body);
  EXPECT_EQ(reply.header("Transfer-Encoding"), "");
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(HttpServerTest, Item28headAndOptions) {
  begin();
  RawClient c = client();
  c.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(c.read(10'000, true).header("Content-Length"), "15");
  const RawReply reply = c.ask("OPTIONS /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(reply.status, 204);
  EXPECT_EQ(reply.header("Allow"), "OPTIONS, GET, HEAD");
  EXPECT_EQ(c.ask("DELETE /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
}

TEST_F(HttpServerTest, Item29slowLoris) {
  limits.header_time = HttpLimits::Duration(300);
  begin();
  RawClient c = client();
  c.send("GET /health HTTP/1.1\r\nHost: local");
  EXPECT_EQ(c.read().status, 408);
  EXPECT_TRUE(c.closed_by_server());
  // Byte by byte does not help: the limit is for the whole head.
  RawClient slow = client();
  const auto start = std::chrono::steady_clock::now();
  const std::string head = "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(500, 'x');
  for (char byte : head) {
    if (!slow.send(std::string(1, byte))) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds(2)) break;
  }
  EXPECT_EQ(slow.read().status, 408);
}

TEST_F(HttpServerTest, Item29idleConnectionsAreClosed) {
  limits.header_time = HttpLimits::Duration(2000);
  limits.idle_time = HttpLimits::Duration(300);
  begin();
  RawClient c = client();
  EXPECT_TRUE(c.closed_by_server());
  RawClient second = client();
  EXPECT_EQ(second.ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
  EXPECT_TRUE(second.closed_by_server());
}

TEST_F(HttpServerTest, Item29disconnectBeforeTheStreamBegins) {
  begin({.delay_ms = 60'000});
  RawClient c = client();
  c.send(post_chat(R"(,"stream":true)"));
  ASSERT_TRUE(fake->service.wait_for_requests(1));
  c.close();
  EXPECT_TRUE(fake->service.wait_for_cancels(1));
}

TEST_F(HttpServerTest, Item29disconnectWhileWaitingForAWholeAnswer) {
  begin({.delay_ms = 60'000});
  RawClient c = client();
  c.send(post_chat());
  ASSERT_TRUE(fake->service.wait_for_requests(1));
  c.close();
  EXPECT_TRUE(fake->service.wait_for_cancels(1));
}

TEST_F(HttpServerTest, Item29disconnectInTheMiddleOfAStream) {
  begin({.delay_ms = 2, .endless = true});
  RawClient c = client();
  c.send(post_chat(R"(,"stream":true)"));
  c.read_some(500);
  c.close();
  EXPECT_TRUE(fake->service.wait_for_cancels(1));
}

TEST_F(HttpServerTest, Item29halfClose) {
  begin();
  // Of a plain request: it is answered. While the engine works: as a disconnect.
  RawClient c = client();
  c.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  c.finish_sending();
  EXPECT_EQ(c.read().status, 200);
  EXPECT_TRUE(c.closed_by_server());
}

TEST_F(HttpServerTest, Item29clientThatNeverReads) {
  limits.write_time = HttpLimits::Duration(500);
  limits.max_buffered_bytes = 64 << 10;
  begin({.endless = true});
  fake->service.max_len = 1 << 30;
  RawClient c = client();
  c.shrink_receive_buffer();
  c.send(post_chat(R"(,"stream":true)"));
  EXPECT_TRUE(fake->service.wait_for_cancels(1, 20'000));
  // Others do not notice.
  EXPECT_EQ(client().ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
}

TEST_F(HttpServerTest, Item29clientThatReadsNothingAndTheAnswerIsShort) {
  begin();
  RawClient c = client();
  for (int i = 0; i < 20; i++) c.send(post_chat());
  EXPECT_EQ(client().ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
}

TEST_F(HttpServerTest, ThousandSlowClientsDoNotStarveHealth) {
  limits.header_time = HttpLimits::Duration(60'000);
  limits.max_connections = 400;  // fewer than there are clients
  begin();
  std::vector<RawClient> slow;
  for (int i = 0; i < 1000; i++) {
    slow.push_back(client());
    if (i % 2 == 0) slow.back().send("GET /health HTTP/1.1\r\nHost: lo");
    if (i >= 480) slow.erase(slow.begin());  // the test's own files are limited too
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(client().ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_LE(server->n_connections(), 401);
}

TEST_F(HttpServerTest, BodiesOfAllClientsTogetherAreLimited) {
  limits.max_bodies_bytes = 100'000;
  begin();
  RawClient holder = client();  // 90 kB of 95 kB, and then waits
  holder.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 95000\r\n\r\n" +
              std::string(90'000, ' '));
  for (int i = 0; i < 100; i++) {  // until they have arrived
    const RawReply reply = client().ask(post_text("/tokenize", std::string(50'000, ' ')));
    if (reply.status == 503) {
      EXPECT_EQ(reply.header("Retry-After"), "1");
      holder.close();
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  FAIL() << "expected a 503";
}

TEST_F(HttpServerTest, PingsWhileThePromptIsRead) {
  limits.ping_interval = HttpLimits::Duration(30);
  begin({.answer = "ab", .delay_ms = 200});
  RawClient c = client();
  const RawReply reply = c.ask(post_chat(R"(,"stream":true)"));
  EXPECT_TRUE(reply.body.starts_with(": ping\n\n: ping\n\n")) << reply.body;
  EXPECT_TRUE(reply.body.ends_with("[DONE]\n\n"));
}

TEST_F(HttpServerTest, FailureAfterAPingIsInTheStream) {
  limits.ping_interval = HttpLimits::Duration(30);
  begin({.delay_ms = 200,
         .error = std::make_exception_ptr(std::runtime_error("lost")),
         .n_before_error = 1});
  const RawReply reply = client().ask(post_chat(R"(,"stream":true)"));
  EXPECT_EQ(reply.status, 200);
  EXPECT_NE(reply.body.find("\"message\":\"lost\""), std::string::npos);
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(HttpServerTest, RepliesCarryTheRequestId) {
  begin();
  const RawReply reply =
      client().ask(post_text("/v1/completions", R"({"prompt":"x"})", "X-Request-Id: my-id\r\n"));
  EXPECT_EQ(reply.header("X-Request-Id"), "my-id");
  EXPECT_EQ(json::parse(reply.body)["id"], "cmpl-my-id");
}

TEST_F(HttpServerTest, SameRequestIdAtTheSameTime) {
  begin({.delay_ms = 5});
  std::vector<RawClient> clients;
  for (int i = 0; i < 4; i++) {
    clients.push_back(client());
    clients.back().send(post_text("/v1/completions", R"({"prompt":"x"})", "X-Request-Id: a\r\n"));
  }
  for (RawClient& c : clients) EXPECT_EQ(c.read().status, 200);
}

TEST_F(HttpServerTest, DrainingFinishesWhatRunsAndRefusesWhatIsNew) {
  begin({.delay_ms = 20});
  RawClient running = client();
  running.send(post_chat(R"(,"stream":true)"));
  ASSERT_TRUE(fake->service.wait_for_requests(1));
  fake->state.set_draining();
  fake->service.drain();
  const RawReply refused = client().ask(post_chat());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("Connection"), "close");
  EXPECT_TRUE(running.read().body.ends_with("[DONE]\n\n"));
}

TEST_F(HttpServerTest, StopEndsEverythingAtOnce) {
  begin({.delay_ms = 60'000});
  RawClient c = client();
  c.send(post_chat());
  ASSERT_TRUE(fake->service.wait_for_requests(1));
  server->stop();
  EXPECT_TRUE(c.closed_by_server());
  EXPECT_TRUE(fake->service.wait_for_cancels(1));
}

TEST_F(HttpServerTest, ManyClientsAtOnce) {
  begin({.delay_ms = 1});
  std::vector<std::thread> threads;
  std::atomic<int> n_good{0};
  for (int i = 0; i < 16; i++)
    threads.emplace_back([&, i] {
      RawClient c = client();
      for (int k = 0; k < 5; k++) {
        const RawReply reply = c.ask(post_chat(i % 2 ? R"(,"stream":true)" : R"(,"n":2)"));
        if (reply.status == 200 && reply.body.size() > 100) n_good++;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(n_good, 80);
}

TEST(HttpServerStart, PortInUseAndBadHost) {
  FakeServer fake;
  HttpServer first(fake.config, 0, {}, {}, fake.state);
  EXPECT_THROW(HttpServer(fake.config, first.port(), {}, {}, fake.state), Error);
  ServeConfig bad;
  bad.host = "no such host!";
  EXPECT_THROW(HttpServer(bad, 0, {}, {}, fake.state), Error);
  EXPECT_THROW(HttpServer(fake.config, 0, {}, {"/no/cert.pem", "/no/key.pem"}, fake.state), Error);
}

}  // namespace
}  // namespace hob
