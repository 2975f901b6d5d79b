#include "serve/auth.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <fstream>
#include <sstream>

#include "base/error.h"
#include "serve/api_error.h"

namespace hob {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

std::array<uint8_t, 32> digest_of(std::string_view text) {
  std::array<uint8_t, 32> out;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

std::string_view key_in(const HeaderList& headers) {
  constexpr std::string_view kBearer = "bearer ";
  if (const std::string* value = find_header(headers, "Authorization")) {
    std::string_view text = *value;
    if (text.size() < kBearer.size() ||
        !same_ignoring_case(text.substr(0, kBearer.size()), kBearer))
      return {};
    return trimmed(text.substr(kBearer.size()));
  }
  const std::string* key = find_header(headers, "X-API-Key");
  return key ? trimmed(*key) : std::string_view();
}

}  // namespace

ApiKeys ApiKeys::from_text(std::string_view text, const std::string& where) {
  ApiKeys keys;
  int number = 0;
  while (!text.empty()) {
    number++;
    const size_t end = text.find('\n');
    const std::string_view line = trimmed(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
    if (line.empty() || line[0] == '#') continue;
    for (unsigned char c : line)
      if (c <= ' ' || c > '~')
        fail(Code::kInvalidArgument,
             "[auth] {}: line {}: expected a key of visible ASCII characters without spaces", where,
             number);
    keys.digests_.push_back(digest_of(line));
  }
  if (keys.empty())
    fail(Code::kInvalidArgument, "[auth] {}: expected at least one key, the file has none", where);
  return keys;
}

ApiKeys ApiKeys::from_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf()))
    fail(Code::kIo, "[auth] {}: expected a file with keys, it cannot be read", path);
  return from_text(text.str(), path);
}

std::string ApiKeys::tenant_of(const HeaderList& headers) const {
  const std::string_view key = key_in(headers);
  const Digest given = digest_of(key);
  bool found = false;
  for (const Digest& known : digests_) {
    unsigned difference = 0;
    for (size_t i = 0; i < given.size(); i++)
      difference |= static_cast<unsigned>(given[i] ^ known[i]);
    found |= difference == 0;
  }
  if (!found)
    throw ApiError(401,
                   key.empty() ? "expected an API key (Authorization: Bearer KEY), got none"
                               : "expected a valid API key, this one is unknown",
                   "", "invalid_api_key");
  std::string tenant;
  constexpr size_t kTenantBytes = 8;  // enough that two keys never meet
  for (size_t i = 0; i < kTenantBytes; i++) tenant += fmt::format("{:02x}", given[i]);
  return tenant;
}

}  // namespace hob
