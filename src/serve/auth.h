#pragma once
// API keys from a file.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http_types.h"

namespace hob {

class ApiKeys {
 public:
  ApiKeys() = default;
  // One key per line; empty lines and lines that begin with '#' do not count. Throws Error when the
  // file cannot be read, holds no key, or a key has spaces or other bytes that no header can carry.
  static ApiKeys from_file(const std::string& path);
  static ApiKeys from_text(std::string_view text, const std::string& where);

  bool empty() const { return digests_.empty(); }
  size_t size() const { return digests_.size(); }

  // The tenant of the key in "Authorization: Bearer KEY" or "X-API-Key: KEY"; throws ApiError(401)
  // when there is none or it is wrong. Compares digests of equal length without an early end, so
  // that the time says nothing about the keys.
  std::string tenant_of(const HeaderList& headers) const;

 private:
  using Digest = std::array<uint8_t, 32>;  // SHA-256
  std::vector<Digest> digests_;
};

}  // namespace hob
