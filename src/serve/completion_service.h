#pragma once
// What the HTTP layer needs of an engine. CompletionEngine is one (engine_service.h); tests script
// another.
#include <memory>
#include <optional>
#include <string>

#include "engine/completion.h"
#include "engine/completion_engine.h"

namespace hob {

// All calls from any thread; their meanings are CompletionEngine's.
class CompletionService {
 public:
  virtual ~CompletionService() = default;
  virtual std::optional<Refused> submit(CompletionRequest request,
                                        std::shared_ptr<CompletionSink> sink) = 0;
  virtual void cancel(const std::string& id) = 0;
  // Requests with client_drafts.
  virtual void offer_draft(const std::string& id, DraftOffer offer) = 0;
  virtual void set_self_decoding(const std::string& id, bool on) = 0;
  virtual void drain() = 0;
  virtual bool idle() const = 0;
  virtual ServeStats stats() const = 0;
  virtual int max_model_len() const = 0;
};

}  // namespace hob
