#pragma once
// Chat formats recognised from the file's `tokenizer.chat_template`. A Jinja interpreter comes
// later; until then an unrecognised template is an Error that offers --raw.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace hob {

enum class ChatFormat { kChatMl, kLlama2, kMistral, kLlama3, kGemma, kPhi3, kDeepSeek, kZephyr };

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// nullopt when the template is none that hob knows.
std::optional<ChatFormat> detect_chat_format(std::string_view jinja_template);
std::string_view chat_format_name(ChatFormat format);

// Token ids of the conversation, ending where the assistant's answer begins. Markup is tokenised
// with control tokens, user content without (a user cannot inject a control token). Throws on roles
// that the format cannot express.
std::vector<TokenId> render_chat(ChatFormat format, const Tokenizer& tokenizer,
                                 const std::vector<ChatMessage>& messages);

}  // namespace hob
