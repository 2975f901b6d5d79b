// A request's body -> what the engine would be asked. The first byte chooses the endpoint.
#include <cstdlib>

#include "unit/serve/fake_service_util.h"

namespace {

constexpr const char* kPaths[] = {
    "/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/api/chat",
    "/api/generate",        "/api/show"};

void require(bool ok) {
  if (!ok) std::abort();
}

void check(const hob::CompletionRequest& r, int max_len) {
  require(!r.prompt.empty() && r.n >= 1 && r.n <= 128 && r.max_tok >= 0);
  require(static_cast<int>(r.prompt.size()) + r.max_tok <= max_len && r.min_tok <= r.max_tok);
  for (int32_t t : r.prompt) require(t >= 0 && t < hob::testing_serve::ByteTokenizer::kVocab);
  for (const auto& [token, bias] : r.logit_bias)
    require(token >= 0 && token < hob::testing_serve::ByteTokenizer::kVocab && bias == bias);
  for (const std::string& stop : r.stop) require(!stop.empty());
  r.sampling.check();  // throws: nothing that passes may be refused later
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static hob::testing_serve::FakeServer& fake = *new hob::testing_serve::FakeServer;
  if (size == 0) return 0;
  const char* path = kPaths[data[0] % std::size(kPaths)];
  const std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const hob::Answer answer = fake.ask(hob::testing_serve::post(path, body));
  if (const auto* job = std::get_if<hob::CompletionJob>(&answer)) {
    for (const hob::CompletionRequest& part : job->parts) check(part, fake.service.max_len);
    require(!job->parts.empty() && job->reply != nullptr);
  } else {
    const int status = std::get<hob::HttpReply>(answer).status;
    require(status == 200 || status == 400 || status == 404);
  }
  return 0;
}
