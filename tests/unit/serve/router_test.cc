// Routes, keys, hosts, origins. Ref: research notes, serving §5.2 item 28.
#include "serve/router.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "serve/http_wire.h"
#include "unit/serve/fake_service_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT
using nlohmann::json;

HttpRequest with_method(const std::string& method, const std::string& target) {
  HttpRequest request = get(target);
  request.method = method;
  return request;
}

HttpRequest with_header(HttpRequest request, const std::string& name, const std::string& value) {
  std::erase_if(request.headers, [&](const auto& h) { return h.first == name; });
  request.headers.emplace_back(name, value);
  return request;
}

std::string header(const HttpReply& reply, const std::string& name) {
  const std::string* value = find_header(reply.headers, name);
  return value ? *value : "";
}

TEST(Router, Item28unknownRoute) {
  FakeServer fake;
  for (const char* path :
       {"/v1/none", "/v2/models", "/v1/models/", "/health/", "/..", "//", "/%2e"}) {
    const HttpReply reply = fake.reply(get(path));
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(json::parse(reply.body)["error"]["type"], "not_found_error");
  }
}

TEST(Router, Item28badTargets) {
  FakeServer fake;
  for (const char* path : {"", "health", "/%", "/%zz", "/%1"})
    EXPECT_EQ(fake.reply(get(path)).status, 400) << path;
  EXPECT_EQ(fake.reply(get("/health?x=%zz")).status, 200);  // the query is not ours
  EXPECT_EQ(fake.reply(get("http://localhost/health")).status, 200);
  EXPECT_EQ(fake.reply(get("/%68ealth")).status, 200);
}

TEST(Router, Item28methods) {
  FakeServer fake;
  HttpReply reply = fake.reply(with_method("DELETE", "/v1/models"));
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(header(reply, "Allow"), "OPTIONS, GET, HEAD");
  reply = fake.reply(get("/v1/chat/completions"));
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(header(reply, "Allow"), "OPTIONS, POST");
  EXPECT_EQ(fake.reply(with_method("HEAD", "/health")).status, 200);
  reply = fake.reply(with_method("OPTIONS", "/v1/models"));
  EXPECT_EQ(reply.status, 204);
  EXPECT_EQ(header(reply, "Allow"), "OPTIONS, GET, HEAD");
  EXPECT_EQ(fake.reply(with_method("OPTIONS", "*")).status, 204);
  EXPECT_EQ(fake.reply(with_method("BREW", "/health")).status, 405);
}

TEST(Router, Item28wrongContentType) {
  FakeServer fake;
  const HttpRequest good = post("/tokenize", R"({"prompt":"x"})");
  EXPECT_EQ(fake.reply(with_header(good, "Content-Type", "text/plain")).status, 415);
  EXPECT_EQ(
      fake.reply(with_header(good, "Content-Type", "application/x-www-form-urlencoded")).status,
      415);
  EXPECT_EQ(fake.reply(with_header(good, "Content-Type", "application/json; charset=utf-8")).status,
            200);
  EXPECT_EQ(fake.reply(with_header(good, "Content-Type", "Application/JSON")).status, 200);
  // As Ollama: curl -d without a header works.
  EXPECT_EQ(fake.reply(with_header(post("/api/show", R"({"model":"fake"})"), "Content-Type",
                                   "application/x-www-form-urlencoded"))
                .status,
            200);
}

TEST(Router, RequestIdIsHonouredWhenItIsHarmless) {
  FakeServer fake;
  const auto id_of = [&](const std::string& given) {
    HttpRequest request = with_header(get("/health"), "X-Request-Id", given);
    return *find_header(route(fake.context(), request).headers, "X-Request-Id");
  };
  EXPECT_EQ(id_of("abc-1.2:3_4"), "abc-1.2:3_4");
  for (const std::string& bad :
       {std::string(""), std::string("a b"), std::string("a\"b"), std::string("\xC3\xA4"),
        std::string("a\r\nSet-Cookie: x"), std::string(129, 'a')}) {
    EXPECT_NE(id_of(bad), bad);
    EXPECT_FALSE(id_of(bad).empty());
  }
}

