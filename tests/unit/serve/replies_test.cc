// What OpenAI's and Ollama's clients read.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "serve/logprobs_json.h"
#include "unit/serve/fake_service_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT
using nlohmann::json;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kText = "/v1/completions";

std::string chat_body(const std::string& more = "") {
  return R"({"messages":[{"role":"user","content":"Hi"}])" + more + "}";
}

// The JSON of every "data:" line; the last must be [DONE].
std::vector<json> events(const std::string& stream) {
  std::vector<json> out;
  std::istringstream lines(stream);
  bool done = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == ':') continue;
    EXPECT_TRUE(line.starts_with("data: ")) << line;
    EXPECT_FALSE(done) << "after [DONE]: " << line;
    if (line == "data: [DONE]")
      done = true;
    else
      out.push_back(json::parse(line.substr(6)));
  }
  EXPECT_TRUE(done);
  return out;
}

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) out.push_back(json::parse(line));
  return out;
}

TEST(ChatReply, Whole) {
  FakeServer fake;
  HttpRequest request = post(kChat, chat_body(R"(,"n":2)"));
  request.headers.emplace_back("X-Request-Id", "abc-1");
  const json body = json::parse(fake.reply(request).body);
  EXPECT_EQ(body["id"], "chatcmpl-abc-1");
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "fake");
  ASSERT_EQ(body["choices"].size(), 2u);
  for (size_t i = 0; i < 2; i++) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["message"]["role"], "assistant");
    EXPECT_EQ(body["choices"][i]["message"]["content"], "Hello there");
    EXPECT_EQ(body["choices"][i]["finish_reason"], "stop");
    EXPECT_TRUE(body["choices"][i]["logprobs"].is_null());
  }
  const json usage = body["usage"];
  EXPECT_EQ(usage["completion_tokens"], 22);
  EXPECT_EQ(usage["total_tokens"].get<int>(), usage["prompt_tokens"].get<int>() + 22);
}

TEST(ChatReply, StreamBeginsWithTheRoleAndEndsWithTheReason) {
  FakeServer fake;
  const HttpReply reply = fake.reply(post(kChat, chat_body(R"(,"stream":true,"max_tokens":3)")));
  EXPECT_EQ(reply.content_type, "text/event-stream; charset=utf-8");
  const std::vector<json> chunks = events(reply.body);
  ASSERT_EQ(chunks.size(), 5u);
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], json({{"role", "assistant"}, {"content", ""}}));
  std::string text;
  for (size_t i = 1; i < 4; i++)
    text += chunks[i]["choices"][0]["delta"]["content"].get<std::string>();
  EXPECT_EQ(text, "Hel");
  EXPECT_EQ(chunks[4]["choices"][0]["delta"], json::object());
  EXPECT_EQ(chunks[4]["choices"][0]["finish_reason"], "length");
  for (const json& chunk : chunks) {
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_EQ(chunk["id"], chunks[0]["id"]);
    EXPECT_FALSE(chunk.contains("usage"));
  }
}

TEST(ChatReply, StreamUsageOnRequest) {
  FakeServer fake;
  const HttpReply reply = fake.reply(
      post(kChat, chat_body(R"(,"stream":true,"stream_options":{"include_usage":true})")));
  const std::vector<json> chunks = events(reply.body);
  for (size_t i = 0; i + 1 < chunks.size(); i++) EXPECT_TRUE(chunks[i]["usage"].is_null());
  EXPECT_EQ(chunks.back()["choices"], json::array());
  EXPECT_EQ(chunks.back()["usage"]["completion_tokens"], 11);
}

TEST(ChatReply, Logprobs) {
  FakeServer fake;
  const json body = json::parse(
      fake.reply(post(kChat, chat_body(R"(,"logprobs":true,"top_logprobs":2,"max_tokens":2)")))
          .body);
  const json content = body["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["token"], "H");
  EXPECT_EQ(content[0]["bytes"], json({'H'}));
  EXPECT_EQ(content[0]["logprob"], -0.5);
  ASSERT_EQ(content[0]["top_logprobs"].size(), 2u);
  EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "I");
}

