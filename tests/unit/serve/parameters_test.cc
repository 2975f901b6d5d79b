// Every parameter of the OpenAI endpoints: what reaches the engine, and what is refused. Ref:
// research notes, serving §5.2 items 25, 30, 34, 35.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "unit/serve/fake_service_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT
using nlohmann::json;

class Parameters : public ::testing::Test {
 protected:
  json body_of(const HttpReply& reply) { return json::parse(reply.body); }
  // The completion endpoint with one more field.
  HttpReply with(const std::string& fields) {
    return fake.reply(post("/v1/completions", R"({"prompt":"ab",)" + fields + "}"));
  }
  HttpReply chat_with(const std::string& fields) {
    return fake.reply(post("/v1/chat/completions",
                           R"({"messages":[{"role":"user","content":"Hi"}],)" + fields + "}"));
  }
  CompletionRequest sent(const std::string& fields) {
    const HttpReply reply = with(fields);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return fake.service.requests().empty() ? CompletionRequest{} : fake.service.requests().back();
  }
  void refused(const HttpReply& reply, const std::string& param) {
    EXPECT_EQ(reply.status, 400) << param << ": " << reply.body;
    const json error = body_of(reply)["error"];
    EXPECT_EQ(error["param"], param) << reply.body;
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_NE(error["message"].get<std::string>().find(param), std::string::npos);
  }
  void both_refuse(const std::string& fields, const std::string& param) {
    refused(with(fields), param);
    refused(chat_with(fields), param);
  }

  FakeServer fake;
};

TEST_F(Parameters, DefaultsAreOpenAis) {
  const CompletionRequest r = sent(R"("model":"fake")");
  EXPECT_EQ(r.max_tok, 16);
  EXPECT_EQ(r.n, 1);
  EXPECT_EQ(r.sampling.temperature, 1.f);
  EXPECT_EQ(r.sampling.top_p, 1.f);
  EXPECT_EQ(r.sampling.top_k, 0);
  EXPECT_EQ(r.sampling.min_p, 0.f);
  EXPECT_EQ(r.n_logprobs, -1);
  EXPECT_EQ(r.prompt, (std::vector<int32_t>{ByteTokenizer::kBos, 'a', 'b'}));
}

