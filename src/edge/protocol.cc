#include "edge/protocol.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace hob::edge {
namespace {

template <class... Args>
void expect(bool ok, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) fail(Code::kInvalidArgument, format, std::forward<Args>(args)...);
}

int32_t id_from(uint32_t id, const char* field, const ProtocolLimits& limits) {
  expect(id < static_cast<uint32_t>(limits.n_vocab), "[edge] {}: expected ids below {}, got {}",
         field, limits.n_vocab, id);
  return static_cast<int32_t>(id);
}

// Fields that a request has as int.
int int_from(uint32_t value, const char* field) {
  constexpr uint32_t kMost = 1 << 30;
  expect(value <= kMost, "[edge] {}: expected at most {}, got {}", field, kMost, value);
  return static_cast<int>(value);
}

SamplingParams sampling_from(const pb::Sampling& s) {
  SamplingParams p;
  p.temperature = s.temperature();
  p.top_k = int_from(s.top_k(), "sampling.top_k");
  p.top_p = s.top_p();
  p.min_p = s.min_p();
  p.repetition_penalty = s.repetition_penalty();
  p.presence_penalty = s.presence_penalty();
  p.frequency_penalty = s.frequency_penalty();
  p.penalty_window = int_from(s.penalty_window(), "sampling.penalty_window");
  p.seed = s.seed();
  p.check();
  switch (s.rule()) {
    case pb::GREEDY_MATCH:
      expect(p.temperature == 0, "[edge] sampling.rule: GREEDY_MATCH expects temperature 0, got {}",
             p.temperature);
      break;
    case pb::SAMPLE_MATCH:
    case pb::GUMBEL_COUPLED:
      break;
    default:
      fail(Code::kInvalidArgument,
           "[edge] sampling.rule: expected GREEDY_MATCH, SAMPLE_MATCH or GUMBEL_COUPLED, got {}",
           static_cast<int>(s.rule()));
  }
  return p;
}

void check_sizes(const pb::Open& open, const ProtocolLimits& limits) {
  const auto most = static_cast<size_t>(limits.max_name_bytes);
  expect(open.request_id().size() == 16, "[edge] request_id: expected 16 bytes, got {}",
         open.request_id().size());
  expect(open.model().size() <= most && open.cache_salt().size() <= most,
         "[edge] model, cache_salt: expected at most {} bytes each", most);
  expect(open.stop_ids_size() <= limits.max_stop_ids,
         "[edge] stop_ids: expected at most {}, got {}", limits.max_stop_ids, open.stop_ids_size());
  expect(open.sampling().logit_bias_size() <= limits.max_biases,
         "[edge] sampling.logit_bias: expected at most {} entries, got {}", limits.max_biases,
         open.sampling().logit_bias_size());
  expect(open.features() == 0, "[edge] features: expected none that this server lacks, got {:#x}",
         open.features());
  expect(open.mode() == pb::TREE || open.mode() == pb::SERVER_STREAM,
         "[edge] mode: expected TREE or SERVER_STREAM, got {}", static_cast<int>(open.mode()));
}

}  // namespace

FaultCode fault_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return FaultCode::kInvalidArgument;
    case Code::kNotFound:
      return FaultCode::kNotFound;
    case Code::kUnimplemented:
      return FaultCode::kUnimplemented;
    case Code::kDataLoss:
      return FaultCode::kDataLoss;
    case Code::kResourceExhausted:
      return FaultCode::kResourceExhausted;
    case Code::kCancelled:
      return FaultCode::kCancelled;
    case Code::kIo:
    case Code::kInternal:
      break;
  }
  return FaultCode::kInternal;
}

size_t max_frame_bytes(const ProtocolLimits& limits) {
  constexpr size_t kIdBytes = 5, kBiasBytes = 16, kRest = 16 << 10;
  return kRest + kIdBytes * 2 * static_cast<size_t>(limits.max_context) +
         kBiasBytes * static_cast<size_t>(limits.max_biases);
}

std::vector<int32_t> ids_from(const google::protobuf::RepeatedField<uint32_t>& ids,
                              const char* field, const ProtocolLimits& limits) {
  expect(ids.size() <= limits.max_context, "[edge] {}: expected at most {} ids, got {}", field,
         limits.max_context, ids.size());
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(ids.size()));
  for (const uint32_t id : ids) out.push_back(id_from(id, field, limits));
  return out;
}