TEST(ChatReply, FailureBeforeTheFirstTokenHasAStatus) {
  FakeServer fake({.error = std::make_exception_ptr(Error(Code::kIo, "[io] expert lost"))});
  for (const char* stream : {"false", "true"}) {
    const HttpReply reply =
        fake.reply(post(kChat, chat_body(std::string(R"(,"stream":)") + stream)));
    EXPECT_EQ(reply.status, 500);
    EXPECT_EQ(json::parse(reply.body)["error"]["message"], "[io] expert lost");
  }
}

TEST(ChatReply, Item42FailureInAStreamIsAnEventInTheStream) {
  FakeServer fake({.error = std::make_exception_ptr(Error(Code::kInternal, "[sampling] NaN")),
                   .n_before_error = 2});
  const HttpReply reply = fake.reply(post(kChat, chat_body(R"(,"stream":true)")));
  EXPECT_EQ(reply.status, 200);
  const std::vector<json> chunks = events(reply.body);
  EXPECT_EQ(chunks.back()["error"]["message"], "[sampling] NaN");
  EXPECT_EQ(chunks.back()["error"]["type"], "server_error");
}

TEST(ChatReply, Item35DeadlineIsATimeout) {
  FakeServer fake({.finish = FinishReason::kDeadline});
  const HttpReply reply = fake.reply(post(kChat, chat_body()));
  EXPECT_EQ(reply.status, 504);
  EXPECT_EQ(json::parse(reply.body)["error"]["code"], "deadline");
}

TEST(TextReply, EchoAndLogprobsAsLmEvalReadsThem) {
  FakeServer fake;
  const json body =
      json::parse(fake.reply(post(kText, R"({"prompt":[65,66,67],"echo":true,"logprobs":1,)"
                                         R"("max_tokens":1,"temperature":0})"))
                      .body);
  const json choice = body["choices"][0];
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(choice["text"], "ABCH");
  const json logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json({"A", "B", "C", "H"}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 1, 2, 3}));
  EXPECT_EQ(logprobs["token_logprobs"], json({nullptr, -1.5, -1.5, -0.5}));
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  // The best one and the token itself.
  EXPECT_EQ(logprobs["top_logprobs"][1], json({{"z", -0.25}, {"B", -1.5}}));
  EXPECT_EQ(fake.service.requests()[0].n_prompt_logprobs, 1);
}

TEST(TextReply, EchoAloneWithMaxTokensZero) {
  FakeServer fake;
  const json body =
      json::parse(fake.reply(post(kText, R"({"prompt":"AB","echo":true,"max_tokens":0})")).body);
  EXPECT_EQ(body["choices"][0]["text"], "AB");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 0);
}

TEST(TextReply, StreamWithEcho) {
  FakeServer fake;
  const auto chunks = events(
      fake.reply(post(kText,
                      R"({"prompt":"AB","echo":true,"logprobs":0,"max_tokens":2,"stream":true})"))
          .body);
  std::string text;
  json tokens = json::array(), offsets = json::array();
  for (const json& chunk : chunks) {
    text += chunk["choices"][0]["text"].get<std::string>();
    if (chunk["choices"][0]["logprobs"].is_null()) continue;
    for (const json& t : chunk["choices"][0]["logprobs"]["tokens"]) tokens.push_back(t);
    for (const json& o : chunk["choices"][0]["logprobs"]["text_offset"]) offsets.push_back(o);
  }
  EXPECT_EQ(text, "ABHe");
  EXPECT_EQ(tokens, json({"<s>", "A", "B", "H", "e"}));
  EXPECT_EQ(offsets, json({0, 3, 4, 5, 6}));
  EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "length");
}

TEST(TextReply, SeveralPromptsAreNumberedThrough) {
  FakeServer fake;
  const json body = json::parse(
      fake.reply(post(kText, R"({"prompt":["A","BB"],"n":2,"echo":true,"max_tokens":1})")).body);
  ASSERT_EQ(body["choices"].size(), 4u);
  const char* expected[] = {"AH", "AH", "BBH", "BBH"};
  for (size_t i = 0; i < 4; i++) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], expected[i]);
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
}

TEST(TextReply, PromptLogprobsAsVllm) {
  FakeServer fake;
  const json body = json::parse(
      fake.reply(post(kText, R"({"prompt":[65,66],"prompt_logprobs":1,"max_tokens":1})")).body);
  const json list = body["choices"][0]["prompt_logprobs"];
  ASSERT_EQ(list.size(), 2u);
  EXPECT_TRUE(list[0].is_null());
  EXPECT_EQ(list[1]["66"]["rank"], 2);
  EXPECT_EQ(list[1]["122"]["decoded_token"], "z");
}

