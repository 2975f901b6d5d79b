#pragma once
// From the engine thread to whoever writes to the client: bounded, never blocks the engine.
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "engine/completion.h"

namespace hob {

struct CompletionEnd {
  CompletionUsage usage;
  std::exception_ptr error;
};

struct CompletionEvent {
  int part = 0;
  int64_t at_ns = 0;  // when the engine said it
  std::variant<std::vector<TokenLogprob>, CompletionDelta, CompletionEnd> what;
};

class CompletionChannel : public std::enable_shared_from_this<CompletionChannel> {
 public:
  // `wake` is called from the engine thread when the channel is no longer empty; it must not block.
  CompletionChannel(size_t max_bytes, std::function<void()> wake);

  // The sink of one part. It keeps the channel alive.
  std::shared_ptr<CompletionSink> sink(int part);

  std::vector<CompletionEvent> take();  // everything so far
  // The reader was too slow: events are lost, the request must end.
  bool overflowed() const;
  void close();  // nobody listens any more: events are dropped, wake is not called again

 private:
  class Sink;
  void push(CompletionEvent event);

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::vector<CompletionEvent> events_;
  size_t n_bytes_ = 0;
  bool overflowed_ = false, closed_ = false;
};

}  // namespace hob