TEST(Auth, EverythingButHealthIsProtected) {
  FakeServer fake;
  fake.config.keys = ApiKeys::from_text("# mine\n\n  secret-1 \r\nsecret-2", "test");
  for (const Route& route : route_table()) {
    HttpRequest request = with_method(std::string(route.method), std::string(route.path));
    const int status = fake.reply(request).status;
    if (route.path == "/health")
      EXPECT_EQ(status, 200);
    else
      EXPECT_EQ(status, 401) << route.path;
  }
  EXPECT_EQ(fake.reply(get("/no-such-route")).status, 401);  // nobody learns what there is
}

TEST(Auth, Keys) {
  FakeServer fake;
  fake.config.keys = ApiKeys::from_text("secret-1\nsecret-2\n", "test");
  const auto status = [&](const std::string& name, const std::string& value) {
    return fake.reply(with_header(get("/v1/models"), name, value)).status;
  };
  EXPECT_EQ(status("Authorization", "Bearer secret-1"), 200);
  EXPECT_EQ(status("Authorization", "bearer  secret-2 "), 200);
  EXPECT_EQ(status("X-API-Key", "secret-1"), 200);
  for (const char* bad : {"Bearer secret-3", "Bearer secret-", "Bearer secret-11", "Bearer",
                          "Bearer ", "secret-1", "Basic secret-1", "", "Bearer # mine"})
    EXPECT_EQ(status("Authorization", bad), 401) << bad;
  EXPECT_EQ(status("X-API-Key", ""), 401);
  const HttpReply reply = fake.reply(get("/v1/models"));
  EXPECT_EQ(header(reply, "WWW-Authenticate"), "Bearer");
  EXPECT_EQ(json::parse(reply.body)["error"]["code"], "invalid_api_key");
}

TEST(Auth, TenantsDifferByKeyAndDoNotRevealIt) {
  const ApiKeys keys = ApiKeys::from_text("secret-1\nsecret-2\n", "test");
  const std::string one = keys.tenant_of({{"Authorization", "Bearer secret-1"}});
  EXPECT_EQ(one, keys.tenant_of({{"X-API-Key", "secret-1"}}));
  EXPECT_NE(one, keys.tenant_of({{"X-API-Key", "secret-2"}}));
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(one.find("secret"), std::string::npos);
}

TEST(Auth, BadKeyFiles) {
  EXPECT_THROW(ApiKeys::from_text("", "t"), Error);
  EXPECT_THROW(ApiKeys::from_text("# only\n\n", "t"), Error);
  EXPECT_THROW(ApiKeys::from_text("two words\n", "t"), Error);
  EXPECT_THROW(ApiKeys::from_text("k\xC3\xA4y\n", "t"), Error);
  EXPECT_THROW(ApiKeys::from_file("/does/not/exist"), Error);
}

TEST(Access, HostsAgainstDnsRebinding) {
  FakeServer fake;
  fake.config.host = "box.lan";
  fake.config.allow_hosts = {"api.example.org"};
  const auto status = [&](const std::string& host) {
    return fake.reply(with_header(get("/health"), "Host", host)).status;
  };
  for (const char* good : {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080",
                           "[::1]", "192.168.1.7:8080", "box.lan", "api.example.org:443"})
    EXPECT_EQ(status(good), 200) << good;
  for (const char* foreign :
       {"attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example"})
    EXPECT_EQ(status(foreign), 421) << foreign;
  for (const char* bad : {"", "[::1", "a b", "localhost:x", "localhost:123456", "a/b", "<script>"})
    EXPECT_EQ(status(bad), 400) << bad;
  HttpRequest none = get("/health");
  none.headers.clear();
  EXPECT_EQ(fake.reply(none).status, 400);
  none.version = 10;
  EXPECT_EQ(fake.reply(none).status, 200);
  HttpRequest twice = get("/health");
  twice.headers.emplace_back("host", "localhost");
  EXPECT_EQ(fake.reply(twice).status, 400);
  fake.config.allow_hosts = {"*"};
  EXPECT_EQ(status("attacker.example"), 200);
}