TEST(LogprobsJson, Item43BrokenUtf8AndOffsetsInCharacters) {
  EXPECT_EQ(count_chars("a\xC3\xA4\xE2\x82\xAC\xFF"), 4u);
  ByteTokenizer tokenizer;
  size_t n_chars = 0;
  const OrderedJson out = text_logprobs(
      {{.token = 0xC3, .logprob = -INFINITY, .rank = 1, .top = {}}}, tokenizer, n_chars, false);
  EXPECT_EQ(json::parse(dump_json(out))["tokens"][0], "\xEF\xBF\xBD");
  EXPECT_EQ(out["token_logprobs"][0], -9999.0);  // JSON has no infinity
}

TEST(Models, ListAndShow) {
  FakeServer fake;
  const json list = json::parse(fake.reply(get("/v1/models")).body);
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], "fake");
  EXPECT_EQ(list["data"][0]["max_model_len"], 512);
  EXPECT_EQ(json::parse(fake.reply(get("/v1/models/gpt-fake")).body)["id"], "gpt-fake");
  EXPECT_EQ(fake.reply(get("/v1/models/none")).status, 404);
}

TEST(Tokenize, VllmsShapes) {
  FakeServer fake;
  json body = json::parse(
      fake.reply(post("/tokenize", R"({"prompt":"AB","return_token_strs":true})")).body);
  EXPECT_EQ(body["tokens"], json({256, 65, 66}));
  EXPECT_EQ(body["count"], 3);
  EXPECT_EQ(body["max_model_len"], 512);
  EXPECT_EQ(body["token_strs"], json({"<s>", "A", "B"}));
  body = json::parse(
      fake.reply(post("/tokenize", R"({"prompt":"AB","add_special_tokens":false})")).body);
  EXPECT_EQ(body["tokens"], json({65, 66}));
  body = json::parse(fake.reply(post("/tokenize", chat_body())).body);
  EXPECT_GT(body["count"], 10);
  EXPECT_EQ(json::parse(fake.reply(post("/detokenize", R"({"tokens":[65,66]})")).body)["prompt"],
            "AB");
  EXPECT_EQ(fake.reply(post("/detokenize", R"({"tokens":[999]})")).status, 400);
  EXPECT_EQ(fake.reply(post("/detokenize", "{}")).status, 400);
  EXPECT_EQ(fake.reply(post("/tokenize", "{}")).status, 400);
  // Fields that do not matter for this request are checked all the same.
  for (const char* more :
       {R"("add_special_tokens":1)", R"("prompt":1)", R"("return_token_strs":1)"})
    EXPECT_EQ(fake.reply(post("/tokenize", chat_body(more))).status, 400) << more;
}

TEST(Tokenize, InfoAsLmEvalReadsIt) {
  FakeServer fake;
  const json info = json::parse(fake.reply(get("/tokenizer_info")).body);
  EXPECT_EQ(info["vocab_size"], fake.tokenizer.n_vocab());
  EXPECT_EQ(info["eos_token"], fake.tokenizer.piece(fake.tokenizer.eos(), true));
  EXPECT_EQ(info["add_bos_token"], fake.tokenizer.adds_bos());
  EXPECT_EQ(info["model_max_length"], 512);
}

TEST(Ollama, ChatStreamsLines) {
  FakeServer fake;
  const HttpReply reply = fake.reply(post(
      "/api/chat",
      R"({"model":"fake:latest","messages":[{"role":"user","content":"Hi"}],)"
      R"("options":{"num_predict":2,"temperature":0,"seed":7,"stop":["x"]},"keep_alive":"5m"})"));
  EXPECT_EQ(reply.content_type, "application/x-ndjson");
  const std::vector<json> lines = lines_of(reply.body);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["message"], json({{"role", "assistant"}, {"content", "H"}}));
  EXPECT_EQ(lines[0]["done"], false);
  EXPECT_EQ(lines[2]["done"], true);
  EXPECT_EQ(lines[2]["done_reason"], "length");
  EXPECT_EQ(lines[2]["eval_count"], 2);
  const CompletionRequest r = fake.service.requests()[0];
  EXPECT_EQ(r.max_tok, 2);
  EXPECT_EQ(r.sampling.seed, 7u);
  EXPECT_EQ(r.sampling.temperature, 0.f);
  EXPECT_EQ(r.sampling.top_k, 40);  // Ollama's default
  EXPECT_EQ(r.stop, std::vector<std::string>{"x"});
}

