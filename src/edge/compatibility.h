#pragma once
// Whether an edge's tokenizer is the server's: fingerprints, and probes that say what differs. Only
// token ids travel, so two vocabularies that differ in one entry would quietly give wrong text.
// Ref: research notes, specedge §4.6.
#include <string>
#include <string_view>

#include "edge/protocol.h"
#include "text/tokenizer.h"

namespace hob::edge {

// Fingerprints and probes of both.
pb::TokenizerId identify(const Tokenizer& tokenizer, std::string_view chat_template);

// Throws Error(kInvalidArgument) unless ids mean the same on both sides. The chat template may
// differ: only the edge renders it. An edge that names no fingerprint is taken at its word.
void check_compatible(const pb::TokenizerId& server, const pb::TokenizerId& edge);

}  // namespace hob::edge
