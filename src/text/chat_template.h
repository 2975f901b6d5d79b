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

enum class SystemPlace {
  kOwnTurn,
  kFirstUser,  // in front of the first user message's content
  kLastUser,
};

// A format with what the file's own template says about it. Texts of the markup may hold kBosMark
// and kEosMark, which stand for the tokenizer's tokens.
struct ChatTemplate {
  static constexpr std::string_view kBosMark = "{{bos}}";
  static constexpr std::string_view kEosMark = "{{eos}}";

  ChatFormat format = ChatFormat::kChatMl;
  std::string system_prefix, system_suffix;
  std::string user_prefix, user_suffix;
  std::string assistant_prefix, assistant_suffix;
  std::string generation_prompt;  // opens the answer
  std::string turn_separator;     // between an answer and the next user message
  SystemPlace system_place = SystemPlace::kOwnTurn;
  bool must_alternate = false;  // user, assistant, user, ...; the system message only first
  bool trims_content = false;
  bool drops_reasoning = false;               // earlier answers keep only what follows "</think>"
  bool begins_with_bos = false;               // whatever the tokenizer does by default
  std::optional<std::string> default_system;  // used when the conversation has no system message
};

// nullopt when the template is none that hob knows.
std::optional<ChatTemplate> detect_chat_template(std::string_view jinja_template);
std::optional<ChatFormat> detect_chat_format(std::string_view jinja_template);
std::string_view chat_format_name(ChatFormat format);
// The format as its first publisher uses it, for files without a template.
ChatTemplate standard_chat_template(ChatFormat format);

// Token ids of the conversation, ending where the assistant's answer begins. Markup is tokenised
// with control tokens, user content without (a user cannot inject a control token). Exactly one BOS
// where tokenizer or template want one. Throws on roles that the format cannot express.
std::vector<TokenId> render_chat(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                 const std::vector<ChatMessage>& messages);
// With standard_chat_template(format).
std::vector<TokenId> render_chat(ChatFormat format, const Tokenizer& tokenizer,
                                 const std::vector<ChatMessage>& messages);

}  // namespace hob