TEST(Ollama, GenerateWhole) {
  FakeServer fake;
  const json body =
      json::parse(fake.reply(post("/api/generate",
                                  R"({"model":"fake","prompt":"Hi","raw":true,"stream":false})"))
                      .body);
  EXPECT_EQ(body["response"], "Hello there");
  EXPECT_EQ(body["done"], true);
  EXPECT_EQ(fake.service.requests()[0].prompt.size(), 3u);  // BOS H i: raw
}

TEST(Ollama, WithoutAPromptItSaysThatTheModelIsLoaded) {
  FakeServer fake;
  EXPECT_EQ(
      json::parse(fake.reply(post("/api/generate", R"({"model":"fake"})")).body)["done_reason"],
      "load");
  EXPECT_EQ(
      json::parse(fake.reply(post("/api/chat", R"({"model":"fake","messages":[],"keep_alive":0})"))
                      .body)["done_reason"],
      "unload");
  for (const char* path : {"/api/generate", "/api/chat"})
    EXPECT_EQ(fake.reply(post(path, R"({"model":"fake","options":{"top_k":-1}})")).status, 400);
}

TEST(Ollama, ErrorsHaveItsShape) {
  FakeServer fake;
  const auto error = [&](const std::string& path, const std::string& body, int status) {
    const HttpReply reply = fake.reply(post(path, body));
    EXPECT_EQ(reply.status, status) << body;
    return json::parse(reply.body)["error"].get<std::string>();
  };
  EXPECT_NE(error("/api/chat", R"({"model":"other"})", 404).find("not found"), std::string::npos);
  error("/api/chat", "{}", 400);
  error("/api/none", "{}", 404);
  const std::string base = R"({"model":"fake","messages":[{"role":"user","content":"Hi"}],)";
  for (const char* field :
       {R"("tools":[{}])", R"("format":"json")", R"("format":{"type":"object"})", R"("think":true)",
        R"("options":{"num_ctx":4096})", R"("options":{"mirostat":1})", R"("options":{"top_p":0})",
        R"("options":{"temperature":-1})", R"("options":{"num_predict":0})", R"("options":5)",
        R"("options":{"stop":5})", R"("keep_alive":[])", R"("stream":1)"})
    error("/api/chat", base + field + "}", 400);
  EXPECT_EQ(fake.reply(post("/api/chat", base + R"("tools":[],"format":"","think":false})")).status,
            200);
}

TEST(Ollama, Describes) {
  FakeServer fake;
  EXPECT_EQ(fake.reply(get("/")).body, "hob is running");
  EXPECT_EQ(json::parse(fake.reply(get("/api/version")).body)["version"], "0.1.0");
  const json tags = json::parse(fake.reply(get("/api/tags")).body);
  EXPECT_EQ(tags["models"][0]["name"], "fake");
  EXPECT_EQ(tags["models"][0]["details"]["parameter_size"], "6.9B");
  EXPECT_EQ(json::parse(fake.reply(get("/api/ps")).body)["models"][0]["context_length"], 512);
  const json show = json::parse(fake.reply(post("/api/show", R"({"model":"fake"})")).body);
  EXPECT_EQ(show["model_info"]["general.architecture"], "olmoe");
  EXPECT_EQ(fake.reply(post("/api/show", R"({"model":"none"})")).status, 404);
  for (const char* name :
       {R"({"name":"fake"})", R"({"model":"fake","name":""})", R"({"model":"","name":"fake"})"})
    EXPECT_EQ(fake.reply(post("/api/show", name)).status, 200) << name;
  EXPECT_EQ(fake.reply(post("/api/show", R"({"model":""})")).status, 400);
  EXPECT_EQ(fake.reply(post("/api/show", R"({"model":"fake","name":{}})")).status, 400);
}

}  // namespace
}  // namespace hob