TEST_F(Parameters, ReachTheEngine) {
  const CompletionRequest r = sent(
      R"("max_tokens":7,"min_tokens":2,"n":3,"temperature":0.25,"top_p":0.5,"top_k":9,"min_p":0.125,)"
      R"("presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"seed":-5,)"
      R"("stop":["x","yz"],"stop_token_ids":[5,6],"ignore_eos":true,"logit_bias":{"65":-100,"66":2.5},)"
      R"("logprobs":4,"skip_special_tokens":false,"include_stop_str_in_output":true,"priority":-2,)"
      R"("cache_salt":"s","user":"ignored","unknown_field":[1])");
  EXPECT_EQ(r.max_tok, 7);
  EXPECT_EQ(r.min_tok, 2);
  EXPECT_EQ(r.n, 3);
  EXPECT_EQ(r.sampling.temperature, 0.25f);
  EXPECT_EQ(r.sampling.top_p, 0.5f);
  EXPECT_EQ(r.sampling.top_k, 9);
  EXPECT_EQ(r.sampling.min_p, 0.125f);
  EXPECT_EQ(r.sampling.presence_penalty, 1.f);
  EXPECT_EQ(r.sampling.frequency_penalty, -1.f);
  EXPECT_EQ(r.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(r.sampling.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(r.stop, (std::vector<std::string>{"x", "yz"}));
  EXPECT_EQ(r.stop_token_ids, (std::vector<int32_t>{5, 6}));
  EXPECT_TRUE(r.ignore_eos);
  EXPECT_EQ(r.logit_bias, (std::vector<std::pair<int32_t, float>>{{65, -100.f}, {66, 2.5f}}));
  EXPECT_EQ(r.n_logprobs, 4);
  EXPECT_FALSE(r.skip_special_tokens);
  EXPECT_TRUE(r.include_stop);
  EXPECT_EQ(r.priority, -2);
  EXPECT_EQ(r.cache_salt, "s");
}

TEST_F(Parameters, NullMeansAbsent) {
  const CompletionRequest r = sent(
      R"("max_tokens":null,"temperature":null,"stop":null,"logit_bias":null,"n":null,"seed":null)");
  EXPECT_EQ(r.max_tok, 16);
  EXPECT_EQ(r.sampling.temperature, 1.f);
}

TEST_F(Parameters, SeedsDifferWhenNoneIsGiven) {
  EXPECT_NE(sent(R"("n":1)").sampling.seed, sent(R"("n":1)").sampling.seed);
}

TEST_F(Parameters, Item30n) {
  for (const char* n : {"0", "-1", "129", "16385", "4294967297", "1.5", "\"2\"", "true"})
    both_refuse(std::string(R"("n":)") + n, "n");
  refused(with(R"("best_of":3)"), "best_of");
  EXPECT_EQ(with(R"("best_of":2,"n":2)").status, 200);
}

TEST_F(Parameters, Item30maxTokens) {
  for (const char* n : {"-1", "0", "2147483648", "99999999999999999999", "1.5", "\"7\""}) {
    refused(with(std::string(R"("max_tokens":)") + n), "max_tokens");
    refused(chat_with(std::string(R"("max_tokens":)") + n), "max_tokens");
    refused(chat_with(std::string(R"("max_completion_tokens":)") + n), "max_completion_tokens");
  }
}

TEST_F(Parameters, Item30maxTokensBeyondTheContextNamesTheNumbers) {
  const HttpReply reply = with(R"("max_tokens":510)");
  EXPECT_EQ(reply.status, 400);
  const json error = body_of(reply)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  const auto message = error["message"].get<std::string>();
  for (const char* number : {"3 tokens", "510", "513", "512"})
    EXPECT_NE(message.find(number), std::string::npos) << message;
  EXPECT_EQ(with(R"("max_tokens":509)").status, 200);
}

TEST_F(Parameters, Item34promptThatCanNeverFit) {
  const std::string prompt(512, 'x');
  const HttpReply reply =
      fake.reply(post("/v1/completions", R"({"prompt":")" + prompt + R"(","max_tokens":1})"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(body_of(reply)["error"]["code"], "context_length_exceeded");
  EXPECT_NE(reply.body.find("513"), std::string::npos);
  EXPECT_TRUE(fake.service.requests().empty());
}

TEST_F(Parameters, ChatFillsTheContextByDefault) {
  EXPECT_EQ(chat_with(R"("n":1)").status, 200);
  const CompletionRequest r = fake.service.requests().back();
  EXPECT_EQ(r.max_tok + static_cast<int>(r.prompt.size()), 512);
}

TEST_F(Parameters, Item30temperature) {
  for (const char* t : {"-1", "-0.01", "1e30", "101", "\"1\"", "[]"})
    both_refuse(std::string(R"("temperature":)") + t, "temperature");
  for (const char* t : {"NaN", "Infinity", "1e400"})
    EXPECT_EQ(with(std::string(R"("temperature":)") + t).status, 400) << t;
  EXPECT_EQ(with(R"("temperature":0)").status, 200);
}

TEST_F(Parameters, Item30topP) {
  for (const char* p : {"0", "-0.5", "2", "1.0001"})
    both_refuse(std::string(R"("top_p":)") + p, "top_p");
  // Above 0 for a double, but not for a float.
  const SamplingParams s = sent(R"("top_p":5e-324)").sampling;
  EXPECT_GT(s.top_p, 0);
  EXPECT_NO_THROW(s.check());
}

TEST_F(Parameters, Item30topK) {
  for (const char* k : {"-5", "2147483648", "1.5"})
    both_refuse(std::string(R"("top_k":)") + k, "top_k");
  EXPECT_EQ(sent(R"("top_k":-1)").sampling.top_k, 0);
}

TEST_F(Parameters, Item30logprobs) {
  for (const char* k : {"-2", "-1", "21", "1000000", "true"})
    refused(with(std::string(R"("logprobs":)") + k), "logprobs");
  for (const char* k : {"-2", "21", "1000000"})
    refused(chat_with(std::string(R"("logprobs":true,"top_logprobs":)") + k), "top_logprobs");
  refused(chat_with(R"("logprobs":1)"), "logprobs");
  refused(chat_with(R"("top_logprobs":2)"), "top_logprobs");
}

TEST_F(Parameters, Item30penalties) {
  for (const char* name : {"presence_penalty", "frequency_penalty"})
    for (const char* p : {"-2.1", "2.1", "1e30", "\"0\""})
      both_refuse("\"" + std::string(name) + "\":" + p, name);
  for (const char* p : {"0", "-1", "1e9", "1e-150"})  // a logit divided by the last is no number
    both_refuse(std::string(R"("repetition_penalty":)") + p, "repetition_penalty");
}

TEST_F(Parameters, Item30minTokensAboveMaxTokens) {
  refused(with(R"("min_tokens":8,"max_tokens":7)"), "min_tokens");
  refused(with(R"("min_tokens":-1)"), "min_tokens");
}

TEST_F(Parameters, Item30stopTokenIdsOutOfRange) {
  for (const char* ids : {"[260]", "[-1]", "[1e3]", "[\"5\"]", "5", "[4294967296]"})
    both_refuse(std::string(R"("stop_token_ids":)") + ids, "stop_token_ids");
}

TEST_F(Parameters, Item30logitBias) {
  for (const char* bias :
       {R"({"260":1})", R"({"-1":1})", R"({"x":1})", R"({"":1})", R"({"99999999999999999999":1})"})
    both_refuse(std::string(R"("logit_bias":)") + bias, "logit_bias");
  both_refuse(R"("logit_bias":{"5":101})", "logit_bias.5");
  both_refuse(R"("logit_bias":{"5":"x"})", "logit_bias.5");
  EXPECT_EQ(with(R"("logit_bias":[1])").status, 400);
}

TEST_F(Parameters, Item30stopStrings) {
  for (const char* stop : {R"("")", R"([""])", "5", R"(["a",5])", R"({"a":1})"})
    both_refuse(std::string(R"("stop":)") + stop, "stop");
  std::string many = "[\"a\"";
  for (int i = 0; i < 64; i++) many += ",\"a\"";
  both_refuse("\"stop\":" + many + "]", "stop");
  both_refuse(R"("stop":")" + std::string(1025, 'x') + "\"", "stop");
}

TEST_F(Parameters, Item30seed) {
  for (const char* seed : {"1.5", "\"1\"", "9223372036854775808", "1e400"})
    EXPECT_EQ(with(std::string(R"("seed":)") + seed).status, 400) << seed;
  EXPECT_EQ(sent(R"("seed":9223372036854775807)").sampling.seed, 9223372036854775807u);
}

TEST_F(Parameters, WhatWouldChangeTheAnswerIsRefused) {
  for (const char* field :
       {R"("tools":[{"type":"function"}])", R"("functions":[{}])", R"("guided_json":{"a":1})",
        R"("structured_outputs":{"regex":"a"})", R"("use_beam_search":true)",
        R"("allowed_token_ids":[1])", R"("bad_words":["x"])", R"("truncate_prompt_tokens":5)"}) {
    const HttpReply reply = chat_with(field);
    EXPECT_EQ(reply.status, 400) << field;
    EXPECT_EQ(body_of(reply)["error"]["code"], "unsupported_parameter") << field;
  }
  both_refuse(R"("response_format":{"type":"json_schema","json_schema":{}})",
              "response_format.type");
  both_refuse(R"("response_format":{"type":"json_object"})", "response_format.type");
  both_refuse(R"("response_format":{"type":"html"})", "response_format.type");
  refused(with(R"("suffix":"x")"), "suffix");
  refused(chat_with(R"("tool_choice":"required")"), "tool_choice");
  refused(chat_with(R"("chat_template":"x")"), "chat_template");
  refused(chat_with(R"("continue_final_message":true)"), "continue_final_message");
  refused(chat_with(R"("add_generation_prompt":false)"), "add_generation_prompt");
  refused(chat_with(R"("modalities":["audio"])"), "modalities");
}

TEST_F(Parameters, WhatChangesNothingPasses) {
  EXPECT_EQ(chat_with(R"("tools":[],"tool_choice":"none","response_format":{"type":"text"},)"
                      R"("parallel_tool_calls":true,"user":"u","store":false,"metadata":{"a":"b"},)"
                      R"("modalities":["text"],"suffix":"")")
                .status,
            200);
  EXPECT_EQ(with(R"("suffix":null)").status, 200);
}

TEST_F(Parameters, StreamOptionsNeedAStream) {
  refused(chat_with(R"("stream_options":{"include_usage":true})"), "stream_options");
  both_refuse(R"("stream":"yes")", "stream");
  both_refuse(R"("stream":true,"prompt_logprobs":1)", "prompt_logprobs");
}

TEST_F(Parameters, PromptForms) {
  const auto ask = [&](const std::string& prompt) {
    return fake.reply(post("/v1/completions", R"({"max_tokens":1,"prompt":)" + prompt + "}"));
  };
  EXPECT_EQ(ask("[65,66]").status, 200);
  EXPECT_EQ(fake.service.requests().back().prompt, (std::vector<int32_t>{65, 66}));
  EXPECT_EQ(body_of(ask(R"(["a","b"])"))["choices"].size(), 2u);
  EXPECT_EQ(body_of(ask("[[65],[66,67]]"))["choices"].size(), 2u);
  for (const char* bad : {"null", "5", "{}", "[]", "[[]]", "[true]", "[\"a\",5]", "[65,\"a\"]",
                          "[260]", "[-1]", "[[1],[260]]", "[[[1]]]"})
    EXPECT_EQ(ask(bad).status, 400) << bad;
  EXPECT_EQ(ask("[65,1.5]").status, 400);
  // An empty text still has its BOS.
  EXPECT_EQ(ask("\"\"").status, 200);
  EXPECT_EQ(fake.service.requests().back().prompt, (std::vector<int32_t>{ByteTokenizer::kBos}));
}

TEST_F(Parameters, MorePromptsThanTheQueueHoldsAreRefusedWithTheNumber) {
  std::string prompts = "[\"a\"";
  for (int i = 0; i < 8; i++) prompts += ",\"a\"";
  const HttpReply reply = fake.reply(post("/v1/completions", R"({"prompt":)" + prompts + "]}"));
  refused(reply, "prompt");
  EXPECT_NE(reply.body.find("at most 8 prompts"), std::string::npos);
}

TEST_F(Parameters, Item25malformedMessages) {
  const auto ask = [&](const std::string& messages) {
    return fake.reply(post("/v1/chat/completions", R"({"messages":)" + messages + "}")).status;
  };
  for (const char* bad :
       {"null",
        "[]",
        "{}",
        "\"Hi\"",
        "[5]",
        "[null]",
        "[{}]",
        R"([{"role":"user"}])",
        R"([{"role":"user","content":null}])",
        R"([{"role":"user","content":5}])",
        R"([{"role":"user","content":{"type":"text"}}])",
        R"([{"role":"king","content":"x"}])",
        R"([{"content":"x"}])",
        R"([{"role":5,"content":"x"}])",
        R"([{"role":"tool","content":"x","tool_call_id":"1"}])",
        R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}])",
        R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])",
        R"([{"role":"user","content":[{"type":"input_audio"}]}])",
        R"([{"role":"user","content":[{"type":"text"}]}])",
        R"([{"role":"user","content":["x"]}])"})
    EXPECT_EQ(ask(bad), 400) << bad;
  EXPECT_EQ(ask(R"([{"role":"developer","content":"d"},{"role":"user","content":)"
                R"([{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"n"}])"),
            200);
}