DraftTree tree_from(const pb::Tree& message, const ProtocolLimits& limits) {
  const int n = message.token_size();
  expect(n <= limits.max_nodes, "[edge] tree: expected at most {} nodes, got {}", limits.max_nodes,
         n);
  expect(message.parent_size() == n, "[edge] tree: expected a parent for each of {} nodes, got {}",
         n, message.parent_size());
  DraftTree tree;
  for (int i = 0; i < n; i++) {
    // In order, so a cycle cannot be said at all.
    expect(message.parent(i) <= static_cast<uint32_t>(i),
           "[edge] tree: expected the parent of node {} in 0..{}, got {}", i + 1, i,
           message.parent(i));
    tree.add(id_from(message.token(i), "tree.token", limits),
             static_cast<int32_t>(message.parent(i)) - 1);
  }
  return tree;
}

void to_message(const DraftTree& tree, pb::Tree& out) {
  for (int i = 0; i < tree.size(); i++) {
    out.add_token(static_cast<uint32_t>(tree.tokens[static_cast<size_t>(i)]));
    out.add_parent(static_cast<uint32_t>(tree.parents[static_cast<size_t>(i)] + 1));
  }
}

CompletionRequest request_from(const pb::Open& open, std::span<const int32_t> tail,
                               const ProtocolLimits& limits) {
  check_sizes(open, limits);
  CompletionRequest r;
  r.prompt = ids_from(open.prompt(), "prompt", limits);
  expect(!r.prompt.empty(), "[edge] prompt: expected at least one id, got none");
  const auto n_tail = static_cast<int>(tail.size());
  r.prompt.insert(r.prompt.end(), tail.begin(), tail.end());
  r.sampling = sampling_from(open.sampling());
  r.first_choice = open.sampling().choice();
  for (const pb::Bias& b : open.sampling().logit_bias()) {
    expect(!std::isnan(b.bias()), "[edge] sampling.logit_bias: expected a number for id {}",
           b.id());
    r.logit_bias.emplace_back(id_from(b.id(), "sampling.logit_bias", limits), b.bias());
  }
  r.stop_token_ids = ids_from(open.stop_ids(), "stop_ids", limits);
  r.ignore_eos = open.ignore_eos();
  r.min_tok = std::max(0, int_from(open.min_new_tokens(), "min_new_tokens") - n_tail);
  r.max_tok = -1;
  if (open.max_new_tokens() > 0) {
    r.max_tok = int_from(open.max_new_tokens(), "max_new_tokens");
    expect(r.max_tok >= n_tail, "[edge] tail: expected at most max_new_tokens = {} ids, got {}",
           r.max_tok, n_tail);
    r.max_tok -= n_tail;
  }
  if (open.deadline_ms() > 0)
    r.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(open.deadline_ms());
  r.cache_salt = open.cache_salt();
  r.client_drafts = true;
  return r;
}

pb::Open open_from(const CompletionRequest& r, uint32_t choice) {
  pb::Open open;
  open.set_minor(kMinor);
  pb::Sampling& s = *open.mutable_sampling();
  s.set_temperature(r.sampling.temperature);
  s.set_top_k(static_cast<uint32_t>(r.sampling.top_k));
  s.set_top_p(r.sampling.top_p);
  s.set_min_p(r.sampling.min_p);
  s.set_repetition_penalty(r.sampling.repetition_penalty);
  s.set_presence_penalty(r.sampling.presence_penalty);
  s.set_frequency_penalty(r.sampling.frequency_penalty);
  s.set_penalty_window(static_cast<uint32_t>(r.sampling.penalty_window));
  s.set_seed(r.sampling.seed);
  s.set_rule(r.sampling.temperature == 0 ? pb::GREEDY_MATCH : pb::GUMBEL_COUPLED);
  s.set_choice(choice);
  for (const auto& [token, bias] : r.logit_bias) {
    pb::Bias& b = *s.add_logit_bias();
    b.set_id(static_cast<uint32_t>(token));
    b.set_bias(bias);
  }
  for (const int32_t id : r.prompt) open.add_prompt(static_cast<uint32_t>(id));
  for (const int32_t id : r.stop_token_ids) open.add_stop_ids(static_cast<uint32_t>(id));
  if (r.max_tok > 0) open.set_max_new_tokens(static_cast<uint32_t>(r.max_tok));
  open.set_min_new_tokens(static_cast<uint32_t>(r.min_tok));
  open.set_ignore_eos(r.ignore_eos);
  open.set_cache_salt(r.cache_salt);
  open.set_mode(pb::TREE);
  return open;
}

std::vector<int32_t> follow(const DraftTree& tree, std::span<const int32_t> tokens) {
  std::vector<int32_t> path;
  int32_t at = DraftTree::kRoot;
  for (const int32_t token : tokens) {
    at = tree.child(at, token);
    if (at == DraftTree::kRoot) break;
    path.push_back(at);
  }
  return path;
}

}  // namespace hob::edge
