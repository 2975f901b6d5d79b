#pragma once
// Server-sent events, as OpenAI's clients read them.
#include <string>
#include <string_view>

namespace hob {

inline constexpr std::string_view kSseType = "text/event-stream; charset=utf-8";

// One event. `json` is on one line.
inline std::string sse_data(std::string_view json) { return "data: " + std::string(json) + "\n\n"; }
inline std::string sse_done() { return sse_data("[DONE]"); }
// Readers ignore comments; proxies see that the connection lives.
inline std::string sse_ping() { return ": ping\n\n"; }

}  // namespace hob
