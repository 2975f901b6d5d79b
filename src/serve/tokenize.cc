// POST /tokenize, /detokenize, GET /tokenizer_info: vLLM's shapes.
#include "serve/handlers.h"
#include "serve/logprobs_json.h"

namespace hob {
namespace {

std::vector<TokenId> tokens_of(const JsonFields& body, const LoadedModel& model) {
  const auto prompt = body.string("prompt");
  const bool add_special = body.flag("add_special_tokens", true);
  if (body.has("messages")) {
    if (!body.flag("add_generation_prompt", true)) body.not_supported("add_generation_prompt");
    return chat_prompt(model, chat_messages(body, "messages"));
  }
  if (!prompt) body.refuse("prompt", "a string (or messages)");
  return model.tokenizer->encode(*prompt, {.add_special = add_special, .parse_special = true});
}

}  // namespace

Answer tokenize(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_model_name(body, *model);
  const bool with_strings = body.flag("return_token_strs");
  const std::vector<TokenId> tokens = tokens_of(body, *model);
  OrderedJson out = {{"count", tokens.size()},
                     {"max_model_len", model->service->max_model_len()},
                     {"tokens", tokens},
                     {"token_strs", nullptr}};
  if (with_strings) {
    out["token_strs"] = OrderedJson::array();
    for (TokenId id : tokens) out["token_strs"].push_back(token_name(*model->tokenizer, id));
  }
  return json_reply(out);
}

Answer detokenize(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_model_name(body, *model);
  const auto tokens = body.tokens("tokens", model->tokenizer->n_vocab());
  if (!tokens) body.refuse("tokens", "a list of token ids");
  return json_reply({{"prompt", model->tokenizer->decode(*tokens, true)}});
}

// What clients without a tokenizer of their own ask, e.g. lm-eval with tokenizer_backend=remote.
Answer tokenizer_info(const ServeContext& context, const HttpRequest&) {
  const ModelPtr model = context.require_model();
  const Tokenizer& t = *model->tokenizer;
  const auto name = [&](TokenId id) {
    return id < 0 ? OrderedJson(nullptr) : OrderedJson(t.piece(id, true));
  };
  const std::string& chat = model->facts.chat_template;
  return json_reply({{"tokenizer_class", "hob"},
                     {"bos_token", name(t.bos())},
                     {"eos_token", name(t.eos())},
                     {"add_bos_token", t.adds_bos()},
                     {"vocab_size", t.n_vocab()},
                     {"model_max_length", model->service->max_model_len()},
                     {"chat_template", chat.empty() ? OrderedJson(nullptr) : OrderedJson(chat)}});
}

}  // namespace hob