TEST_F(Parameters, Item25tenThousandMessages) {
  std::string messages = "[";
  for (int i = 0; i < 10'000; i++) messages += R"({"role":"user","content":"x"},)";
  messages.back() = ']';
  const HttpReply reply =
      fake.reply(post("/v1/chat/completions", R"({"messages":)" + messages + "}"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(body_of(reply)["error"]["code"], "context_length_exceeded");
}

TEST_F(Parameters, Item22controlTokensOfUsersAreText) {
  EXPECT_EQ(fake.reply(post("/v1/chat/completions",
                            R"({"messages":[{"role":"user","content":"<|im_end|>"}]})"))
                .status,
            200);
  const std::vector<int32_t> prompt = fake.service.requests().back().prompt;
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), ByteTokenizer::kEnd), 1);  // the template's
}

TEST_F(Parameters, UnknownModelIsNotFound) {
  const HttpReply reply = with(R"("model":"gpt-4o")");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(body_of(reply)["error"]["code"], "model_not_found");
  EXPECT_EQ(with(R"("model":"gpt-fake")").status, 200);
  EXPECT_EQ(with(R"("model":"fake:latest")").status, 200);
}

TEST_F(Parameters, Item35queueFull) {
  fake.service.refuse_next({Refusal::kQueueFull, "512 requests wait", 2.3});
  const HttpReply reply = with(R"("n":1)");
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(*find_header(reply.headers, "Retry-After"), "3");
  EXPECT_EQ(body_of(reply)["error"]["type"], "rate_limit_error");
}

TEST_F(Parameters, RefusalInTheMiddleOfAListCancelsTheRest) {
  fake.service.refuse_next({Refusal::kQueueFull, "full", 1});
  EXPECT_EQ(fake.reply(post("/v1/completions", R"({"prompt":["a","b"]})")).status, 429);
}

TEST_F(Parameters, DrainingIsUnavailable) {
  fake.service.drain();
  const HttpReply reply = with(R"("n":1)");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(body_of(reply)["error"]["code"], "shutting_down");
  EXPECT_NE(find_header(reply.headers, "Retry-After"), nullptr);
}

}  // namespace
}  // namespace hob
