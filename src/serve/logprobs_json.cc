#include "serve/logprobs_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/unicode.h"

namespace hob {
namespace {

// JSON has no -inf: OpenAI's stand-in.
constexpr double kImpossible = -9999.0;

double finite(float logprob) { return std::isfinite(logprob) ? logprob : kImpossible; }

OrderedJson chat_entry(const Tokenizer& tokenizer, int32_t token, float logprob, bool as_ids) {
  OrderedJson bytes = OrderedJson::array();
  for (unsigned char c : tokenizer.piece(token, true)) bytes.push_back(static_cast<int>(c));
  return {{"token", token_name(tokenizer, token, as_ids)},
          {"logprob", finite(logprob)},
          {"bytes", std::move(bytes)}};
}

}  // namespace

std::string token_name(const Tokenizer& tokenizer, int32_t token, bool as_id) {
  return as_id ? fmt::format("token_id:{}", token) : tokenizer.piece(token, true);
}

size_t count_chars(std::string_view text) {
  size_t n = 0;
  for (size_t i = 0; i < text.size(); n++)
    i += static_cast<size_t>(std::max(1, utf8_sequence_length(text.substr(i, 4))));
  return n;
}

OrderedJson chat_logprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer,
                          bool as_ids) {
  OrderedJson list = OrderedJson::array();
  for (const TokenLogprob& l : logprobs) {
    OrderedJson entry = chat_entry(tokenizer, l.token, l.logprob, as_ids);
    entry["top_logprobs"] = OrderedJson::array();
    for (const auto& [token, logprob] : l.top)
      entry["top_logprobs"].push_back(chat_entry(tokenizer, token, logprob, as_ids));
    list.push_back(std::move(entry));
  }
  return list;
}

OrderedJson text_logprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer,
                          size_t& n_chars, bool as_ids) {
  OrderedJson out = {{"text_offset", OrderedJson::array()},
                     {"token_logprobs", OrderedJson::array()},
                     {"tokens", OrderedJson::array()},
                     {"top_logprobs", OrderedJson::array()}};
  for (const TokenLogprob& l : logprobs) {
    const std::string name = token_name(tokenizer, l.token, as_ids);
    out["text_offset"].push_back(n_chars);
    out["tokens"].push_back(name);
    n_chars += count_chars(as_ids ? tokenizer.piece(l.token, true) : name);
    if (l.rank == 0) {  // the first token of the prompt: nothing comes before it
      out["token_logprobs"].push_back(nullptr);
      out["top_logprobs"].push_back(nullptr);
      continue;
    }
    out["token_logprobs"].push_back(finite(l.logprob));
    OrderedJson top = OrderedJson::object();
    // Different tokens may have the same text: the likelier one counts.
    for (const auto& [token, logprob] : l.top)
      top.emplace(token_name(tokenizer, token, as_ids), finite(logprob));
    top.emplace(name, finite(l.logprob));
    out["top_logprobs"].push_back(std::move(top));
  }
  return out;
}

OrderedJson vllm_prompt_logprobs(const std::vector<TokenLogprob>& logprobs,
                                 const Tokenizer& tokenizer) {
  OrderedJson list = OrderedJson::array();
  for (const TokenLogprob& l : logprobs) {
    if (l.rank == 0) {
      list.push_back(nullptr);
      continue;
    }
    OrderedJson entry = OrderedJson::object();
    const auto add = [&](int32_t token, float logprob, int rank) {
      entry.emplace(std::to_string(token),
                    OrderedJson{{"logprob", finite(logprob)},
                                {"rank", rank},
                                {"decoded_token", tokenizer.piece(token, true)}});
    };
    add(l.token, l.logprob, l.rank);
    for (size_t i = 0; i < l.top.size(); i++)
      add(l.top[i].first, l.top[i].second, static_cast<int>(i) + 1);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace hob