TEST(Access, CorsIsOffUnlessAsked) {
  FakeServer fake;
  const auto ask = [&](const std::string& method, const std::string& origin) {
    HttpRequest request = with_header(with_method(method, "/health"), "Origin", origin);
    Routed routed = route(fake.context(), request);
    HttpReply reply = std::get<HttpReply>(std::move(routed.answer));
    reply.headers.insert(reply.headers.end(), routed.headers.begin(), routed.headers.end());
    return reply;
  };
  EXPECT_EQ(ask("GET", "https://evil.example").status, 403);
  EXPECT_EQ(ask("OPTIONS", "https://evil.example").status, 403);
  EXPECT_EQ(ask("GET", "null").status, 403);
  EXPECT_EQ(ask("GET", "http://localhost:8080").status, 200);  // our own pages
  EXPECT_EQ(header(ask("GET", "http://localhost:8080"), "Access-Control-Allow-Origin"), "");
  fake.config.cors_origin = "https://app.example";
  EXPECT_EQ(ask("GET", "https://evil.example").status, 403);
  EXPECT_EQ(header(ask("GET", "https://app.example"), "Access-Control-Allow-Origin"),
            "https://app.example");
  const HttpReply preflight = ask("OPTIONS", "https://app.example");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_NE(header(preflight, "Access-Control-Allow-Headers").find("Authorization"),
            std::string::npos);
  fake.config.cors_origin = "*";
  EXPECT_EQ(header(ask("GET", "https://evil.example"), "Access-Control-Allow-Origin"), "*");
}

TEST(Access, PreflightNeedsNoKey) {
  FakeServer fake;
  fake.config.keys = ApiKeys::from_text("k", "t");
  fake.config.cors_origin = "*";
  EXPECT_EQ(
      fake.reply(with_header(with_method("OPTIONS", "/v1/models"), "Origin", "https://a.b")).status,
      204);
}

TEST(Loading, EverythingThatNeedsTheModelWaits) {
  FakeServer fake;
  fake.state.set_model(nullptr);
  fake.state.set_progress("experts", 0.5);
  for (const char* path : {"/ready", "/v1/models", "/api/tags", "/api/ps"}) {
    const HttpReply reply = fake.reply(get(path));
    EXPECT_EQ(reply.status, 503) << path;
    EXPECT_NE(header(reply, "Retry-After"), "");
    EXPECT_NE(reply.body.find("experts (50 %)"), std::string::npos) << reply.body;
  }
  for (const char* path : {"/health", "/metrics", "/version", "/api/version"})
    EXPECT_EQ(fake.reply(get(path)).status, 200) << path;
}

TEST(Loading, DrainingIsNotReady) {
  FakeServer fake;
  EXPECT_EQ(fake.reply(get("/ready")).status, 200);
  fake.state.set_draining();
  EXPECT_EQ(fake.reply(get("/ready")).status, 503);
  EXPECT_EQ(fake.reply(get("/health")).status, 200);
}

TEST(OpenApi, DescribesEveryRouteAndNoOther) {
  std::ifstream file(HOB_SOURCE_DIR "/docs/openapi.yaml");
  ASSERT_TRUE(file);
  std::set<std::string> described, served;
  std::string path;
  bool in_paths = false;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(" ")) in_paths = line == "paths:";
    if (!in_paths) continue;
    if (line.starts_with("  /")) path = line.substr(2, line.size() - 3);
    if (line == "    get:") described.insert("GET " + path);
    if (line == "    post:") described.insert("POST " + path);
  }
  for (const Route& route : route_table())
    served.insert(std::string(route.method) + " " + std::string(route.path));
  EXPECT_EQ(described, served);
}

TEST(Wire, Heads) {
  HttpReply reply;
  reply.body = "{}";
  std::string text = render_reply(reply, {});
  EXPECT_TRUE(text.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(text.ends_with("Content-Length: 2\r\n\r\n{}"));
  text = render_reply(reply, {.version = 10, .keep_alive = false, .head_only = true});
  EXPECT_TRUE(text.starts_with("HTTP/1.0 "));
  EXPECT_TRUE(text.ends_with("Content-Length: 2\r\n\r\n"));
  EXPECT_NE(text.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(render_chunk("abcdefghijklmnop", {}), "10\r\nabcdefghijklmnop\r\n");
  EXPECT_EQ(render_chunk("", {}), "");
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

}  // namespace
}  // namespace hob
