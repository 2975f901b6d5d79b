#pragma once
// edgespec.v1 messages to and from the engine's types. Whatever comes from the other side is
// checked here, field by field, before anything uses it; every function that reads a message throws
// Error(kInvalidArgument) naming the field.
#include <span>
#include <string>

#include "base/error.h"
#include "edgespec.pb.h"
#include "engine/completion.h"
#include "engine/draft_tree.h"

namespace hob::edge {

namespace pb = ::edgespec::v1;

inline constexpr uint32_t kMinor = 0;  // of edgespec.v1

inline constexpr uint64_t kServerDrafts = 1;  // of Capabilities.feature_bits

// gRPC's status codes, as Fault carries them.
enum class FaultCode : uint32_t {
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
};
FaultCode fault_code(Code code);

struct ProtocolLimits {
  int n_vocab = 0;
  int max_context = 0;  // ids, prompt and answer
  int max_nodes = 64;
  int max_branches = 16;
  int max_stop_ids = 256;
  int max_biases = 4096;
  int max_name_bytes = 256;
};

// Nodes of all trees of an optimistic draft.
inline int max_guess_nodes(const ProtocolLimits& limits) { return 4 * limits.max_nodes; }

// A frame that is larger is refused unread: a prompt of the longest context, a whole tail and what
// else an Open holds.
size_t max_frame_bytes(const ProtocolLimits& limits);

DraftTree tree_from(const pb::Tree& tree, const ProtocolLimits& limits);
void to_message(const DraftTree& tree, pb::Tree& out);

// `tail`: ids of the answer that are committed already (Resume).
CompletionRequest request_from(const pb::Open& open, std::span<const int32_t> tail,
                               const ProtocolLimits& limits);
std::vector<int32_t> ids_from(const google::protobuf::RepeatedField<uint32_t>& ids,
                              const char* field, const ProtocolLimits& limits);
// All of the request that travels: not what only makes text of tokens (stop strings).
pb::Open open_from(const CompletionRequest& request, uint32_t choice);

// Grows a frame to a multiple of `unit` bytes, so that its size tells less; 0 = not at all.
template <typename Frame>
void pad_frame(Frame& frame, int unit) {
  if (unit <= 0) return;
  constexpr size_t kFieldBytes = 3;  // tag and length of the field, at most
  const auto n = static_cast<size_t>(unit);
  const size_t size = frame.ByteSizeLong() + kFieldBytes;
  frame.mutable_pad()->assign((size + n - 1) / n * n - size, '\0');
}

// The node that these tokens lead to, each the child of the one before. `path` gets them; fewer
// when the tree ends before.
std::vector<int32_t> follow(const DraftTree& tree, std::span<const int32_t> tokens);

}  // namespace hob::edge
