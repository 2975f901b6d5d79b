#pragma once
// What a client is told when a request fails, in OpenAI's or Ollama's shape.
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include "serve/http_types.h"

namespace hob {

struct ApiError : std::runtime_error {
  ApiError(int http_status, const std::string& message, std::string which_param = "",
           std::string which_code = "")
      : std::runtime_error(message),
        status(http_status),
        param(std::move(which_param)),
        code(std::move(which_code)) {}

  int status;
  std::string param;  // the field at fault; empty = none
  std::string code;   // for programs, e.g. "context_length_exceeded"; empty = none
  std::optional<int> retry_after_s;
};

enum class ErrorShape {
  kOpenAi,  // {"error":{"message","type","param","code"}}
  kOllama,  // {"error":"message"}
};

std::string error_json(const ApiError& error, ErrorShape shape);
HttpReply error_reply(const ApiError& error, ErrorShape shape);

// Any exception as what the client is told: hob::Error by its code, everything else is ours.
ApiError as_api_error(const std::exception_ptr& error);

}  // namespace hob
