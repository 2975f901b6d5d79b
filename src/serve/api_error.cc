#include "serve/api_error.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace hob {
namespace {

using nlohmann::ordered_json;

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

int status_of(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kUnimplemented:
      return 400;
    case Code::kNotFound:
      return 404;
    case Code::kCancelled:
    case Code::kResourceExhausted:
      return 503;
    default:
      return 500;
  }
}

}  // namespace

std::string error_json(const ApiError& error, ErrorShape shape) {
  const std::string message = error.what();
  ordered_json object;
  if (shape == ErrorShape::kOllama) {
    object = {{"error", message}};
  } else {
    object = {{"error",
               {{"message", message},
                {"type", type_of(error.status)},
                {"param", or_null(error.param)},
                {"code", or_null(error.code)}}}};
  }
  // Messages may quote what the client sent.
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

HttpReply error_reply(const ApiError& error, ErrorShape shape) {
  HttpReply reply;
  reply.status = error.status;
  reply.body = error_json(error, shape);
  if (error.retry_after_s)
    reply.headers.emplace_back("Retry-After", std::to_string(*error.retry_after_s));
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

ApiError as_api_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ApiError& e) {
    return e;
  } catch (const Error& e) {
    return ApiError(status_of(e.code()), e.what());
  } catch (const std::bad_alloc&) {
    ApiError full(503, "[memory] expected more memory for this request, the system has none");
    full.retry_after_s = 1;
    return full;
  } catch (const std::exception& e) {
    return ApiError(500, e.what());
  } catch (...) {
    return ApiError(500, "[serve] expected an exception, got something else");
  }
}

}  // namespace hob
